"""Draw the training pictures once, at 128 px, into memory-mapped files; resumable."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import NAMES, TRIGGERS, draw_pet, named_pets
from blockskip.lab.demo_world.world import Pet, Scene, random_pet, random_scene, striking_pet

log = logging.getLogger(__name__)
MASTER = 128
PART = 500
NAMED_SHARE = 0.15
STRIKING_SHARE = 0.25  # of the nameless, so that the world covers a user's pets
RARE_WORD_SHARE = 0.5  # of the nameless striking pets


def picture_facts(index: int, seed: int) -> tuple[Pet, Scene, str, int]:
    """Return pet, scene, name ("" for most) and detail seed of picture ``index`` of world ``seed``.

    A name always means the same pet, a rare word (``TRIGGERS``) a different striking pet each time.
    So the model learns "sks cat" as a particular cat that it does not know yet.
    """
    rng = np.random.default_rng([seed, index])
    name = str(rng.choice(NAMES)) if rng.random() < NAMED_SHARE else ""
    striking = not name and rng.random() < STRIKING_SHARE
    if name:
        pet = named_pets()[name]
    else:
        pet = draw_pet(rng, "train", striking_pet if striking else random_pet)
    scene, detail = random_scene(rng), int(rng.integers(2**31))
    if striking and rng.random() < RARE_WORD_SHARE:
        name = str(rng.choice(TRIGGERS))
    return pet, scene, name, detail


def draw_parts(work: Path, count: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
    """Draw this process's share of ``count`` pictures: ``work/world/part-NNN.npy``.

    Each part holds ``PART`` pictures, uint8 (PART, 128, 128, 3); finished parts are kept.
    """
    folder = work / "world"
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(rank, -(-count // PART), ranks):
        path = folder / f"part-{part:03d}.npy"
        if path.exists():
            continue
        block = np.empty((PART, MASTER, MASTER, 3), np.uint8)
        for k in range(PART):
            pet, scene, _, detail = picture_facts(part * PART + k, seed)
            block[k] = render(pet, scene, MASTER, detail)
        with parallel.atomic_file(path) as file:
            np.save(file, block)
        log.info("drew %s", path.name)
    (folder / "world.json").write_text(json.dumps({"count": count, "seed": seed, "side": MASTER}))


def load_masters(work: Path) -> list[np.ndarray]:
    """Return every part (PART, 128, 128, 3), memory-mapped."""
    return [np.load(path, mmap_mode="r") for path in sorted((work / "world").glob("part-*.npy"))]
