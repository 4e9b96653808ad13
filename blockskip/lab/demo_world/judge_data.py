"""The judge's training data: families of look-alike pets in random scenes.

Rendering a picture takes 15 ms, too long for the tens of thousands the judge needs. So every pet is
drawn once, as a sprite in the middle pose, and pictures are composed of layers (background, pet
with shadow, accessory) that are moved, tilted, mirrored and blurred at random. judge_report.py
checks the judge on real renders of held-out pets.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blockskip.data.demo_vocabulary import ACCESSORIES, BACKGROUNDS, PATTERNS, SPECIES
from blockskip.lab.demo_world.backgrounds import paint_background, paint_shadow
from blockskip.lab.demo_world.pets import PetPainter, paint_accessory
from blockskip.lab.demo_world.shapes import Canvas, rgb
from blockskip.lab.demo_world.subjects import draw_pet, pool
from blockskip.lab.demo_world.world import EYES, FUR, WEAR, Pet, Scene, random_pet, striking_pet
from blockskip.runs.demo_judge import HEADS, SIDE_PX

FAMILY_SIZE = 4  # look-alikes per family
SPRITE = 96  # px, side of the layers before they are shrunk to 64
POSE = Scene("meadow")
KINDS = (
    "eyes",
    "odd eye",
    "coat",
    "second",
    "pattern",
    "stripes",
    "species",
    "blaze",
    "star",
    "patch",
    "socks",
    "mark",
)
# higher odds for kinds that rarely yield a valid pet, since most candidates belong to another pool
KIND_ODDS = np.array([4.5, 3, 1.1, 1.5, 1.3, 4.5, 1.5, 2.8, 2.8, 2.8, 2.8, 0.9])


def judge_pool(pet: Pet) -> str:
    """Return ``learn`` or ``check`` for the judge's own pets, ``other`` for all others."""
    if pool(pet) != "judge":
        return "other"
    return "check" if zlib.crc32(repr(pet.signature).encode()) // 4 % 8 == 0 else "learn"


def has_visible_marks(pet: Pet) -> bool:
    """Return False for marks in the colour of the coat, with which different pets look the same."""
    return not ((pet.blaze or pet.star or pet.socks) and pet.mark == pet.coat)


def mutate_pet(pet: Pet, kind: str, rng: np.random.Generator) -> Pet:
    """Return ``pet`` with one attribute changed, of the given kind (see KINDS)."""

    def other(names, *not_these: str) -> str:
        return str(rng.choice([n for n in names if n not in not_these]))

    if kind == "eyes":
        return replace(pet, eye=other(EYES, pet.eye, pet.right), eye_right="")
    if kind == "odd eye":
        same = pet.eye != pet.right
        return replace(pet, eye_right="" if same else other(EYES, pet.eye))
    if kind == "coat":
        return replace(pet, coat=other(FUR, pet.coat, pet.second, pet.mark))
    if kind == "second":
        return replace(pet, second=other(FUR, pet.coat, pet.second))
    if kind == "pattern":
        return replace(pet, pattern=other(PATTERNS, pet.pattern))
    if kind == "stripes":
        return replace(pet, pattern="solid" if pet.pattern == "striped" else "striped")
    if kind == "species":
        return replace(pet, species=other(SPECIES, pet.species))
    if kind == "mark":
        return replace(pet, mark=other(FUR, pet.coat, pet.mark))
    return replace(pet, **{kind: not getattr(pet, kind)})


def look_alike(pet: Pet, kind: str, rng: np.random.Generator, learnt: bool) -> Pet | None:
    """Return a pet that differs visibly from ``pet`` in ``kind`` alone, or None.

    ``learnt``: whether it must be in the judge's training pool, or must not.
    """
    for _ in range(24):
        twin = mutate_pet(pet, kind, rng)
        fits = (judge_pool(twin) == "learn") == learnt
        if fits and twin.signature != pet.signature and has_visible_marks(twin):
            return twin
    return None


def draw_judge_pet(rng: np.random.Generator, role: str, draw: Callable) -> Pet:
    """Draw a pet of the pool ``role`` with visible marks."""
    while True:
        pet = draw_pet(rng, "judge", draw)
        if judge_pool(pet) == role and has_visible_marks(pet):
            return pet


