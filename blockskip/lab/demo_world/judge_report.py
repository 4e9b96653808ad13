"""Evaluate the judge on real renders of held-out pets.

The judge was trained on none of these pets, named pets or demo subjects (`judge_data.judge_pool`).
"Soft" pictures are shrunk to 32 px and enlarged, to look like a weak generator's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blockskip.data.demo_vocabulary import BACKGROUNDS
from blockskip.lab.demo_world.judge_data import KINDS, draw_judge_pet, look_alike
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import (
    DEMO_SUBJECTS,
    HELD_OUT_SUBJECTS,
    demo_photos,
    named_pets,
)
from blockskip.lab.demo_world.world import Pet, Scene, random_pet, random_scene, striking_pet
from blockskip.runs.demo_judge import HEADS, SIDE_PX, Judge

PHOTOS = 5
QUERIES = 2


@dataclass
class Case:
    """A pet with embeddings of its photos (5, E) and of its other pictures (2, E)."""

    pet: Pet
    photos: Tensor
    queries: Tensor


def _picture(pet: Pet, scene: Scene, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(render(pet, scene, SIDE_PX, int(rng.integers(2**31))))


def soft(image: Image.Image) -> Image.Image:
    """Return the picture shrunk to half its resolution and enlarged again."""
    half = image.resize((SIDE_PX // 2, SIDE_PX // 2), Image.Resampling.BILINEAR)
    return half.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)


def _photos(pet: Pet, rng: np.random.Generator) -> list[Image.Image]:
    """Return five photos as a user would bring: different places, no accessories, not mirrored."""
    places = rng.permutation(BACKGROUNDS)[:PHOTOS]
    scenes = [random_scene(rng, str(place), accessories=False) for place in places]
    return [_picture(pet, Scene(**{**s.__dict__, "mirror": False}), rng) for s in scenes]


def true_attributes(pet: Pet, scene: Scene) -> dict[str, str]:
    """Return the correct answers of `Judge.attributes` for a picture."""
    eyes = (pet.right, pet.eye) if scene.mirror else (pet.eye, pet.right)
    answers = {
        "species": pet.species,
        "coat": pet.coat,
        "pattern": pet.pattern,
        "second": "none",
        "mark": "none",
        "eye_left": eyes[0],
        "eye_right": eyes[1],
    }
    answers |= {k: ("no", "yes")[getattr(pet, k)] for k in ("blaze", "star", "patch", "socks")}
    if pet.pattern != "solid" or pet.patch:
        answers["second"] = pet.second
    if pet.blaze or pet.star or pet.socks:
        answers["mark"] = pet.mark
    wear = "none" if scene.accessory == "none" else scene.wear
    return answers | {"background": scene.background, "accessory": scene.accessory, "wear": wear}


def score_answers(judge: Judge, images: list[Image.Image], right: list[dict]) -> dict:
    """Return the share of right answers to every question and the commonest mistakes, as
    "true > answered"."""
    hits, mistakes = Counter(), defaultdict(Counter)
    for answers, true in zip(judge.attributes(images), right, strict=True):
        for name in HEADS:
            hits[name] += answers[name] == true[name]
            if answers[name] != true[name]:
                mistakes[name][f"{true[name]} > {answers[name]}"] += 1
    return {
        "share": {name: round(hits[name] / len(images), 4) for name in HEADS},
        "mistakes": {name: dict(mistakes[name].most_common(4)) for name in mistakes},
    }


def _cases(judge: Judge, pets: list[Pet], rng: np.random.Generator) -> tuple[list[Case], dict]:
    cases, images, right = [], [], []
    for pet in pets:
        scenes = [random_scene(rng) for _ in range(QUERIES)]
        queries = [_picture(pet, scene, rng) for scene in scenes]
        images += queries
        right += [true_attributes(pet, scene) for scene in scenes]
        cases.append(Case(pet, judge.embed(_photos(pet, rng)), judge.embed(queries)))
    blurred = [soft(image) for image in images]
    answers = {
        "sharp": score_answers(judge, images, right),
        "soft": score_answers(judge, blurred, right),
    }
    blurred = judge.embed(blurred).view(len(pets), QUERIES, -1)
    return cases, {"attributes": answers, "soft_embeddings": blurred}


def likeness(cases: list[Case], queries: Tensor) -> Tensor:
    """Return the mean cosine (queries, pets) of every query to the photos of every pet."""
    return torch.stack([(queries @ case.photos.T).mean(1) for case in cases], 1)


def _retrieval(cases: list[Case], queries: Tensor) -> dict:
    """Return retrieval figures of pictures (pets, QUERIES, E) among all pets' photos."""
    like = likeness(cases, queries.flatten(0, 1))
    owner = torch.arange(len(cases)).repeat_interleave(QUERIES)
    same = like[torch.arange(len(owner)), owner]
    kin = torch.tensor([[a.pet.species == b.pet.species for b in cases] for a in cases])[owner]
    others = torch.ones_like(like, dtype=torch.bool)
    others[torch.arange(len(owner)), owner] = False
    return {
        "top1": round(float((like.argmax(1) == owner).float().mean()), 4),
        "same_mean": round(float(same.mean()), 4),
        "same_p05": round(float(same.quantile(0.05)), 4),
        "other_same_species_mean": round(float(like[kin & others].mean()), 4),
        "other_same_species_p95": round(float(like[kin & others].quantile(0.95)), 4),
        "other_species_mean": round(float(like[~kin].mean()), 4),
    }


