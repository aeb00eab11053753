"""Folders of photographs: from the paths of a user to the files of every result."""
