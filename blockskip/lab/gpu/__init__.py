"""Measurements that need a GPU: `blockskip lab bench --gpu NAME`, one line of gpu.md each.

Everything also runs without a GPU, on tiny models, which only proves that the code works."""
