"""Models at full size, as shapes or with random weights."""
