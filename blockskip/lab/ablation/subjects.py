"""The pets that tables report on: seen neither by a demo model nor by its judge, and read rightly by it.
Settings are chosen on others."""

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

# questions about a pet, which the judge answers; the others are about the scene
PET_ATTRIBUTES = (
    *("species", "coat", "pattern", "second", "mark", "blaze", "star", "patch", "socks"),
    *("eye_left", "eye_right"),
)


def subjects(num: int, for_tuning: bool = False) -> list[Subject]:
    """Pets that neither the demo model nor its judge was trained on, the species in turn; only
    such as the judge reads rightly in drawn pictures.

    for_tuning: those of the demo world on which settings were and are chosen; never the same ones.
    Raises UserError when there are not so many.
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
    """Whether the judge answers every question about a pet rightly in at least three quarters of
    `num` drawn pictures: what it cannot see in perfect pictures it cannot judge in others."""
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, accessories=False) for _ in range(num)]
    drawn = [Image.fromarray(render(pet, scene, SIDE_PX, k)) for k, scene in enumerate(scenes)]
    right = dict.fromkeys(PET_ATTRIBUTES, 0)
    for said, scene in zip(judge.attributes(drawn), scenes, strict=True):
        true = true_attributes(pet, scene)
        for name in PET_ATTRIBUTES:
            right[name] += said[name] == true[name]
    return min(right.values()) >= 0.75 * num
