"""Processes killed at any file operation: what comes after a resume is equal to the bit, and
nothing is left behind."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus import killed
from corpus.cases import DIFFERENT, LEFT, LOST, Case, demand
from filelock import FileLock, Timeout
from helpers import fake_feed, hub_server
from helpers.demo_run import DEMO
from helpers.scratch import scratch
from PIL import Image, ImageChops

from blockskip.core import events
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import storage
from blockskip.runs.run import Run, create_run, list_runs

NAME = "pet"
KILLS = {"train": 36, "export": 6, "pictures": 8, "prepare": 8, "download": 8}
PROMPTS = ("a photo of sks cat", "a photo of sks cat in the snow")
# files that differ from run to run, or that tell how it went
LOGS = ("killed.log", "worker.log", "painter.log", "control.json")


@dataclass(frozen=True)
class Whole:
    """Work that nothing interrupts. points: operations at which to kill it, (number, path). files:
    path in the data folder → content."""

    points: list[tuple[int, str]]
    files: dict[str, bytes]


def cases(seed: int) -> list[Case]:
    """Return all kills, each at an operation of its own, over the whole length of the work."""
    found = []
    for work, count in KILLS.items():
        for number in range(count):
            share = (number + random.Random(f"{seed} {work} {number}").random()) / count
            again = share / 2 if work == "train" and number % 8 == 7 else 0.0
            build, judged = _killed(work, share, again), functools.partial(check, work)
            found.append(Case(f"kill-{work}-{number:02d}", f"kills: {work}", build, judged))
    return found


@contextlib.contextmanager
def in_data(data: Path) -> Any:
    """Context manager in which this process uses a data folder."""
    before = os.environ.get("BLOCKSKIP_DATA", "")
    os.environ["BLOCKSKIP_DATA"] = str(data)
    try:
        yield
    finally:
        os.environ["BLOCKSKIP_DATA"] = before


def environment(data: Path) -> dict[str, str]:
    """Return what a process of the program needs to use this data folder."""
    names = {"BLOCKSKIP_DATA": str(data), "GRADIO_TEMP_DIR": str(data / "gradio")}
    return names | {"HF_HOME": str(data.parent / "hf"), "NO_PROXY": "127.0.0.1"}


def new_run(data: Path, steps: int = 4) -> Run:
    """Create a short run on the demo model: two windows, a checkpoint at each step."""
    with in_data(data):
        settings = choose_settings(
            steps=steps,
            batch=1,
            window_steps=2,
            checkpoint_every=1,
            preview_every=2,
            preview_steps=1,
            preview_prompts=PROMPTS[:1],
            seed=1,
        )
        photos = find_photos([sorted(DEMO.glob("*/"))[0]])[:2]
        return create_run(settings, photos, NAME)


@functools.cache
def untrained() -> Path:
    """Return a data folder with a new run."""
    data = scratch("new") / "data"
    new_run(data)
    return data


@functools.cache
def trained() -> Path:
    """Return a data folder with the run trained to its end."""
    data = scratch("trained") / "data"
    shutil.copytree(untrained(), data)
    code = killed.run("train", (str(data / "runs" / NAME),), environment(data))
    assert code == 0, (data / "killed.log").read_text(encoding="utf-8")
    return data


@functools.cache
def hub_endpoint() -> str:
    """Return the address of a hub with the demo model, served as long as this process lives."""
    found = [ASSETS / "demo-model" / "model_index.json", *(ASSETS / "demo-model").glob("*/*.*")]
    files = {p.relative_to(ASSETS / "demo-model").as_posix(): p.read_bytes() for p in found}
    return _keep(hub_server.serve(hub_server.Hub("some-lab/Tiny-FLUX", files)))


_kept = contextlib.ExitStack()
atexit.register(_kept.close)  # while its thread still lives, for which closing waits


def _keep(manager: Any) -> Any:
    return _kept.enter_context(manager)


def start_folder(work: str, data: Path) -> tuple:
    """Write what the work begins with into a data folder. Returns the work's arguments."""
    folder = str(data / "runs" / NAME)
    if work == "train":
        shutil.copytree(untrained(), data)
        return (folder,)
    if work in ("export", "pictures"):
        shutil.copytree(trained(), data)
        (data / "killed.log").unlink()
        return (folder, "diffusers") if work == "export" else (folder, PROMPTS)
    data.mkdir(parents=True)
    if work == "download":
        return (hub_endpoint(),)
    photos = fake_feed.make_photos(data.parent / "photos", 5)
    photos[0].with_suffix(".txt").write_text("on the sofa", encoding="utf-8")
    return (tuple(map(str, [*photos, photos[0].with_suffix(".txt")])),)


@functools.cache
def whole(work: str) -> Whole:
    """Do the work without interruption, once a process."""
    with tempfile.TemporaryDirectory(prefix="corpus-whole-") as name:
        data = Path(name) / "data"
        arguments = start_folder(work, data)
        code = killed.run(work, arguments, environment(data))
        assert code == 0, (data / "killed.log").read_text(encoding="utf-8")
        return Whole(_points(killed.operations(data)), contents(data))


