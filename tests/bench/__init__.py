"""Benchmarks: they print, they gate nothing. Run one with ``python -m tests.bench.NAME``."""
