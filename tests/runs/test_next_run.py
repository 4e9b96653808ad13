"""A worker that is done trains the next run with the model that is open, or waits for one, and gives
its memory back at once to whoever needs it."""

import errno
import threading
import time
from contextlib import ExitStack

import psutil
import pytest
from helpers import fake_feed, warm_worker
from helpers.waiting import until

from blockskip.core import files, idle_worker, processes
from blockskip.core.paths import data_dir
from blockskip.memory import monitor
from blockskip.memory.planning import request
from blockskip.runs import image_requests, next_run, run_queue, storage
from blockskip.runs import run as run_module
from blockskip.runs.run import Run, create_run, find_run
from blockskip.studio import run_state


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    monkeypatch.setattr(run_module, "WORKER", warm_worker.NAME)
    monkeypatch.setattr(idle_worker, "_ANSWER_S", 60.0)
    yield
    idle_worker.free()


def new_run(tmp_path, name: str, **changes) -> Run:
    photos = fake_feed.make_photos(tmp_path / "pet", 1, 16)
    made = fake_feed.make_run(photos, name=name)
    settings = made.settings().changed(**changes)
    storage.delete(name)
    return create_run(settings, photos, name)


def trained(run: Run) -> int:
    """Wait until a run is done, and return the id of the process that trained it."""
    until(lambda: run.state() in ("done", "failed"))
    return int((run.folder / "pid").read_text())


def waits() -> bool:
    return until(lambda: bool(idle_worker.waiting_now()))


def test_the_queue_goes_on_in_one_process_as_long_as_the_model_is_the_same(tmp_path):
    runs = [
        new_run(tmp_path, "a"),
        new_run(tmp_path, "b", seed=5, steps=7),
        new_run(tmp_path, "c", precision="int8"),
        new_run(tmp_path, "d", precision="int8", seed=warm_worker.NO_PHOTOS),
        new_run(tmp_path, "e", precision="int8", seed=warm_worker.BROKEN_SEED),
        new_run(tmp_path, "f", precision="int8"),
    ]
    for run in runs:
        run_queue.add(run)
    run_queue.advance()
    pids = [trained(run) for run in runs]
    a, b, c, d, e, f = pids
    assert a == b != c == d == e != f != a
    states = [find_run(name).state() for name in "abcdef"]
    assert states == ["done", "done", "done", "failed", "failed", "done"]
    for run in runs:
        assert (run.folder / "worker.log").read_text().startswith(f"trains {run.name}\n")
    until(lambda: not psutil.pid_exists(f) or psutil.Process(f).status() == "zombie")
    assert not run_queue.read().names or run_queue.advance() == []


def test_whoever_watches_does_not_start_a_second_worker_in_between(tmp_path):
    """`batch` and every open studio let the queue go on all the time."""
    stop, begun = threading.Event(), []
    runs = [new_run(tmp_path, f"run {k}") for k in range(8)]
    for run in runs:
        run_queue.add(run)

    def watch():
        while not stop.is_set():
            begun.extend(run_queue.advance())

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    pids = {trained(run) for run in runs}
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert len(pids) == 1 and [run.name for run in begun] == ["run 0"]


def test_one_that_waits_is_handed_the_next_run(tmp_path):
    one, two = new_run(tmp_path, "one"), new_run(tmp_path, "two", seed=4)
    process = one.start(stays=True)
    waits()
    assert one.state() == "done" and one.worker() is None
    assert storage.rename("one", "first").state() == "done", "its folder is not in use"
    assert request.free_vram_gib() == monitor.UNKNOWN
    run_state.start(two)  # as the studio does
    assert trained(two) == process.pid
    waits()
    assert process.poll() is None


@pytest.mark.parametrize("how", ["model", "another version", "it does not answer", "none fits"])
def test_another_model_gets_the_memory_at_once(tmp_path, monkeypatch, how):
    one = new_run(tmp_path, "one")
    two = new_run(tmp_path, "two", **({"precision": "int8"} if how == "model" else {}))
    process = one.start(stays=True)
    waits()
    if how == "another version":
        monkeypatch.setattr(idle_worker, "__version__", "9.9")
    elif how == "it does not answer":
        monkeypatch.setattr(idle_worker, "_ANSWER_S", 0.2)
        psutil.Process(process.pid).suspend()
    elif how == "none fits":
        (one.folder.parent / "two" / "worker.lock").touch()
        monkeypatch.setattr(idle_worker, "hand_over", lambda *_: False)
    fresh = two.start()
    assert fresh is not None and trained(two) == fresh.pid != process.pid
    assert process.wait(10) in (0, -15, -9, 1) and idle_worker.waiting_now() == []


def test_pictures_and_the_user_get_the_memory_at_once(tmp_path):
    run = new_run(tmp_path, "one")
    process = run.start(stays=True)
    waits()
    image_requests.enqueue(run, "a cat", 1, 1.0, 1)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(processes, "start_holder", lambda *_, **__: None)
        image_requests.ensure_worker(run)
    assert idle_worker.waiting_now() == [] and process.wait(10) == 0
    idle_worker.free()  # nobody waits
    assert list(data_dir().glob("idle-*.order")) == []


def test_a_run_that_cannot_be_begun_here_is_not_held(tmp_path, monkeypatch):
    run, lock = new_run(tmp_path, "one"), ExitStack()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(processes, "log_to", full)
    with pytest.raises(OSError, match="No space"):
        next_run._take(run, lock)
    assert run.worker() is None and run.state() == "crashed"


def test_a_training_from_the_terminal_leaves_nobody_behind(tmp_path):
    process = new_run(tmp_path, "one").start()
    assert process.wait(60) == 0 and idle_worker.waiting_now() == []


def test_it_waits_no_longer_than_told_nor_when_others_need_the_memory():
    began = time.monotonic()
    assert idle_worker.next_order("", lambda: False, seconds=0.05) is None
    assert idle_worker.next_order("", lambda: True, seconds=60.0) is None
    assert time.monotonic() - began < 30


def test_who_needs_the_memory(monkeypatch):
    on_card = {1: 2.0}
    monkeypatch.setattr(monitor, "card_processes", lambda: dict(on_card))
    need = next_run._others_need_memory()
    assert not need()
    on_card.clear()  # one has ended
    assert not need()
    on_card[2] = 0.5  # a game
    assert need()
    on_card.clear()
    free = psutil.virtual_memory()._replace(available=1 << 29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert need()


def test_plans_count_its_memory_as_free(monkeypatch, tmp_path):
    usage = monitor.Usage(1.0, 1.0, 16.0, vram_used_gib=9.0, vram_total_gib=12.0)
    monkeypatch.setattr(monitor, "usage", lambda: usage)
    assert request.free_vram_gib() == 3.0
    new_run(tmp_path, "one").start(stays=True)
    waits()
    assert request.free_vram_gib() == 4.5
    idle_worker.free()
    assert request.free_vram_gib() == 3.0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 3}', '{"key": "x"}'])
def test_broken_files_of_one_that_waits_are_as_none(text):
    lock = data_dir() / "idle-any.lock"
    with processes.held(lock):
        lock.with_suffix(".json").write_text(text)
        lock.with_suffix(".order").write_text(text)
        assert idle_worker.waiting_now() == []
        assert idle_worker.next_order("", lambda: False, seconds=0.05) is None
    files.remove(lock.with_suffix(".order"))
