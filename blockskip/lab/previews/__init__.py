"""Quality against speed of preview methods."""
