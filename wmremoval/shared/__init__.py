"""One mark on many photographs: measure it on all of them at once, and take it off each."""
