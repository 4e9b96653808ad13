"""One worker for a long time: two thousand steps and a thousand pictures."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from endurance import meters

from blockskip.core import events
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs.run import Run, create_run

PROMPTS = tuple(
    f"a photo of sks cat {where}" for where in ("", "at night", "in the snow", "at sea")
)
OF_EACH = 5
EVERY_S = 2.0


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
    offset, recent, seconds, made = 0, [0.0], [], 0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        fresh, offset = run.events(offset)
        made += sum(isinstance(event, events.Image) for event in fresh)
        steps_now = [event.seconds for event in fresh if isinstance(event, events.Loss)]
        seconds += steps_now
        recent = steps_now or recent
        if seconds:
            try:
                held = meters.of_process(process)
            except psutil.Error:
                break
            held["temporary files"] = meters.temporary_files(data)
            samples.append(held | {"answer, ms": 1000 * statistics.median(recent)})
        tell(len(seconds))
        time.sleep(EVERY_S)
    fresh, offset = run.events(offset)
    made += sum(isinstance(event, events.Image) for event in fresh)
    seconds += [event.seconds for event in fresh if isinstance(event, events.Loss)]
    assert run.state() == "done", run.state()
    sizes = meters.sizes(data)
    return {"samples": samples, "sizes": [sizes], "steps": len(seconds), "pictures": made}
