"""Likeness by the demo judge, DINO and CLIP."""
