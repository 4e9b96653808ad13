"""Measure the likeness of a demo run's pictures by step, for the advice of likeness.py.

The four preview pictures of a step are too few to compare steps, so more pictures are sampled from
the saved LoRAs, with the same noise at every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from blockskip.core.settings import Settings
from blockskip.data.demo_vocabulary import PLACES
from blockskip.runs.demo_judge import Judge, judge_and_photos
from blockskip.runs.image_session import ImageSession
from blockskip.runs.likeness_pictures import FIRST_SEED, KeyedImages, previews
from blockskip.runs.likeness_types import StepLikeness
from blockskip.runs.run import Run

NUM_EXTRA = 24  # total number of pictures sampled, in about half a minute on one core
EXTRA_PER_PROMPT = 4


def measure_steps(run: Run, kept: Sequence[int]) -> dict[int, StepLikeness]:
    """Return the judge's measurements by step. Raises UserError for a run it cannot judge."""
    judge, photos = judge_and_photos(run)
    settings = run.settings()
    pictures = previews(run)
    for step, extra in _sample_extra(run, [step for step in kept if step in pictures]).items():
        pictures[step] |= extra
    return {
        step: _measure_step(judge, photos, settings, images) for step, images in pictures.items()
    }


def _sample_extra(run: Run, steps: Sequence[int]) -> dict[int, KeyedImages]:
    """Sample additional pictures of every prompt at every step."""
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
    result = StepLikeness()
    if not pictures:
        return result
    likeness = judge.identity(list(pictures.values()), photos).tolist()
    attributes = judge.attributes(list(pictures.values()))
    for key, like, values in zip(pictures, likeness, attributes, strict=True):
        words = key[0].replace(",", " ").split()
        if settings.trigger in words:
            result.subject[key] = like
            place = _place_in_prompt(key[0])
            if place:
                result.places[key] = values["background"] == place
        elif settings.class_name in words:
            result.class_word[key] = like
    return result


def _place_in_prompt(prompt: str) -> str:
    """Return the place named in a prompt, "" for none."""
    return next((p for p, phrases in PLACES.items() if any(x in prompt for x in phrases)), "")