def lookalike_family(rng: np.random.Generator) -> list[Pet]:
    """Draw FAMILY_SIZE different pets for training; each differs from another in 1 to 3
    attributes."""
    pets = [draw_judge_pet(rng, "learn", striking_pet if rng.random() < 0.5 else random_pet)]
    while len(pets) < FAMILY_SIZE:
        twin = pets[int(rng.integers(len(pets)))]
        for _ in range(int(rng.choice((1, 2, 3), p=(0.65, 0.25, 0.1)))):
            kind = str(rng.choice(KINDS, p=KIND_ODDS / KIND_ODDS.sum()))
            twin = look_alike(twin, kind, rng, True) or twin
        if twin.signature not in {p.signature for p in pets}:
            pets.append(twin)
    return pets


def attribute_labels(pet: Pet) -> list[int]:
    """Return the indices of the right answers about the pet, for all HEADS but the last three. -1
    means not applicable."""
    answers = {
        "species": pet.species,
        "coat": pet.coat,
        "pattern": pet.pattern,
        "second": "",
        "mark": "",
        "eye_left": pet.eye,
        "eye_right": pet.right,
    }
    answers |= {
        name: ("no", "yes")[getattr(pet, name)] for name in ("blaze", "star", "patch", "socks")
    }
    if pet.pattern != "solid" or pet.patch:
        answers["second"] = pet.second
    if pet.blaze or pet.star or pet.socks:
        answers["mark"] = pet.mark
    return [HEADS[name].index(word) if word else -1 for name, word in answers.items()]


def _flat_canvas(level: float) -> Canvas:
    canvas = Canvas.blank(SPRITE, SPRITE)
    canvas.image[:] = level
    return canvas


def _render_pet(level: float, pet: Pet) -> np.ndarray:
    canvas = _flat_canvas(level)
    paint_shadow(canvas, POSE.x, POSE.y, POSE.scale)
    PetPainter(canvas, pet, POSE).paint()
    return canvas.image


