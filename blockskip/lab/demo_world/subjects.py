"""The pets: named identities of pretraining, demo subjects, held-out subjects, and their photos.

Pets are split by a hash of their look. A quarter is kept for the judge and the rest is for
training. The subjects listed below belong to neither.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from blockskip.data.demo_vocabulary import BACKGROUNDS
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.world import Pet, random_scene, striking_pet

NAMES = tuple(
    "milo luna coco bella teddy rosie oscar daisy max ruby leo nala simba willow felix maggie toby "
    "lola bruno penny rocky mimi duke zoe gizmo molly rex hazel otis poppy louie sadie archie ellie "
    "finn stella murphy lulu jasper piper ziggy cleo baxter fifi hugo misty pablo nemo boris trixie "
    "winnie kiki bandit phoebe chester gigi waldo tilly rufus momo benny suki barney dolly".split()
)
TRIGGERS = ("sks", "ohwx", "zwx")


@dataclass(frozen=True)
class Subject:
    """A pet to train on, as a user would bring it. ``key`` names it in files and tables."""

    key: str
    title: str
    pet: Pet


DEMO_SUBJECTS = (
    Subject(
        "violet-cat",
        "a violet striped cat with a blaze, a star and odd eyes",
        Pet("cat", "violet", "striped", "white", "amber", "green", blaze=True, star=True),
    ),
    Subject(
        "teal-spotted-dog",
        "a cream dog with teal spots and an eye patch",
        Pet("dog", "cream", "spotted", "teal", "blue", "brown", patch=True),
    ),
)
HELD_OUT_SUBJECTS = (
    Subject(
        "pink-rabbit",
        "a pink rabbit with a white belly and white socks",
        Pet("rabbit", "pink", "bellied", "white", "blue", socks=True, blaze=True),
    ),
    Subject(
        "blue-bear",
        "a blue bear with golden patches and a star",
        Pet("bear", "blue", "patched", "golden", "brown", star=True),
    ),
    Subject(
        "tiger-cat",
        "an orange cat with black stripes, a blaze and white socks",
        Pet("cat", "orange", "striped", "black", "green", blaze=True, socks=True),
    ),
    Subject(
        "teal-dog",
        "a teal dog with a cream belly and a pink star",
        Pet("dog", "teal", "bellied", "cream", "amber", star=True, mark="pink"),
    ),
    Subject(
        "moon-rabbit",
        "a black rabbit with violet spots and odd eyes",
        Pet("rabbit", "black", "spotted", "violet", "amber", "blue", star=True),
    ),
    Subject(
        "mint-bear",
        "a green bear with white stripes and an eye patch",
        Pet("bear", "green", "striped", "white", "brown", patch=True),
    ),
    Subject(
        "calico-cat",
        "a white cat with orange patches, brown socks and odd eyes",
        Pet("cat", "white", "patched", "orange", "blue", "green", socks=True, mark="brown"),
    ),
    Subject(
        "violet-dog",
        "a violet dog with golden patches, a blaze and socks",
        Pet("dog", "violet", "patched", "golden", "green", blaze=True, socks=True),
    ),
    Subject(
        "plain-rabbit",
        "a grey rabbit with a blaze and one green eye",
        Pet("rabbit", "grey", "solid", "white", "green", "amber", blaze=True),
    ),
    Subject(
        "panda-bear",
        "a white bear with black patches and an eye patch",
        Pet("bear", "white", "patched", "black", "brown", patch=True, socks=True, mark="black"),
    ),
)
RESERVED = frozenset(s.pet.signature for s in (*DEMO_SUBJECTS, *HELD_OUT_SUBJECTS))


def pool(pet: Pet) -> str:
    """Return the pool this pet is restricted to: ``subject``, ``judge`` or ``train``."""
    if pet.signature in RESERVED:
        return "subject"
    return "judge" if zlib.crc32(repr(pet.signature).encode()) % 4 == 0 else "train"


def draw_pet(rng: np.random.Generator, kind: str, draw) -> Pet:
    """Draw with ``draw(rng)`` (random_pet, striking_pet) until the pet is in the pool ``kind``."""
    while True:
        pet = draw(rng)
        if pool(pet) == kind:
            return pet


@functools.cache
def named_pets() -> dict[str, Pet]:
    """Return name -> fixed identity, all different. The base model learns these by name."""
    rng, pets = np.random.default_rng(20260731), {}
    while len(pets) < len(NAMES):
        pet = draw_pet(rng, "train", striking_pet)
        if pet not in pets.values():
            pets[NAMES[len(pets)]] = pet
    return pets


PHOTO_SHAPES = ((4, 3), (1, 1), (3, 4), (3, 2), (2, 3))


def demo_photos(subject: Subject, n: int = 5, size: int = 448, seed: int = 0) -> list[np.ndarray]:
    """Return ``n`` pictures (H, W, 3) uint8 of one pet in different places, as a phone would take
    them.

    The short side is about ``size`` pixels, in mixed shapes and sizes. There are no accessories,
    and no picture is mirrored, since marks have a side.
    """
    rng = np.random.default_rng([seed, zlib.crc32(subject.key.encode())])
    places = list(rng.permutation(BACKGROUNDS))
    photos = []
    for k in range(n):
        scene = random_scene(rng, str(places[k % len(places)]), accessories=False)
        scene = scene.__class__(**{**scene.__dict__, "mirror": False})
        wide, high = PHOTO_SHAPES[k % len(PHOTO_SHAPES)]
        short = int(size * rng.uniform(0.86, 1.14)) // 2 * 2
        side = (short * wide // min(wide, high), short * high // min(wide, high))
        photos.append(render(subject.pet, scene, side, int(rng.integers(2**31))))
    return photos
