"""A small disk that fills and empties: every writer succeeds or says that the disk is full, and goes
on afterwards with nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from endurance import meters

from blockskip.core import events, processes
from blockskip.core.errors import DiskFull, UserError
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import image_requests, results
from blockskip.runs.run import Run, create_run, list_runs
from blockskip.studio import draft, run_preferences, run_state, screen

DISK_MIB = 96
ROOMS = (0, 0, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 3 << 20, 9 << 20)  # bytes left free
TRAINED_EVERY = 8  # cycles, since a training takes seconds
PET = sorted((ASSETS / "demo-photos").glob("*/"))[0]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Context manager: a disk of DISK_MIB mounted at a folder. Yields whether this user may mount
    one; else writes fail as on a full disk wherever `filled` says so."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=777", "none", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield bool(mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)


@contextlib.contextmanager
def filled(disk: Path, room: int) -> Iterator[None]:
    """Context manager: the disk has about `room` bytes left."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        file.truncate(max(0, file.tell() - room))
    try:
        yield
    finally:
        filler.unlink()


def actions(data: Path, trained: Run) -> dict[str, Callable[[], object]]:
    """Return every writer that a person can set off, by what they do."""
    photos = sorted(PET.glob("*.jpg"))[:3]
    return {
        "photos are added": lambda: draft.add(photos),
        "answers are saved": lambda: draft.save_answers(name="Momo", kind="cat"),
        "a run is made": lambda: create_run(_settings(), find_photos([PET])[:2]),
        "a preference is saved": lambda: run_preferences.save(trained, pet="Momo"),
        "pictures are asked for": lambda: image_requests.enqueue(trained, "a cat", 1, 1.0, 2),
        "a LoRA is exported": lambda: results.export_run(trained, "diffusers"),
        "an event is logged": lambda: trained.append(events.Note(text="full?")),
        "a run is lengthened": lambda: trained.set_total_steps(50),
        "the page is shown": lambda: [screen.page_updates(v, "") for v in ("", "*", trained.name)],
    }


def _settings():
    return choose_settings(
        steps=2, batch=1, preview_every=0, preview_steps=1, preview_prompts=("a cat",), seed=1
    )


def cycles(data: Path, count: int, tell: Callable[[int], None]) -> dict:
    """Fill and empty a disk `count` times. Returns samples of this process and of the folder, what
    each action did, and what was wrong."""
    with small_disk(data) as mounted:
        assert mounted, "this user may not mount a small disk"
        home = data / "home"
        os.environ |= {"BLOCKSKIP_DATA": str(home), "GRADIO_TEMP_DIR": str(home / "gradio")}
        trained = create_run(_settings(), find_photos([PET])[:2], "trained")
        assert _train(trained) == "done"
        me, chance, said = psutil.Process(), random.Random(33), {}
        samples, wrong = [], []
        for number in range(count):
            full = number % TRAINED_EVERY == 0
            before = meters.processor_ms(me)
            run = create_run(_settings(), find_photos([PET])[:2]) if full else None
            with filled(data, chance.choice(ROOMS)):
                for name, act in actions(home, trained).items():
                    how = outcome(act)
                    said.setdefault(name, {}).setdefault(how, 0)
                    said[name][how] += 1
                if run:
                    how = _train(run)
                    said.setdefault("a training begins", {}).setdefault(how, 0)
                    said["a training begins"][how] += 1
            wrong += [f"cycle {number}: {w}" for w in afterwards(home, trained, run)]
            held = meters.of_process(me)
            held["temporary files"] = meters.temporary_files(home)
            samples.append(held | {meters.ANSWER: meters.processor_ms(me) - before})
            tell(number + 1)
    for name, ways in said.items():
        wrong += [f"{name}: {way}" for way in ways if way.startswith(("TRACEBACK", "crashed"))]
    return {"samples": samples, "sizes": [], "said": said, "wrong": wrong}


def outcome(act: Callable[[], object]) -> str:
    """Return how an action went: done, the kind of its refusal, or TRACEBACK."""
    try:
        act()
        return "done"
    except DiskFull:
        return "says that the disk is full"
    except UserError as error:
        return f"{error.kind}: {error.title}" if error.kind == "Unexpected" else "refused"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {error}"


def afterwards(home: Path, trained: Run, begun: Run | None) -> list[str]:
    """Return what is wrong when there is room again: nothing may be lost, refused or left. begun: a
    training during the shortage, which must come to its end now."""
    wrong = []
    for name, act in actions(home, trained).items():
        how = outcome(act)
        if how != "done":
            wrong.append(f"{name} afterwards: {how}")
    if begun and begun.state() != "done" and (how := _train(begun)) != "done":
        wrong.append(f"a training afterwards: {how}")
    for run in list_runs():
        if run.name != "trained":
            run.info(), run_state.read(run)
            shutil.rmtree(run.folder)
    for request in image_requests.all_requests(trained):
        image_requests.delete(trained, request.id)
    trained.events_path.write_bytes(trained.events_path.read_bytes()[:20_000])
    draft.clear()
    left = meters.temporary_files(home)
    return wrong + ([f"{left:.0f} temporary files"] if left else [])


def _train(run: Run) -> str:
    """Let a worker train a run, and return the state of the run with what was said."""
    with open(os.devnull, "wb") as nowhere:
        worker = subprocess.run(
            [sys.executable, "-m", "blockskip.runs.worker_entry", str(run.folder)],
            cwd=processes.ROOT, env=processes.child_environment(), stdout=nowhere, stderr=nowhere,
        )  # fmt: skip
    if worker.returncode == 0:
        return run.state()
    state = run_state.read(run)
    title = getattr(state.end, "title", "")
    return "says that the disk is full" if "disk is full" in title else f"{state.status}: {title}"
