"""From photographs to training samples: photographs, fonts, logos, marks, the data set, loaders."""
