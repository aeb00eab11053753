"""What people look at: plots, diagrams, tables, the gallery, the upload box, publishing."""
