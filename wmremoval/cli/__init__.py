"""What users run: remove, train, evaluate, download, publish."""
