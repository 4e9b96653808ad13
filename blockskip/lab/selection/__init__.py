"""Selection of the blocks to skip."""