def sprite(pet: Pet) -> np.ndarray:
    """Return the pet on black, its colour times its coverage: uint8 (96, 96, 3)."""
    return (_render_pet(0.0, pet).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _coverage(species: str, socks: bool) -> np.ndarray:
    """Return the coverage (96, 96) of a pet with its shadow, the same for all coats and marks."""
    pet = Pet(species, "grey", socks=socks)
    return 1 - (_render_pet(1.0, pet) - _render_pet(0.0, pet)).mean(2)


def _accessory(species: str, kind: str, wear: str) -> np.ndarray:
    """Return the premultiplied colour and coverage (4, 96, 96) of an accessory."""
    images = []
    for level in (0.0, 1.0):
        canvas = _flat_canvas(level)
        painter = PetPainter(canvas, Pet(species, "grey"), POSE)
        paint_accessory(painter, kind, WEAR[wear])
        images.append(canvas.image)
    cover = 1 - (images[1] - images[0]).mean(2, keepdims=True)
    return np.concatenate((images[0], cover), 2).transpose(2, 0, 1)


@dataclass
class Layers:
    """The layers that pictures are composed of; see ``draw``."""

    sprites: np.ndarray  # uint8 (pets, 96, 96, 3)
    labels: np.ndarray  # (pets, 11)
    coverage: Tensor  # (species * 2, 96, 96)
    wear: Tensor  # (species * 18, 4, 96, 96)
    places: Tensor  # uint8 (6 * each, 3, 96, 96)

    @classmethod
    def paint(cls, pets: list[Pet], sprites: np.ndarray, each: int = 80) -> Layers:
        """Paint the layers, with ``each`` backgrounds of every kind."""
        cover = [_coverage(s, socks) for s in SPECIES for socks in (False, True)]
        wear = [_accessory(s, a, w) for s in SPECIES for a in ACCESSORIES[1:] for w in WEAR]
        places = []
        for k in range(each * len(BACKGROUNDS)):
            canvas = _flat_canvas(0.0)
            tone = float(np.random.default_rng([17, k]).random())
            paint_background(canvas, BACKGROUNDS[k // each], k, tone)
            places.append((canvas.image.clip(0, 1) * 255).astype(np.uint8).transpose(2, 0, 1))
        return cls(
            sprites,
            np.array([attribute_labels(p) for p in pets]),
            torch.tensor(np.stack(cover), dtype=torch.float32),
            torch.tensor(np.stack(wear), dtype=torch.float32),
            torch.from_numpy(np.stack(places)),
        )

    def draw(self, pets: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return pictures (B, 3, 64, 64) in [-1, 1] of the pets with these indices, and the answers
        (B, heads)."""
        n = len(pets)
        right = np.concatenate((self.labels[pets], np.zeros((n, 3), int)), 1)
        layer = torch.empty(n, 4, SPRITE, SPRITE)
        layer[:, :3] = torch.from_numpy(self.sprites[pets]).permute(0, 3, 1, 2).float() / 255
        socks = right[:, list(HEADS).index("socks")]
        layer[:, 3] = self.coverage[right[:, 0] * 2 + socks]
        kind, colour = rng.choice(4, n, p=(0.4, 0.2, 0.2, 0.2)), rng.integers(6, size=n)
        for k in np.flatnonzero(kind):
            above = self.wear[(right[k, 0] * 3 + kind[k] - 1) * 6 + colour[k]]
            layer[k] = above + layer[k] * (1 - above[3:])
        place = rng.integers(len(self.places), size=n)
        right[:, -3], right[:, -2] = place // (len(self.places) // 6), kind
        right[:, -1] = np.where(kind > 0, colour, -1)
        mirror = rng.random(n) < 0.5
        left = list(HEADS).index("eye_left")
        right[mirror, left : left + 2] = right[mirror, left : left + 2][:, ::-1]
        pictures = _assemble(layer, self.places[place], mirror, right[:, -3], rng)
        return soften(pictures, rng) * 2 - 1, torch.from_numpy(right)


def _assemble(
    layer: Tensor, places: Tensor, mirror: np.ndarray, kinds: np.ndarray, rng: np.random.Generator
) -> Tensor:
    """Pose the pets, put them before their backgrounds and zoom in on some. Returns (B, 3, 64, 64)
    in [0, 1]."""
    n = len(layer)
    move = np.clip(rng.normal(size=(4, n)), -2.2, 2.2)
    scale, tilt = 1 + 0.04 * move[2], 0.04 * move[3]
    flip = np.where(mirror, -1.0, 1.0)
    # output to input in grid units (-1 to 1), turning about the paws at (0, 0.86)
    cos, sin = np.cos(tilt) / scale, np.sin(tilt) / scale
    x0, y0 = 2 * 0.037 * move[0], 0.86 + 2 * 0.013 * move[1]
    rows = np.stack(
        (
            flip * cos,
            flip * sin,
            -flip * (cos * x0 + sin * y0),
            -sin,
            cos,
            0.86 + sin * x0 - cos * y0,
        ),
        1,
    )
    theta = torch.from_numpy(rows).float().view(n, 2, 3)
    posed = F.grid_sample(
        layer, F.affine_grid(theta, list(layer.shape), False), align_corners=False
    )
    composed = posed[:, :3] + (1 - posed[:, 3:]) * (places.float() / 255)
    night = torch.from_numpy(kinds == BACKGROUNDS.index("night")).float().view(n, 1, 1, 1) * 0.14
    composed += (torch.tensor(rgb("1c2460")).view(1, 3, 1, 1) - composed) * night
    for k in np.flatnonzero(rng.random(n) < 0.1):
        side = int(SPRITE * rng.uniform(0.7, 0.97))
        a, b = rng.integers(SPRITE - side + 1, size=2)
        crop = composed[k : k + 1, :, a : a + side, b : b + side]
        composed[k : k + 1] = F.interpolate(crop, SPRITE, mode="bilinear", align_corners=False)
    return F.interpolate(composed, SIDE_PX, mode="bicubic", antialias=True).clamp(0, 1)


def soften(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Degrade pictures (B, 3, 64, 64) as a small generator does, with blur, resizing, noise and
    colour shifts."""
    n = len(pictures)
    pictures = pictures.clone()
    order = torch.from_numpy(rng.permutation(n))
    for part in order[: 6 * n // 10].chunk(6):  # the other 40 % stay sharp
        side = int(rng.integers(26, 60))
        small = F.interpolate(pictures[part], side, mode="bilinear", antialias=True)
        mode = ("bilinear", "bicubic")[int(rng.integers(2))]
        pictures[part] = F.interpolate(small, SIDE_PX, mode=mode, align_corners=False)
    gain = torch.from_numpy(1 + 0.035 * rng.normal(size=(n, 3, 1, 1))).float()
    shift = torch.from_numpy(0.02 * rng.normal(size=(n, 3, 1, 1))).float()
    noisy = torch.from_numpy(0.025 * rng.random((n, 1, 1, 1)) * (rng.random((n, 1, 1, 1)) < 0.5))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(pictures.shape, generator=generator) * noisy.float()
    return (pictures * gain + shift + noise).clamp(0, 1)
