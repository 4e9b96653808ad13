"""Vocabulary of the demo world: names of pets and places, and colours as hexadecimal sRGB.

The lab draws them (lab/demo_world), and the demo judge answers with these names.
"""

from __future__ import annotations

SPECIES = ("cat", "dog", "rabbit", "bear")
PATTERNS = ("solid", "striped", "spotted", "bellied", "patched")
BACKGROUNDS = ("meadow", "beach", "snow", "room", "sofa", "night")
ACCESSORIES = ("none", "collar", "scarf", "hat")

COATS = {
    "white": "f4f0ea",
    "grey": "8f97a6",
    "black": "3a3642",
    "brown": "8a5634",
    "orange": "ee8434",
    "cream": "f6dfb8",
    "golden": "e6b838",
}
VIVID = {
    "violet": "8f5cc8",
    "teal": "2aa3a0",
    "pink": "f48ab0",
    "blue": "4a80dc",
    "green": "5cb85c",
}
FUR = COATS | VIVID
EYES = {
    "green": "4fae4a",
    "blue": "3f8fe0",
    "amber": "e8a020",
    "brown": "7a4420",
}
WEAR = {
    "red": "d8343a",
    "blue": "2f62c8",
    "green": "2e9a4e",
    "yellow": "f4cc30",
    "purple": "8438b0",
    "pink": "f070a8",
}
# captions' phrases for each background
PLACES = {
    "meadow": ("in the meadow", "on the grass", "in a meadow", "in the garden"),
    "beach": ("on the beach", "at the beach", "by the sea", "on a beach"),
    "snow": ("in the snow", "in snow", "in winter", "in a snowy forest"),
    "room": ("in a room", "on a wooden floor", "on the wooden floor", "at home"),
    "sofa": ("on the sofa", "on a sofa", "on the couch", "on a couch"),
    "night": ("at night", "under the moon", "in the night", "in the moonlight"),
}
