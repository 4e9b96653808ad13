"""The process that describes: a line a photo at once, stopped at any time, one at a time, and out of
the way of a training."""

import json
import os
import time

import psutil
import pytest
from helpers import fake_feed, tiny_captioner
from helpers.fake_model_server import ModelServer, saying
from helpers.hub_server import Hub, serve
from huggingface_hub import constants

from blockskip.core import files, processes
from blockskip.core.errors import OutOfMemory, WrongState
from blockskip.core.repositories import tool_row
from blockskip.models.captioners import found, jobs, process
from blockskip.models.captioners.jobs import Job, Line, ServerChoice
from blockskip.models.sources import download_process, tools
from blockskip.runs import describing
from blockskip.runs import run as runs


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield
    jobs.stop()


@pytest.fixture
def server():
    with ModelServer() as server:
        yield server


def until(true):
    """Wait for something that another process does."""
    deadline = time.monotonic() + 240
    while not (said := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return said


def ended():
    return until(lambda: (now := jobs.progress()) and not now.running and now)


def job(photos, server=None, **said):
    chosen = server and ServerChoice(server.address, "m")
    return Job(photos=tuple(map(str, photos)), class_name="cat", server=chosen, **said)


def test_each_photo_is_told_at_once_and_what_is_stopped_stays(tmp_path, server):
    photos = fake_feed.make_photos(tmp_path / "Fötos 1", 4)
    photos.insert(1, tmp_path / "no photo.jpg")
    photos[1].write_bytes(b"no photo")
    assert jobs.progress() is None and not jobs.is_running()

    def two_then_wait(body):
        if len(server.photos) == 3:
            server.go.wait()
        return saying("The cat with white fur sits on a “rüg”.")

    server.reply = two_then_wait
    asked = job(photos, server, instruction="Name the {class}.")
    jobs.start(asked)
    now = until(lambda: (now := jobs.progress()) and len(now.lines) == 3 and now)
    assert now.running and now.job == asked and now.problem is None and now.eta_s >= 0
    assert [line.photo for line in now.lines] == [str(path) for path in photos[:3]]
    assert [line.caption for line in now.lines] == ["sits on a “rüg”", "", "sits on a “rüg”"]
    assert "not a photo" in now.lines[1].unusable
    assert server.photos[0]["messages"][0]["content"][0]["text"] == "Name the cat."
    with pytest.raises(WrongState, match="being described just now"):
        jobs.start(job(photos[:1], server))
    jobs.stop()
    now = jobs.progress()
    assert not now.running and len(now.lines) == 3 and now.job == asked
    assert now.problem.title == "Describing was stopped."
    server.reply = saying("The cat.")
    jobs.start(job(photos[4:], server))
    now = ended()
    assert now.problem is None and [line.caption for line in now.lines] == [""]
    assert not list(jobs.folder().glob("asked*")), "nothing is left behind"


def test_a_training_ends_it_and_is_not_disturbed(tmp_path, server, monkeypatch):
    photos = fake_feed.make_photos(tmp_path / "pet", 2)
    run, server.hold = fake_feed.make_run(photos), True
    monkeypatch.setattr(runs, "WORKER", "tests.helpers.stub_worker")
    describing.start(job(photos, server))
    until(lambda: server.photos)
    run.start()
    try:
        now = jobs.progress()
        assert not now.running and now.problem.title == "A training began."
        with pytest.raises(WrongState, match="A training is running"):
            describing.start(job(photos, server))
        assert not jobs.is_running()
        describing.start(job(photos, server), during_training=True)
        assert jobs.is_running()
    finally:
        (run.folder / "end").write_text("")
        jobs.stop()
        until(lambda: run.worker() is None)


def test_a_process_that_vanishes_is_noticed(tmp_path, server):
    server.hold = True
    jobs.start(job(fake_feed.make_photos(tmp_path, 2), server))
    until(lambda: server.photos)
    processes.holder(jobs.lock()).kill()
    assert "ended before all photos" in ended().problem.title


def test_the_tool_is_downloaded_and_describes(tmp_path, monkeypatch):
    """With real classes, in real processes: from the hub to captions."""
    made = tiny_captioner.save_tool(tmp_path / "made")
    row = tool_row("captioner")
    for place in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(place, str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(Hub(row.source, tiny_captioner.tool_files(made))) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        download_process.start(row)
        until(lambda: download_process.progress(row).state != "running")
    assert download_process.progress(row).state == "done" and tools.has_tool("captioner")
    (captioner,) = found.captioners()
    photos = fake_feed.make_photos(tmp_path / "pet", 2)
    jobs.start(job(photos))
    now = ended()
    assert now.problem is None, (jobs.folder() / "describe.log").read_text(encoding="utf-8")
    assert [line.photo for line in now.lines] == [str(path) for path in photos]
    assert all(line.seconds > 0 and line.caption for line in now.lines)


def test_without_the_ram_nothing_is_loaded(tmp_path, monkeypatch):
    big = found.Captioner(name="captioner", title="Qwen", weights=4_437_815_808)
    monkeypatch.setattr(found, "find_captioner", lambda name: big)
    ram = psutil.virtual_memory()._replace(available=9 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: ram)
    with pytest.raises(OutOfMemory, match=r"Qwen needs 10\.3 GB of RAM; 9\.0 GB are free"):
        process._check_ram(big, 2)
    process._check_ram(big, 1)


@pytest.mark.parametrize(
    "error, told", [(MemoryError(), "not enough RAM"), (ValueError("x"), "ValueError")]
)
def test_any_end_is_a_sentence(tmp_path, monkeypatch, error, told):
    asked = jobs.folder() / "asked.json"
    files.write_json(asked, {"photos": ["a"], "class_name": "cat"})

    def fail(job):
        raise error

    monkeypatch.setattr(process, "work", fail)
    monkeypatch.setattr(processes, "lower_priority", lambda nice: None)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert process.main(str(asked)) == 1
    now = jobs.progress()
    assert told in now.problem.title and "Traceback" not in str(now.problem)


def test_what_is_read_may_be_damaged():
    jobs.folder().mkdir(parents=True)
    files.write_json(jobs.folder() / "job.json", {"photos": ["a", "b"], "class_name": "cat"})
    lines = [{"photo": "a", "caption": "x", "seconds": 2.0}, [], {"photo": 7}, {"photo": "b"}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"photo": "c'
    jobs.results().write_text("nonsense\n" + text, encoding="utf-8")
    now = jobs.progress()
    assert now.lines == (Line("a", "x", seconds=2.0), Line("b")) and now.problem is None
    (jobs.folder() / "job.json").write_text("{")
    assert jobs.progress() is None
