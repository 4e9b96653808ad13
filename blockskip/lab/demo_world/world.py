"""The contents of the demo world (pets, scenes, colours) and their random sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blockskip.data import demo_vocabulary
from blockskip.data.demo_vocabulary import ACCESSORIES, BACKGROUNDS, COATS, PATTERNS, SPECIES, VIVID
from blockskip.lab.demo_world.shapes import rgb

FUR = {name: rgb(code) for name, code in demo_vocabulary.FUR.items()}
EYES = {name: rgb(code) for name, code in demo_vocabulary.EYES.items()}
WEAR = {name: rgb(code) for name, code in demo_vocabulary.WEAR.items()}


@dataclass(frozen=True)
class Pet:
    """A pet's identity, which stays the same from picture to picture.

    ``second`` is the colour of the pattern; ``eye_right`` differs from ``eye`` for odd eyes;
    ``mark`` colours the blaze, star and socks; the eye patch has the colour ``second``.
    """

    species: str
    coat: str
    pattern: str = "solid"
    second: str = "white"
    eye: str = "green"
    eye_right: str = ""
    blaze: bool = False
    star: bool = False
    patch: bool = False
    socks: bool = False
    mark: str = "white"

    @property
    def right(self) -> str:
        """The colour of the eye on the right of the (unmirrored) picture."""
        return self.eye_right or self.eye

    @property
    def signature(self) -> tuple:
        """The visible attributes. Pets with equal signatures look the same."""
        second = self.second if self.pattern != "solid" or self.patch else ""
        mark = self.mark if self.blaze or self.star or self.socks else ""
        marks = (self.blaze, self.star, self.patch, self.socks, mark)
        return (self.species, self.coat, self.pattern, second, self.eye, self.right, *marks)


@dataclass(frozen=True)
class Scene:
    """A pet's place and pose, in scene units (short side = 1), y down, angles in radians.

    ``x``, ``y``: middle of the paws. ``scale``: height of the pet to the top of its head. ``zoom``
    and ``look``: the camera. ``tone``: a number in [0, 1) that picks wall or sofa colours.
    """

    background: str
    accessory: str = "none"
    wear: str = "red"
    x: float = 0.5
    y: float = 0.93
    scale: float = 0.74
    tilt: float = 0.0
    mirror: bool = False
    tone: float = 0.3
    zoom: float = 1.0
    look: tuple[float, float] = (0.5, 0.5)


def _other(rng: np.random.Generator, names: tuple[str, ...], not_this: str) -> str:
    return str(rng.choice([n for n in names if n != not_this]))


def random_pet(rng: np.random.Generator, vivid: float = 0.1, marks: float = 0.06) -> Pet:
    """Draw an ordinary pet, with probability ``vivid`` in a colour that no real animal has.

    ``marks`` is the probability of each identity mark (blaze, star, patch, socks, odd eyes).
    """
    coat = str(rng.choice(tuple(VIVID if rng.random() < vivid else COATS)))
    pattern = str(rng.choice(PATTERNS, p=(0.3, 0.2, 0.17, 0.17, 0.16)))
    second = _other(rng, tuple(COATS), coat)
    if pattern == "bellied" and rng.random() < 0.6:
        second = "white" if coat != "white" else "grey"
    eye = str(rng.choice(tuple(EYES)))
    has = rng.random(5) < marks
    right = _other(rng, tuple(EYES), eye) if has[4] else ""
    return Pet(str(rng.choice(SPECIES)), coat, pattern, second, eye, right, *map(bool, has[:4]))


def striking_pet(rng: np.random.Generator) -> Pet:
    """Draw a recognisable pet with vivid colours and several marks, as named pets and subjects
    have."""
    colours = tuple(FUR)
    coat = str(rng.choice(tuple(VIVID) if rng.random() < 0.6 else tuple(COATS)))
    second = _other(rng, colours if coat in VIVID else tuple(VIVID), coat)
    eye = str(rng.choice(tuple(EYES)))
    right = _other(rng, tuple(EYES), eye) if rng.random() < 0.35 else ""
    has = rng.random(4) < (0.45, 0.45, 0.35, 0.4)
    mark = "white" if coat != "white" and rng.random() < 0.7 else _other(rng, colours, coat)
    pattern = str(rng.choice(PATTERNS, p=(0.12, 0.24, 0.24, 0.2, 0.2)))
    return Pet(str(rng.choice(SPECIES)), coat, pattern, second, eye, right, *map(bool, has), mark)


def random_scene(
    rng: np.random.Generator, background: str = "", accessories: bool = True, jitter: float = 1.0
) -> Scene:
    """Draw a scene. ``jitter`` scales the variation of position, size and tilt."""
    background = background or str(rng.choice(BACKGROUNDS))
    accessory = str(rng.choice(ACCESSORIES, p=(0.46, 0.18, 0.18, 0.18)))
    wear = str(rng.choice(tuple(WEAR)))
    move = np.clip(rng.normal(size=4), -2, 2) * jitter
    return Scene(
        background,
        accessory if accessories else "none",
        wear,
        x=0.5 + 0.035 * float(move[0]),
        y=0.93 + 0.012 * float(move[1]),
        scale=0.74 * (1 + 0.035 * float(move[2])),
        tilt=0.035 * float(move[3]),
        mirror=bool(rng.random() < 0.5),
        tone=float(rng.random()),
    )
