"""The users' commands: remove, train, evaluate, download, publish."""
