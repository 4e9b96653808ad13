"""Measure the cost of a page tick on a long run.

Run `python -m blockskip.studio.load_test --events 100000`. It writes a run with that many events to
a temporary data folder, without training, then appends events while a tab updates once a tick. It
prints one JSON object: seconds of the first update, milliseconds and bytes of a tick.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image as Picture

from blockskip.core import events, processes, stages
from blockskip.core.settings import Settings
from blockskip.memory.planning import planner
from blockskip.runs.run import Run, create_run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m blockskip.studio.load_test")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BLOCKSKIP_DATA"] = folder
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "gradio"))
        print(json.dumps(measure(Path(folder), args.events, args.ticks)))


def measure(folder: Path, count: int, ticks: int) -> dict:
    """Return what `main` prints. count: events in the run's log."""
    photo = folder / "photo.png"
    Picture.new("RGB", (64, 64), "grey").save(photo)
    steps = count // 3
    settings = planner.choose_settings(
        trigger="momo", steps=steps + ticks + 1, preview_every=steps // 4, preview_prompts=("momo",)
    )
    run = create_run(settings, [photo])
    rng = random.Random(0)
    run.append(events.Started(steps=settings.steps, time=1.8e9))
    with open(run.events_path, "a", encoding="utf-8") as log:
        for step in range(1, steps + 1):
            log.writelines(events.to_json(event) + "\n" for event in _step(step, settings, rng))
    for step in range(0, steps, settings.preview_every):
        _picture(run, step, photo)
    with processes.held(run.lock_path):
        figures = _watch(run, settings, steps, ticks, rng)
    return {
        "events": count,
        "log_mb": round(run.events_path.stat().st_size / 1e6, 1),
        **figures,
    }


def _watch(run: Run, settings: Settings, steps: int, ticks: int, rng: random.Random) -> dict:
    """Append events to a run, one step a tick. Return what a tab costs."""
    from blockskip.studio import screen

    began = time.perf_counter()
    tokens = screen.page_updates(run.name, "")[-1]
    first = time.perf_counter() - began
    tick_ms, tick_bytes = [], []
    for step in range(steps + 1, steps + ticks + 1):
        for event in _step(step, settings, rng):
            run.append(event)
        began = time.perf_counter()
        updates = screen.page_updates(run.name, tokens)
        tick_bytes.append(len(json.dumps(updates)))
        tick_ms.append(1000 * (time.perf_counter() - began))
        tokens = updates[-1] if isinstance(updates[-1], str) else tokens
    return {
        "first_look_s": round(first, 2),
        "tick_ms_median": round(statistics.median(tick_ms), 2),
        "tick_ms_most": round(max(tick_ms), 2),
        "tick_bytes_most": max(tick_bytes),
    }


def _step(step: int, settings: Settings, rng: random.Random) -> list[events.Event]:
    now = 1.8e9 + step
    return [
        events.Loss(step=step, loss=0.3 + rng.random(), seconds=0.5, time=now),
        events.Progress(stage=stages.TRAIN, n=step, total=settings.steps, eta_s=100.0, time=now),
        events.Memory(
            rss_gib=1 + rng.random(),
            ram_used_gib=7 + rng.random(),
            ram_total_gib=16.0,
            vram_gib=6 + rng.random(),
            vram_used_gib=7 + rng.random(),
            vram_total_gib=12.0,
            disk_free_gib=50.0,
            disk_run_gib=0.1,
            time=now,
        ),
    ]


def _picture(run: Run, step: int, photo: Path) -> None:
    path = run.previews_dir / f"step-{step:05d}" / "00.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(photo.read_bytes())
    relative = path.relative_to(run.folder).as_posix()
    run.append(events.Image(step=step, prompt="momo", path=relative, index=0, time=1.8e9 + step))


if __name__ == "__main__":
    main()
