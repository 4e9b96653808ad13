"""What is recorded until power is cut: all that a user does, with marks where the program has told
that something is done. And what is done again afterwards, when the power is back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from corpus import killed_work, recorder
from helpers.demo_run import DEMO

from blockskip.core import presets
from blockskip.core.events import Done, Event, Image, Loss, Saved, Stopped
from blockskip.core.paths import data_dir, make_data_dir
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.models.sources import download_process, hub, registry
from blockskip.runs import control, image_requests, results
from blockskip.runs.run import Run, create_run
from blockskip.studio import access, run_preferences

NAME = "pet"
STEPS = 4
PAUSE_AT = 3
PROMPTS = ("a photo of sks cat", "a photo of sks cat in the snow")
SYNC_BYTES = 1 << 16  # of a partial file


def record(work: str, base: str, journal: str, arguments: tuple) -> int:
    """Do a work of this module and record it. base: a folder with nothing but the data folder."""
    with recorder.recording(Path(base), Path(journal)):
        recorder.mark("begun")
        globals()[work](base, *arguments)
    return 0


def life(base: str) -> None:
    """Train with a pause, export, and make pictures."""
    run = _new_run(preview_every=2, preview_prompts=PROMPTS[:1])
    recorder.mark("created")
    with _told(pause_at=PAUSE_AT):
        _train(run)
    recorder.mark("paused")
    with _told():
        _train(run)
    recorder.mark("done")
    results.export_run(run, "diffusers", Path(base) / "loras" / "pet.safetensors")
    recorder.mark("exported")
    run_preferences.save(run, pet="Momo")
    recorder.mark("preferred")
    image_requests.enqueue(run, PROMPTS[1], 3, 1.0, run.step())
    recorder.mark("requested")
    killed_work.pictures(str(run.folder), ())
    recorder.mark("pictures")


def quantised(base: str) -> None:
    """Train a few steps with blocks in 8 bits, whose cache all runs share."""
    run = _new_run(steps=2, preview_every=0, preview_prompts=(), precision="int8")
    recorder.mark("created")
    with _told():
        _train(run)
    recorder.mark("done")


def prepare(base: str, photos: tuple[str, ...]) -> None:
    """Add photos to the studio's draft and answer a question."""
    make_data_dir()
    killed_work.prepare(photos)
    recorder.mark("prepared")


def settings(base: str) -> None:
    """Choose what is kept for all runs."""
    make_data_dir()
    access.create(data_dir())
    recorder.mark("opened")
    row = presets.model_row("demo")
    registry.save_selection(row, sources.find_model(row))
    recorder.mark("chosen")
    registry.save_comfyui_folders([Path(base)])
    recorder.mark("found")


def download(base: str, endpoint: str) -> None:
    """Download the tiny model."""
    make_data_dir()
    fetch(endpoint)
    recorder.mark("downloaded")


def fetch(endpoint: str) -> int:
    """Download the tiny model, or what is missing of it."""
    hub.SYNC_BYTES, download_process._CHUNK_BYTES = SYNC_BYTES, SYNC_BYTES // 2
    return killed_work.download(endpoint)


def finish(folder: str) -> int:
    """Train until the end, as after a click on Resume, which forgets a pause that was asked for."""
    Run(Path(folder)).control_path.unlink(missing_ok=True)
    return killed_work.train(folder)


def _new_run(**options: object) -> Run:
    wanted = {"steps": STEPS, "batch": 1, "window_steps": 2, "checkpoint_every": 1}
    wanted |= {"preview_steps": 1, "seed": 1, "s_max_px": 128, "s_min_px": 64}
    photos = find_photos([sorted(DEMO.glob("*/"))[0]])[:2]
    return create_run(choose_settings(**wanted | options), photos, NAME)  # type: ignore[arg-type]


def _train(run: Run) -> None:
    """Train as `Run.start` does it."""
    run.control_path.unlink(missing_ok=True)
    run.lock_path.touch()
    code = killed_work.train(str(run.folder))
    assert code in (0, 130), code


@contextlib.contextmanager
def _told(pause_at: int = 0) -> Iterator[None]:
    """Context manager that marks what the worker tells, and pauses it after a step."""
    append = Run.append

    def told(run: Run, event: Event) -> None:
        append(run, event)
        if isinstance(event, Saved | Image | Done | Stopped):
            recorder.mark(type(event).__name__)
        if isinstance(event, Loss) and event.step == pause_at:
            control.send(run.control_path, "pause")

    Run.append = told  # type: ignore[method-assign]
    try:
        yield
    finally:
        Run.append = append  # type: ignore[method-assign]
