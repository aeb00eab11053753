"""Photographs as files: reading and writing every supported format and mode, metadata included."""
