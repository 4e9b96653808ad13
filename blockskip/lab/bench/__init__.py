"""Memory and seconds beside rivals."""
