"""The judge's look at a demo run's pictures, by step (likeness.py says what follows from it).

A step's previews are four pictures, too few to tell steps apart; so a few more are sampled from the
kept LoRAs, the same noise for every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from blockskip.core.settings import Settings
from blockskip.data.demo_vocabulary import PLACES
from blockskip.runs.demo_judge import Judge, judge_and_photos
from blockskip.runs.image_session import ImageSession
from blockskip.runs.likeness_types import ImageKey, StepLikeness
from blockskip.runs.run import Run, step_of

NUM_EXTRA = 24  # pictures sampled in all: about half a minute on one core
EXTRA_PER_PROMPT = 4
FIRST_SEED = 2000

KeyedImages = dict[ImageKey, Image.Image]


def measure_steps(run: Run, kept: Sequence[int]) -> dict[int, StepLikeness]:
    """What the judge sees, by step. Raises UserError for a run that it cannot judge."""
    judge, photos = judge_and_photos(run)
    settings = run.settings()
    pictures = _previews(run)
    for step, more in _sample_extra(run, [step for step in kept if step in pictures]).items():
        pictures[step] |= more
    return {step: _measure_step(judge, photos, settings, found) for step, found in pictures.items()}


def _previews(run: Run) -> dict[int, KeyedImages]:
    """The pictures that the run made; the place in their row stands for the seed, the same at
    every step."""
    found: dict[int, KeyedImages] = {}
    for folder in sorted(run.previews_dir.glob("step-*")):
        pictures = found[step_of(folder)] = {}
        for path in sorted(folder.glob("*.png")):
            with Image.open(path) as image:
                pictures[image.info["prompt"], int(path.stem)] = image.convert("RGB")
    return found


def _sample_extra(run: Run, steps: Sequence[int]) -> dict[int, KeyedImages]:
    """Some more of every prompt at every step."""
    settings = run.settings()
    prompts = list(dict.fromkeys(settings.preview_prompts))
    each = min(EXTRA_PER_PROMPT, NUM_EXTRA // max(1, len(prompts) * len(steps)))
    if not each or not steps:
        return {}
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    keys = [(prompt, FIRST_SEED + k) for prompt in prompts for k in range(each)]
    prompts, seeds = [prompt for prompt, _ in keys], [seed for _, seed in keys]
    session = ImageSession(run, exact=True)
    return {
        step: dict(zip(keys, session.generate(prompts, seeds, step), strict=True)) for step in steps
    }


def _measure_step(
    judge: Judge, photos: Sequence[Image.Image], settings: Settings, pictures: KeyedImages
) -> StepLikeness:
    seen = StepLikeness()
    if not pictures:
        return seen
    likeness = judge.identity(list(pictures.values()), photos).tolist()
    said = judge.attributes(list(pictures.values()))
    for (key, like), what in zip(zip(pictures, likeness, strict=True), said, strict=True):
        words = key[0].replace(",", " ").split()
        if settings.trigger in words:
            seen.subject[key] = like
            place = _place_in_prompt(key[0])
            if place:
                seen.places[key] = what["background"] == place
        elif settings.class_name in words:
            seen.class_word[key] = like
    return seen


def _place_in_prompt(prompt: str) -> str:
    """The place that a prompt names, "" for none."""
    return next((p for p, said in PLACES.items() if any(words in prompt for words in said)), "")
