"""Quality against seconds of preview methods."""
