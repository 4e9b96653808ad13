"""Units of memory, in one place."""

GIB = 2**30  # bytes
