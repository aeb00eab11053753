"""Photographs as files: read and write every format and mode with its metadata; knows nothing of watermarks."""
