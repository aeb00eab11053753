"""Maintainers' tools (`python -m wmremoval.bench`): benchmarks, ablations, speed, averaging and shipping weights."""
