"""The pets that tables report on: neither the demo model nor its judge was trained on them, and the
judge reads them correctly. Settings are tuned on other pets."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from blockskip.core.errors import BadInput
from blockskip.data.demo_vocabulary import SPECIES
from blockskip.lab.demo_world.judge_data import draw_judge_pet
from blockskip.lab.demo_world.judge_report import true_attributes
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import HELD_OUT_SUBJECTS, Subject
from blockskip.lab.demo_world.world import Pet, random_scene, striking_pet
from blockskip.runs.demo_judge import SIDE_PX, Judge, load_judge

# the judge's questions about the pet; its others are about the scene
PET_ATTRIBUTES = (
    *("species", "coat", "pattern", "second", "mark", "blaze", "star", "patch", "socks"),
    *("eye_left", "eye_right"),
)


def subjects(num: int, for_tuning: bool = False) -> list[Subject]:
    """Return `num` pets that neither the demo model nor its judge was trained on, species in turn.
    The judge reads all of them correctly in drawn pictures.

    for_tuning: return the disjoint set of pets that settings are tuned on. Raises UserError if that
    set is smaller than `num`.
    """
    if for_tuning:
        if num > len(HELD_OUT_SUBJECTS):
            raise BadInput(
                f"There are {len(HELD_OUT_SUBJECTS)} pets to choose settings on, not {num}.",
                f"Ask for at most {len(HELD_OUT_SUBJECTS)}.",
            )
        return list(HELD_OUT_SUBJECTS[:num])
    return [_held_out_subject(k) for k in range(num)]


@functools.cache
def _held_out_subject(number: int) -> Subject:
    rng, species = np.random.default_rng([20261122, number]), SPECIES[number % len(SPECIES)]
    judge = load_judge()
    while True:
        pet = draw_judge_pet(rng, "check", striking_pet)
        if pet.species == species and is_judgeable(judge, pet):
            return Subject(f"reported-{number}", f"a {pet.coat} {pet.pattern} {species}", pet)


def is_judgeable(judge: Judge, pet: Pet, num: int = 8) -> bool:
    """Return whether the judge answers every question about a pet correctly in at least 75 % of
    `num` drawn pictures. An attribute it misses in perfect pictures cannot be judged in others."""
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, accessories=False) for _ in range(num)]
    drawn = [Image.fromarray(render(pet, scene, SIDE_PX, k)) for k, scene in enumerate(scenes)]
    right = dict.fromkeys(PET_ATTRIBUTES, 0)
    for answers, scene in zip(judge.attributes(drawn), scenes, strict=True):
        true = true_attributes(pet, scene)
        for name in PET_ATTRIBUTES:
            right[name] += answers[name] == true[name]
    return min(right.values()) >= 0.75 * num
