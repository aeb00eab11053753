"""Photographs restored by several processes and machines, through Dask."""
