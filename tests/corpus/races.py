"""Racing starts of one run, and two studios on one port."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus import kills
from corpus.cases import LEFT, TRACEBACK, Case, Wrong, demand
from filelock import FileLock
from helpers.scratch import scratch

from blockskip.runs.run import Run

ROOT = Path(__file__).resolve().parents[2]
RACERS = 4
RACES = 200
MOST_S = 120
BEGAN, GATE = "began.txt", "gate"

# A racer waits for the gate, starts the run as the studio and the terminal do, and stays until the
# worker that it started has begun or ended.
RACER = """
import sys
from pathlib import Path
from filelock import FileLock
from helpers.scratch import scratch
from corpus import race_worker
from helpers.scratch import scratch
from blockskip.core.errors import UserError
from blockskip.runs.run import Run

for line in sys.stdin:
    run = Run(Path(line.strip()))
    print("ready", flush=True)
    sys.stdin.readline()
    sys.executable = race_worker.executable()
    try:
        process = run.start()
    except UserError as error:
        print(error.kind, flush=True)
    except Exception as error:
        print(repr(error).replace("\\n", " "), flush=True)
    else:
        race_worker.wait_until_begun(run.folder, process)
        print("started", flush=True)
"""
STUDIO = """
import sys
from blockskip.studio.app import main
sys.exit(main(port=int(sys.argv[1]), browser=False, data_dir=sys.argv[2]))
"""


def cases(seed: int) -> list[Case]:
    """Return all races."""
    starts = [
        Case(f"race-start-{number:03d}", "racing starts of one run", _data, _check_start)
        for number in range(RACES)
    ]
    studios = [
        Case(f"race-studio-{number}", "two studios on one port", _data, _check_studios)
        for number in range(2)
    ]
    return [*starts, *studios]


def _data(folder: Path) -> Path:
    kills.new_run(folder / "data")
    return folder / "data"


_racers: list[subprocess.Popen] = []


def _race(data: Path, run: Run) -> list[str]:
    """Let all racers start the run at once. Returns what each was told."""
    if not _racers:
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        names = {**os.environ, "PYTHONPATH": paths, "BLOCKSKIP_DATA": str(scratch("races"))}
        words: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", RACER]
        _racers.extend(subprocess.Popen(command, env=names, **words) for _ in range(RACERS))
    for racer in _racers:
        _tell(racer, str(run.folder))
    for racer in _racers:
        assert racer.stdout and racer.stdout.readline() == "ready\n"
    for racer in _racers:
        _tell(racer, "go")
    return [racer.stdout.readline().strip() for racer in _racers if racer.stdout]


def _tell(racer: subprocess.Popen, line: str) -> None:
    assert racer.stdin
    racer.stdin.write(line + "\n")
    racer.stdin.flush()


def _check_start(data: Path) -> None:
    """One worker begins; everybody else is told that the run is running."""
    run, gate = Run(data / "runs" / kills.NAME), FileLock(data / GATE)
    with gate:  # no worker ends before all racers are back
        said = _race(data, run)
        began = (run.folder / BEGAN).read_text(encoding="utf-8").split()
    for word in said:
        demand(word in ("started", "WorkerStarted", "WrongState"), f"told: {word}", TRACEBACK)
    demand(len(began) == 1, f"{len(began)} workers at once; told: {said}")
    demand(said.count("started") == 1, f"{said.count('started')} were told that they started it")
    with gate:  # the worker has ended, or lets us in before it began to wait
        pass
    left = [path.name for path in run.folder.rglob("*.tmp")]
    demand(not left, f"left behind: {left}", LEFT)


def _check_studios(data: Path) -> None:
    """The second of two studios of one data folder says where the first is, and ends well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    names = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, "-c", STUDIO, port, str(data)]
    with _ended([subprocess.Popen(command, env=names, **pipes) for _ in range(2)]) as both:
        loser = _first_to_end(both)
        text, _ = loser.communicate()
        demand("Traceback" not in text, text[-300:], TRACEBACK)
        demand("GRADIO_SERVER_PORT" not in text, text[-300:])
        demand(
            f":{port}" in text and "open" in text.lower(), f"it does not say where: {text[-200:]}"
        )
        demand(loser.returncode == 0, f"exit code {loser.returncode}")


def _first_to_end(both: list[subprocess.Popen]) -> subprocess.Popen:
    for _ in range(MOST_S * 2):
        for process in both:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.25)
                return process
    raise Wrong("silently wrong", "both studios are open")


@contextlib.contextmanager
def _ended(processes: list[subprocess.Popen]) -> Iterator[list[subprocess.Popen]]:
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
