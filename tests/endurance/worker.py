"""One worker for a long time: two thousand steps and a thousand pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from endurance import meters

from blockskip.core import events, stages
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs.run import Run, create_run

PROMPTS = tuple(
    f"a photo of sks cat {where}" for where in ("", "at night", "in the snow", "at sea")
)
OF_EACH = 5
EVERY_S = 1.0


def new_run(data: Path, steps: int, pictures: int) -> Run:
    """Create a run with about so many pictures, evenly over its steps."""
    os.environ |= {"BLOCKSKIP_DATA": str(data), "OMP_NUM_THREADS": "1"}
    times = max(1, pictures // (len(PROMPTS) * OF_EACH))
    settings = choose_settings(
        steps=steps,
        batch=1,
        preview_every=max(1, steps // times),
        preview_prompts=PROMPTS,
        preview_images=OF_EACH,
        preview_steps=1,
        seed=1,
    )
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])
    return create_run(settings, photos, "long")


def long_run(data: Path, steps: int, pictures: int, tell: Callable[[int], None]) -> dict:
    """Let one worker train. Returns samples of it, the seconds of each step, and what grew."""
    run = new_run(data, steps, pictures)
    process = psutil.Process(run.start().pid)
    samples: list[dict[str, float]] = []
    offset = steps_done = made = 0
    worked_ms = a_step = 0.0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            held, now_ms = meters.of_process(process), meters.processor_ms(process)
        except psutil.Error:
            break
        fresh, offset = run.events(offset)
        steps_now, pictures_now = (_count(fresh, kind) for kind in (events.Loss, events.Image))
        steps_done, made = steps_done + steps_now, made + pictures_now
        trains = all(getattr(event, "stage", stages.TRAIN) == stages.TRAIN for event in fresh)
        if steps_now and trains and not pictures_now:  # nothing but steps since the last sample
            a_step = (now_ms - worked_ms) / steps_now
        worked_ms = now_ms
        if a_step:
            held["temporary files"] = meters.temporary_files(data)
            samples.append(held | {meters.ANSWER: a_step})
        tell(steps_done)
        time.sleep(EVERY_S)
    fresh, _ = run.events(offset)
    made += _count(fresh, events.Image)
    steps_done += _count(fresh, events.Loss)
    assert run.state() == "done", run.state()
    sizes = meters.sizes(data)
    return {"samples": samples, "sizes": [sizes], "steps": steps_done, "pictures": made}


def _count(found: list[events.Event], kind: type) -> int:
    return sum(isinstance(event, kind) for event in found)
