"""Start one run from several processes and threads at once: exactly one worker works.

`PYTHONPATH=.:tests python -m helpers.racing_starts 200` races that many times and prints what it
counted, as JSON. The worker is helpers/stub_worker.py.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from blockskip.core.errors import UserError, WrongState
from blockskip.core.settings import Settings
from blockskip.runs import run as run_module
from blockskip.runs.run import Run, create_run

STUB = "tests.helpers.stub_worker"


def contender(conn: object, threads: int) -> None:
    """Start each run that is sent through the pipe, from several threads at once, until None."""
    run_module.WORKER = STUB
    while folder := conn.recv():
        barrier, said, children = threading.Barrier(threads), [], []
        words = (Run(Path(folder)), barrier, said, children)
        each = [threading.Thread(target=start, args=words) for _ in range(threads)]
        for thread in each:
            thread.start()
        for thread in each:
            thread.join()
        conn.send(said)
        conn.recv()  # the run is to end now
        for child in children:
            child.wait()
        conn.send("ended")


def start(run: Run, barrier: threading.Barrier, said: list, children: list) -> None:
    barrier.wait()
    try:
        children.append(run.start())
        said.append("started")
    except WrongState as error:
        said.append("running" if "is running" in error.title else error.title)
    except UserError as error:
        said.append(error.title)


def race(run: Run, contenders: list) -> list[str]:
    """Return what the contenders were told, after the worker has ended."""
    for conn in contenders:
        conn.send(str(run.folder))
    said = [word for conn in contenders for word in conn.recv()]
    assert run.worker() is not None and run.state() == "running"
    (run.folder / "end").touch()
    for conn in contenders:
        conn.send("end")
    for conn in contenders:
        conn.recv()
    assert run.worker() is None and not (run.folder / "busy").exists()
    return said


def races(count: int, folder: Path, processes: int = 3, threads: int = 2) -> dict:
    """Race `count` times. Return {told: {words: number}, workers: {proven a race: races}}."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(processes)]
    children = [
        context.Process(target=contender, args=(theirs, threads), daemon=True)
        for _, theirs in pipes
    ]
    for child in children:
        child.start()
    contenders = [ours for ours, _ in pipes]
    photo = folder / "photo.png"
    photo.write_bytes(b"not looked at here")
    told, workers = Counter(), Counter()
    for number in range(count):
        run = create_run(Settings(), [photo], f"race {number}")
        told.update(race(run, contenders))
        proof = (run.folder / "proof").read_text(encoding="utf-8").split("\n")
        workers[sum("begun" in line for line in proof)] += 1
    for conn in contenders:
        conn.send(None)
    for child in children:
        child.join()
    return {"told": dict(told), "workers": dict(workers)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.environ["BLOCKSKIP_DATA"] = place
        print(json.dumps(races(int(sys.argv[1]), Path(place))))
