"""Which blocks to skip."""
