"""A run has one worker, known by the lock that it holds; what else happens to it waits its turn."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from helpers import racing_starts

from blockskip.core import events, processes
from blockskip.core.errors import UserError, WrongState
from blockskip.core.events import Failed
from blockskip.core.settings import Settings
from blockskip.runs import (
    failure,
    image_requests,
    run_queue,
    start_gate,
    storage,
    worker_entry,
)
from blockskip.runs import run as run_module
from blockskip.runs.run import create_run, find_run, list_runs
from blockskip.studio import actions, run_state


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose worker waits for a file “end”. It ends with the test."""
    monkeypatch.setattr(run_module, "WORKER", racing_starts.STUB)
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"not looked at here")
    made = create_run(Settings(), [photo], "one")
    yield made
    for one in list_runs():
        processes.kill(one.worker())


def test_of_simultaneous_starts_one_works(tmp_path):
    """Three processes with two threads each; the long run makes 200 races."""
    assert racing_starts.races(8, tmp_path) == {
        "told": {"started": 8, "running": 40},
        "workers": {1: 8},
    }


def test_without_the_gate_the_lock_decides(run, monkeypatch):
    """A start from another data folder, or by hand, passes another gate or none."""
    monkeypatch.setattr(run_module.Run, "state", lambda self: "new")
    process = run.start()
    with pytest.raises(WrongState, match="“one” is running"):
        run.start()
    assert run.worker().pid == process.pid
    assert (run.folder / "proof").read_text().splitlines() == [f"{process.pid} begun"]


def test_clocks_files_and_marks_do_not_change_who_works(run, monkeypatch):
    process = run.start()
    start_time = psutil.Process.create_time
    for hours in (-30, 30):
        monkeypatch.setattr(
            psutil.Process, "create_time", lambda self, h=hours: start_time(self) + 3600 * h
        )
        assert run.state() == "running" and run.worker().pid == process.pid
    for text in ("", "{}", '{"pid": 1}', '{"pid": "x", "create_time": []}', "[" * 9999):
        (run.folder / "worker.json").write_text(text)
        assert run.worker().pid == process.pid
    (run.folder / "worker.json").unlink()
    with pytest.raises(WrongState, match="Stop it before deleting"):
        storage.delete("one")
    with pytest.raises(WrongState, match="Stop it before renaming"):
        storage.rename("one", "two")
    with pytest.raises(WrongState, match="Pause it first"):
        run.set_total_steps(9999)
    process.kill()
    process.wait()
    assert run.worker() is None and run.state() == "crashed"
    assert storage.rename("one", "two").worker() is None
    storage.delete("two")


def test_an_old_number_in_the_lock_is_nobody(run):
    """The id was given to another process after the worker's end; a copied folder brings it too."""
    run.lock_path.write_bytes(b"\0%d\n" % os.getpid())
    assert run.worker() is None and run.state() == "crashed"
    assert run.start().pid == run.worker().pid


def test_asking_is_no_holding(run):
    """Many tabs ask all the time whether a run is worked on, and nobody is in a starter's way."""
    stop = threading.Event()
    seen = []

    def ask():
        while not stop.is_set():
            seen.append(run.worker())

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    while len(seen) < 50:
        assert run.worker() is None
    process = run.start()
    assert run.worker().pid == process.pid
    stop.set()
    for asker in askers:
        asker.join()
    assert {one and one.pid for one in seen} <= {None, process.pid}


def test_a_start_waits_for_who_deletes_and_then_finds_nothing(run):
    told = []

    def start():
        try:
            run.start()
        except UserError as error:
            told.append(type(error).__name__)

    with start_gate.starting():
        starter = threading.Thread(target=start)
        starter.start()
        storage.delete("one")
    starter.join()
    assert told and not run.folder.exists() and list_runs() == []


def test_one_trains_whoever_starts_it(run, tmp_path):
    """In the studio one training runs at a time, also if the terminal starts one meanwhile."""
    other = create_run(Settings(), [tmp_path / "photo.png"], "two")
    words = "import sys; from blockskip.runs import run as r; r.WORKER = sys.argv[2]; "
    words += "r.Run(r.Path(sys.argv[1])).start()"
    with start_gate.starting():
        terminal = subprocess.Popen(
            [sys.executable, "-c", words, str(run.folder), racing_starts.STUB],
            cwd=run_module.processes.ROOT,
            env=processes.child_environment(online=False),
        )
        run_state.start(other)  # the studio was first: the terminal waits for its turn
    assert terminal.wait(60) == 0
    with pytest.raises(WrongState, match="is running"):
        actions.resume("one")
    assert find_run("one").worker() is not None and other.worker() is not None


def test_a_worker_that_cannot_import_says_why(run, monkeypatch, tmp_path):
    """RAM may run out before any code of the training runs."""
    code = (
        "import sys; from blockskip.runs import worker_entry\n"
        "class Empty:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': raise ImportError(sys.argv[2])\n"
        "sys.meta_path.insert(0, Empty()); sys.exit(worker_entry.main(sys.argv[1]))"
    )
    said = {
        "libtorch_cpu.so: failed to map segment: Cannot allocate memory": "OutOfMemory",
        "DLL load failed while importing _C: The paging file is too small": "OutOfMemory",
        "libgomp.so: cannot allocate memory in static TLS block": "Unexpected",
    }
    for text, kind in said.items():
        words = [sys.executable, "-c", code, str(run.folder), text]
        done = subprocess.run(words, cwd=processes.ROOT, env=processes.child_environment(False))
        failed = run.events()[0][-1]
        assert done.returncode == 1 and isinstance(failed, Failed) and failed.kind == kind
        assert run.state() == "failed"


def test_pictures_are_made_by_one_process(run, monkeypatch):
    """Its lock is taken before torch is imported, and a killed one frees it."""
    image_requests.enqueue(run, "a cat", 1, 1.0, 1)
    with processes.held(image_requests.lock(run)):
        assert run.image_worker().pid == os.getpid()
        assert (
            processes.start_holder(
                "blockskip.runs.image_process", [str(run.folder)], run.folder / "painter.log"
            )
            is None
        )
    assert run.image_worker() is None


def test_a_worker_that_dies_at_once_is_told(run, monkeypatch):
    monkeypatch.setattr(run_module, "WORKER", "blockskip.no_such_module")
    assert run.start().wait() == 1
    assert run.state() == "crashed" and run.worker() is None
    assert "No module named blockskip.no_such_module" in (run.folder / "worker.log").read_text()


def test_a_training_that_finds_the_disk_full_says_so(run, monkeypatch):
    """Nothing can be written then, neither its lock nor a sentence: an empty file tells."""
    write = Path.write_bytes

    def full(path, data=b"x", *_, **__):
        if data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        patch.setattr(failure, "record", lambda *_: False)
        patch.setattr(processes, "held", full)
        patch.setattr(run_queue, "advance_quietly", lambda: None)
        assert worker_entry.main(str(run.folder)) == 1
    assert (run.folder / "failure.json").read_bytes() == b""
    assert failure.read(run.folder).kind == "DiskFull" and run.state() == "failed"
    run.append(events.Started(steps=1, device="cpu", resumed_from=0))
    os.utime(run.folder / "failure.json", (1, 1))
    assert failure.read(run.folder) is None, "it went on, so that was not its end"
