"""Sleep and wake: clocks that jump, and processes that stand still for longer than any time-out."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import psutil
from corpus import killed_work
from endurance import studio
from helpers import hub_server

from blockskip.core import presets, processes
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.models.sources import download_process
from blockskip.runs import image_requests
from blockskip.runs.run import Run, create_run
from blockskip.studio import screen

HOUR = 3600.0
# seconds added to the true time, one after the other: a night, and back; a wrong year, and back;
# summer time; a clock that was empty
JUMPS = (0.0, 9 * HOUR, 0.0, 400 * 24 * HOUR, 0.0, HOUR, 0.0, -1.7e9, 0.0, -9 * HOUR)
STILL_S = 130.0  # longer than any time-out of the program that a user does not set
WITH_JUMPS = """
import sys, time
real, jumps, calls = time.time, eval(sys.argv[2]), 0
def jumping():
    global calls
    calls += 1
    return max(1.0, real() + jumps[calls // 7 % len(jumps)])
time.time = jumping
from blockskip.runs import worker_entry
sys.exit(worker_entry.main(sys.argv[1]))
"""


def new_run(data: Path, name: str) -> Run:
    """Create a short run that passes through all stages."""
    os.environ["BLOCKSKIP_DATA"] = str(data)
    settings = choose_settings(
        steps=12, batch=1, window_steps=4, checkpoint_every=4, preview_every=4, preview_steps=1,
        preview_prompts=("a photo of sks cat",), seed=1,
    )  # fmt: skip
    return create_run(
        settings, find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2], name
    )


def trained_undisturbed(data: Path) -> bytes:
    """Return the LoRA of the same run when nothing happens."""
    run = new_run(data, "undisturbed")
    assert run.start().wait(300) == 0
    return run.export_path().read_bytes()


def clock_jumps(data: Path, right: bytes) -> list[tuple[str, str]]:
    """Train while the worker's clock and the page's jump. Returns (what, how it went)."""
    run = new_run(data, "jumping")
    words = [sys.executable, "-c", WITH_JUMPS, str(run.folder), repr(JUMPS)]
    with open(run.folder / "worker.log", "ab") as log:
        worker = subprocess.Popen(
            words, cwd=processes.ROOT, env=processes.child_environment(), stdout=log, stderr=log
        )
    real, shown = time.time, 0
    while worker.poll() is None:
        for jump in JUMPS:
            with mock.patch("time.time", lambda jump=jump: max(1.0, real() + jump)):
                for view in (run.name, "*", ""):
                    parts = screen.page_updates(view, "")
                    assert "unexpected" not in str(parts).lower(), parts
                    shown += 1
        time.sleep(0.2)
    same = _same_tensors(run, right)
    return [
        (f"a worker whose clock jumps {len(JUMPS)} ways, by up to 54 years", same),
        (f"{shown} views of the page meanwhile, each with another clock", "all as ever"),
    ]


def _same_tensors(run: Run, right: bytes) -> str:
    from safetensors.torch import load

    assert run.state() == "done", run.state()
    ours, theirs = load(run.export_path().read_bytes()), load(right)
    same = ours.keys() == theirs.keys() and all(ours[n].equal(theirs[n]) for n in theirs)
    return "the same LoRA" if same else "ANOTHER LORA"


@contextlib.contextmanager
def standing_still(*stopped: psutil.Process, seconds: float) -> Iterator[None]:
    """Context manager: these processes stand still while it is entered, and so long at the least."""
    began = time.monotonic()
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(max(0.0, began + seconds - time.monotonic()))
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


def suspended(
    data: Path, right: bytes, seconds: float, tell: Callable[[int], None]
) -> list[tuple[str, str]]:
    """Let a studio, a worker, a download and the process of pictures stand still. Returns (what, how
    it went)."""
    said = []
    with _hub(data) as row, studio.opened(data) as (server, own):
        run = new_run(data, "suspended")
        worker = psutil.Process(run.start().pid)
        _fetch(data)
        _until(lambda: download_process.progress(row))
        fetching = download_process._process(row)
        _until(lambda: run.step() > 0 or worker.status() == psutil.STATUS_ZOMBIE)
        tell(1)
        with standing_still(own, worker, fetching, seconds=seconds):
            assert run.state() == "running", run.state()
            assert download_process.progress(row).state == "running"
            download_process.start(row)  # one is there already
        hub_server_go(row)
        _until(lambda: run.worker() is None)
        said.append(("the worker", _same_tensors(run, right)))
        _until(lambda: download_process._process(row) is None)
        ended = download_process.progress(row)
        said.append(("a download", ended.state if ended else "NOTHING"))
        tell(2)
        image_requests.submit(run, "a photo of sks cat", 1)
        painter = run.image_worker()
        assert painter is not None
        tab = studio.Tab(server, studio.tick_number(server), "tab", run.name)
        with standing_still(own, painter, seconds=seconds):
            assert image_requests.pending(run)
        _until(lambda: not image_requests.pending(run))
        states = {request.state for request in image_requests.all_requests(run)}
        said.append(("the process of pictures", " ".join(states)))
        tab.tick()
        said.append(("the studio", "answers"))
        tell(3)
    return said


_hubs: dict[str, hub_server.Hub] = {}


@contextlib.contextmanager
def _hub(data: Path) -> Iterator[presets.ModelRow]:
    """Context manager: a hub with the demo model, whose big files stop midway until
    `hub_server_go`."""
    place = ASSETS / "demo-model"
    found = [place / "model_index.json", *place.glob("*/*.*")]
    hub = hub_server.Hub(
        killed_work.REPOSITORY, {p.relative_to(place).as_posix(): p.read_bytes() for p in found}
    )
    hub.hold_after = 1000
    row = killed_work.download_row()
    variables = {"HF_HOME": str(data / "hf"), "NO_PROXY": "127.0.0.1"}
    with (
        hub_server.serve(hub) as endpoint,
        mock.patch.dict(os.environ, variables | {"HF_ENDPOINT": endpoint}),
    ):
        _hubs[row.name] = hub
        yield row


def _fetch(data: Path) -> subprocess.Popen:
    """Start the download in a process of its own."""
    words = "import sys; from corpus import killed_work; killed_work.download(sys.argv[1])"
    return subprocess.Popen(
        [sys.executable, "-c", words, os.environ["HF_ENDPOINT"]],
        env=processes.child_environment(True) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def hub_server_go(row: presets.ModelRow) -> None:
    """Let the download go on."""
    _hubs[row.name].go.set()


def _until(true: Callable[[], object], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it does not go on"
        time.sleep(0.1)


def all_of_it(data: Path, tell: Callable[[int], None]) -> dict:
    """Let clocks jump and processes stand still. Returns (what, how it went)."""
    os.environ["OMP_NUM_THREADS"] = "1"
    right = trained_undisturbed(data)
    said = clock_jumps(data, right) + suspended(data, right, STILL_S, tell)
    tell(4)
    return {"said": said}
