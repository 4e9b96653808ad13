"""The training pictures: drawn once at 128 px into one memory-mapped file, in parts, resumably."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import NAMES, draw_pet, named_pets
from blockskip.lab.demo_world.world import Pet, Scene, random_pet, random_scene

log = logging.getLogger(__name__)
MASTER = 128
PART = 500
NAMED_SHARE = 0.18


def picture_facts(index: int, seed: int) -> tuple[Pet, Scene, str, int]:
    """Pet, scene, name ("" for most) and detail seed of picture ``index`` of the world ``seed``."""
    rng = np.random.default_rng([seed, index])
    if rng.random() < NAMED_SHARE:
        name = NAMES[int(rng.integers(len(NAMES)))]
        pet = named_pets()[name]
    else:
        name, pet = "", draw_pet(rng, "train", random_pet)
    return pet, random_scene(rng), name, int(rng.integers(2**31))


def facts_record(index: int, seed: int) -> dict:
    """The same facts as plain JSON."""
    pet, scene, name, detail = picture_facts(index, seed)
    return {"pet": asdict(pet), "scene": asdict(scene), "name": name, "detail": detail}


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
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, block)
        partial.replace(path)
        log.info("drew %s", path.name)
    (folder / "world.json").write_text(json.dumps({"count": count, "seed": seed, "side": MASTER}))


def load_masters(work: Path, count: int) -> list[np.ndarray]:
    """Parts (PART, 128, 128, 3) that exist, memory-mapped, at most ``count`` pictures."""
    paths = [work / "world" / f"part-{p:03d}.npy" for p in range(-(-count // PART))]
    return [np.load(path, mmap_mode="r") for path in paths if path.exists()]
