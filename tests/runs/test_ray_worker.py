"""What Ray's actors do with a run's folder. Ray itself is played here; tests/cli/test_ray_batch.py has
the real one."""

import sys
from types import SimpleNamespace

import pytest
from helpers import fake_feed
from helpers.waiting import until

from blockskip.core.errors import UserError
from blockskip.runs import ray_worker
from blockskip.runs.ray_worker import Job, Keeper, Trainer


class Handle:
    """An actor's handle whose methods answer at once."""

    def __init__(self, actor):
        self.actor = actor

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self.actor, name))


@pytest.fixture
def run(tmp_path, monkeypatch, keeper):
    ray = SimpleNamespace(get=lambda answer: answer, get_actor=lambda name: Handle(keeper))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_worker, "SENT_EVERY_S", 0.01)
    return fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet", 1, side=64), 4)


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
def trainer():
    return Trainer("keeper")


def test_a_folder_that_is_seen_is_worked_in(run, trainer):
    job = ray_worker.new_mark(run.folder, "words")
    with trainer._folder(job) as folder:
        assert folder == run.folder and run.worker() is None
    ray_worker.remove_mark(job)
    assert not list(run.folder.glob("*.mark"))


def test_a_copy_comes_back_as_it_is_in_the_end(run, trainer, keeper):
    """Also a copy of a trainer that was lost: the next one begins with what the keeper has."""
    (run.folder / "checkpoints").mkdir(exist_ok=True)
    (run.folder / "checkpoints" / "step-00001.safetensors").write_bytes(b"old")
    job = Job(str(run.folder), "another machine's mark")
    with trainer._folder(job) as folder:
        assert folder != run.folder and (folder / "run.toml").exists()
        assert len(list((folder / "photos").iterdir())) == 1
        assert run.worker() is not None, "nobody else can train it meanwhile"
        (folder / "checkpoints" / "step-00002.safetensors").write_bytes(b"new")
        (folder / "checkpoints" / "step-00001.safetensors").unlink()
        (folder / "cache").mkdir(exist_ok=True)
        (folder / "cache" / "window.safetensors").write_bytes(b"large")
        with open(folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write("{}\n")
    assert run.worker() is None
    kept = {path.name: path.read_bytes() for path in (run.folder / "checkpoints").iterdir()}
    assert kept == {"step-00002.safetensors": b"new"}
    assert run.events_path.read_bytes().endswith(b"{}\n")
    assert not (run.folder / "cache" / "window.safetensors").exists()
    assert not folder.exists(), "the copy is deleted"
    assert "checkpoints/step-00002.safetensors" in keeper.begin(str(run.folder))
    keeper.end(str(run.folder))


def test_what_changes_is_sent_while_it_trains(run, trainer, keeper, monkeypatch):
    sent, write = [], keeper.write

    def watched(folder, changed, gone):
        write(folder, changed, gone)
        sent.append(set(changed))

    monkeypatch.setattr(keeper, "write", watched)
    with trainer._folder(Job(str(run.folder), "")) as folder:
        (folder / "events.jsonl").write_text("{}\n", encoding="utf-8")
        until(lambda: sent)
        assert sent[0] == {"events.jsonl"}


@pytest.mark.parametrize(
    "name", ["../outside", "a/../../outside", "{outside}", "worker.lock", "cache/x", ""]
)
def test_the_keeper_writes_only_what_belongs_in_a_run(run, keeper, name):
    outside = run.folder.parent / "outside"
    name = name.format(outside=outside)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    keeper.write(str(run.folder), {name: b"x"}, [])
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    assert not outside.exists()
    outside.write_bytes(b"kept")
    keeper.write(str(run.folder), {}, [name])
    assert outside.exists() and run.folder.exists()


def test_who_was_stopped_begins_nothing_more(run, trainer, monkeypatch):
    asked = []
    monkeypatch.setattr(ray_worker, "_work", lambda run, kept: asked.append(run.name) or 0)
    job = ray_worker.new_mark(run.folder, "words")
    assert trainer.train(job) == 0 and asked == [run.name]
    trainer.stop()
    assert trainer.train(job) == 130 and asked == [run.name]


def test_stop_pauses_what_trains(run, trainer, monkeypatch):
    ordered = []
    monkeypatch.setattr(type(run), "send_command", lambda run, word: ordered.append(word))

    def works(run, kept):
        trainer.stop()
        return 130

    monkeypatch.setattr(ray_worker, "_work", works)
    assert trainer.train(ray_worker.new_mark(run.folder, "words")) == 130
    assert ordered == ["pause"]


def test_an_unexpected_error_is_the_runs_own(run, trainer, monkeypatch):
    from blockskip.runs import worker_process

    def fails(folder, killed_in, kept):
        raise RuntimeError("a driver")

    monkeypatch.setattr(worker_process, "main", fails)
    assert trainer.train(ray_worker.new_mark(run.folder, "words")) == 1
    assert run.state() == "failed"


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    from blockskip.cli import ray_batch

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="not installed"), ray_batch.connected("local"):
        raise AssertionError("not reached")