def _look_alikes(judge: Judge, cases: list[Case], rng: np.random.Generator, limit: int) -> dict:
    """Return, by kind of difference, how often the pet is closer to its photos than a
    look-alike."""
    table = {}
    for kind in KINDS:
        pairs = []
        for k in rng.permutation(len(cases)):
            twin = look_alike(cases[k].pet, kind, rng, False)
            if twin is not None and len(pairs) < limit:
                pairs.append((cases[k], _picture(twin, random_scene(rng), rng)))
        embeddings = judge.embed([image for _, image in pairs])
        twins = torch.stack(
            [(case.photos @ e).mean() for (case, _), e in zip(pairs, embeddings, strict=True)]
        )
        same = torch.stack([(case.photos @ case.queries.T).mean(0) for case, _ in pairs])
        table[kind] = {
            "pairs": len(pairs),
            "same": round(float(same.mean()), 4),
            "look_alike": round(float(twins.mean()), 4),
            "rate": round(float((same > twins[:, None]).float().mean()), 4),
        }
    return table


def _subjects(judge: Judge, rng: np.random.Generator) -> dict:
    """Return each subject's likeness to its own photos and to those of the nearest other
    subject."""
    subjects = (*DEMO_SUBJECTS, *HELD_OUT_SUBJECTS)
    cases = []
    for subject in subjects:
        photos = [Image.fromarray(p) for p in demo_photos(subject, PHOTOS, 128)]
        queries = [_picture(subject.pet, random_scene(rng), rng) for _ in range(4)]
        cases.append(Case(subject.pet, judge.embed(photos), judge.embed(queries)))
    like = torch.stack([likeness(cases, case.queries).mean(0) for case in cases])  # (query, photos)
    table = {}
    for k, subject in enumerate(subjects):
        others = like[k].clone()
        others[k] = -2
        table[subject.key] = {
            "same": round(float(like[k, k]), 4),
            "nearest_other": round(float(others.max()), 4),
            "which": subjects[int(others.argmax())].key,
        }
    return table


def evaluate_judge(judge: Judge, seed: int = 0, num_pets: int = 200, pairs: int = 80) -> dict:
    """Return the report on the judge, JSON-ready. Takes about two minutes."""
    rng = np.random.default_rng([seed, 99])
    drawn: dict[tuple, Pet] = {}
    while len(drawn) < num_pets:
        pet = draw_judge_pet(rng, "check", (random_pet, striking_pet)[len(drawn) % 2])
        drawn[pet.signature] = pet
    cases, details = _cases(judge, list(drawn.values()), rng)
    look_alikes = _look_alikes(judge, cases, rng, pairs)
    named, _ = _cases(judge, list(named_pets().values()), rng)
    return {
        "held_out_pets": num_pets,
        "sharp": _retrieval(cases, torch.stack([case.queries for case in cases])),
        "soft": _retrieval(cases, details["soft_embeddings"]),
        "named": _retrieval(named, torch.stack([case.queries for case in named])),
        "look_alikes": look_alikes,
        "look_alike_rate": round(float(np.mean([row["rate"] for row in look_alikes.values()])), 4),
        "attributes": details["attributes"],
        "subjects": _subjects(judge, rng),
    }
