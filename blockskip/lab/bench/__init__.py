"""Benchmark of memory and speed against other methods."""