def _points(operations: list[tuple[str, str]]) -> list[tuple[int, str]]:
    """Return operations at which to kill, (number, path): of many writes to one file only the first, a
    middle one and the last."""
    points, number = [], 1
    for (kind, path), group in itertools.groupby(operations):
        count = len(list(group))
        inside = {0, count // 2, count - 1} if kind == "write" else set(range(count))
        points += [(number + offset, path) for offset in sorted(inside)]
        number += count
    return points


def contents(data: Path) -> dict[str, bytes]:
    """Return the files of a data folder, without logs and locks."""
    paths = (path for path in sorted(data.rglob("*")) if path.is_file() and path.name not in LOGS)
    paths = (path for path in paths if path.name != "lock" and path.suffix != ".lock")
    return {path.relative_to(data).as_posix(): path.read_bytes() for path in paths}


def _killed(work: str, share: float, again: float) -> Callable[[Path], tuple[Path, tuple]]:
    """Return a builder that kills the work after a share of its operations, and then once more."""

    def build(folder: Path) -> tuple[Path, tuple]:
        data, points = folder / "data", whole(work).points
        at, _ = points[int(share * len(points))]
        for earlier in range(0, 60, 10):  # how often memory is logged depends on the time
            shutil.rmtree(data, ignore_errors=True)
            arguments = start_folder(work, data)
            code = killed.run(work, arguments, environment(data), max(1, at - earlier))
            if code == killed.KILLED:
                break
        else:
            raise AssertionError(f"{work} was not killed at operation {at}: {code}")
        if again:
            killed.run(work, arguments, environment(data), points[int(again * len(points))][0])
        return data, arguments

    return build


def check(work: str, subject: tuple[Path, tuple]) -> None:
    """Do the work again, and compare everything with work that was not interrupted."""
    data, arguments = subject
    with in_data(data):
        if work == "train":
            (run,) = list_runs() or (None,)
            demand(
                run is not None and run.state() in ("new", "crashed", "done"), "not listed", LOST
            )
        code = killed.run(work, arguments, environment(data))
        finished = work == "train" and list_runs()[0].state() == "done"
        demand(code == 0 or finished, f"it does not go on: {_why(data)}", LOST)
        if work != "train":
            storage.clean_all()
        demand(work == "download" or work == "prepare" or len(list_runs()) == 1, "no run", LOST)
    compare(work, whole(work).files, contents(data))
    check_locks(data)


def _why(data: Path) -> str:
    run = Run(data / "runs" / NAME)
    failed = [event.title for event in run.events()[0] if isinstance(event, events.Failed)]
    log = (data / "killed.log").read_text(encoding="utf-8", errors="replace")
    return failed[-1] if failed else log.strip()[-200:]


def compare(work: str, right: dict[str, bytes], got: dict[str, bytes]) -> None:
    """Raise Wrong if results differ or files are left behind."""
    results = [name for name in right if _is_result(name)]
    for name in results:
        demand(name in got, f"{name} is missing", DIFFERENT)
        demand(got[name] == right[name], f"{name} has other bytes", DIFFERENT)
    if work == "pictures":
        compare_pictures(right, got)
        return
    left = sorted(set(got) - set(right))
    demand(not left, f"left behind: {', '.join(left[:4])}", LEFT)


def compare_pictures(right: dict[str, bytes], got: dict[str, bytes]) -> None:
    """Raise Wrong if pictures are missing or differ by more than 2 of 255 levels: two pictures of a
    batch are added up in another order than one alone."""
    images = [
        [Image.open(io.BytesIO(v)) for k, v in sorted(some.items()) if _is_picture(k)]
        for some in (right, got)
    ]
    by_text = [{str(sorted(image.info.items())): image for image in some} for some in images]
    same = len(images[0]) == len(images[1]) and by_text[0].keys() == by_text[1].keys()
    demand(same, f"{len(images[1])} pictures instead of {len(images[0])}", DIFFERENT)
    for text, image in by_text[0].items():
        extrema = ImageChops.difference(image, by_text[1][text]).getextrema()
        demand(max(high for _, high in extrema) <= 2, f"another picture: {text}"[:200], DIFFERENT)


def _is_picture(name: str) -> bool:
    return "/pictures/" in name and name.endswith(".png")


def _is_result(name: str) -> bool:
    return (
        name.endswith(".safetensors") and "/cache/" not in name or name.startswith("draft/photos")
    )


def check_locks(data: Path) -> None:
    """Raise Wrong if a lock of the data folder is held, or a temporary file lies in it."""
    for path in sorted(data.rglob("*")):
        demand(path.suffix not in (".tmp", ".part"), f"left behind: {path.name}", LEFT)
        if path.name == "lock" or path.suffix == ".lock":
            lock = FileLock(path, blocking=False, preserve_lock_file=True)
            with contextlib.suppress(Timeout):
                lock.acquire()
            demand(lock.is_locked, f"{path.name} is held", LEFT)
            lock.release()
