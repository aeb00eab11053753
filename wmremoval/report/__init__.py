"""Results for people to look at: plots, diagrams, tables, the gallery, the upload box, publishing."""
