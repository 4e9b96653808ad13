"""Real models at full size, on shapes or random weights."""
