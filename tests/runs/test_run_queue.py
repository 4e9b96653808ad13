"""The queue: the order that a user gave is kept, one run a card, whatever happens in between."""

import psutil
import pytest
from helpers import fake_feed
from helpers.fake_nvml import FakeNvml

from blockskip.core import events, files
from blockskip.core.errors import BadFile, NotFound, UserError, WrongState
from blockskip.core.paths import data_dir
from blockskip.memory import cards, monitor
from blockskip.runs import run_queue, storage
from blockskip.runs.run import Run, find_run

SMALL, LARGE = FakeNvml.uuids
STOPPED = events.Stopped(reason="stopped", step=1)
PAUSED = events.Stopped(reason="paused", step=1)
FAILED = events.Failed(title="Bad.", remedy="", kind="unexpected")


@pytest.fixture
def queued(tmp_path):
    """Three new runs in the queue."""
    photos = fake_feed.make_photos(tmp_path / "pet", 1, 16)
    for name in ("a", "b", "c"):
        run_queue.add(fake_feed.make_run(photos, name=name))
    return photos


@pytest.fixture
def two_cards(monkeypatch):
    for name in (cards.VISIBLE, cards.ALLOWED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(monitor, "_nvml", lambda: FakeNvml())


def begin(run, card):
    started = events.Started(steps=run.settings().steps, device="cpu", resumed_from=0)
    me = psutil.Process()
    mark = {"pid": me.pid, "create_time": me.create_time(), "card": card}
    files.write_json(run.folder / "worker.json", mark)
    run.append(started)


def end(name, event=None):
    run = Run(find_run(name).folder)
    files.remove(run.folder / "worker.json")
    if event is not None:
        run.append(event)


def advance():
    return [run.name for run in run_queue.advance(begin)]


def test_one_after_the_other_in_order(queued):
    assert advance() == ["a"] and advance() == []
    end("a", fake_feed.done(find_run("a")))
    assert advance() == ["b"]
    assert run_queue.read().names == ["b", "c"]


@pytest.mark.parametrize("event", [STOPPED, FAILED])
def test_one_that_fails_or_is_stopped_does_not_stop_the_next(queued, event):
    advance()
    end("a", event)
    assert advance() == ["b"] and run_queue.read().names == ["b", "c"]


def test_what_a_power_cut_broke_off_goes_on_first_but_not_for_ever(queued):
    for _ in range(run_queue.MAX_STARTS):
        assert advance() == ["a"]
        end("a")
    assert advance() == ["b"]


def test_pausing_holds_those_that_wait_and_resuming_comes_first(queued):
    advance()
    run_queue.pause(find_run("a"))
    assert find_run("a").take_command() == "pause"
    end("a", PAUSED)
    assert advance() == [] and run_queue.read().names == ["b", "c"]
    run_queue.add(find_run("a"), first=True)
    run_queue.hold(False)
    assert advance() == ["a"] and run_queue.waiting() == ["b", "c"]


def test_pausing_the_only_one_holds_nothing(queued):
    for name in ("b", "c"):
        run_queue.remove(name)
    advance()
    run_queue.pause(find_run("a"))
    end("a", PAUSED)
    run_queue.add(find_run("b"))
    assert advance() == ["b"]


def test_a_run_that_was_paused_before_it_was_queued_goes_on(tmp_path):
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet", 1, 16), name="a")
    run.append(PAUSED)
    run_queue.add(run)
    assert advance() == ["a"]


def test_what_its_user_starts_is_not_started_again(queued):
    begin(find_run("b"), "")
    assert advance() == []  # the processor is taken
    end("b", STOPPED)
    assert advance() == ["a"] and run_queue.read().names == ["a", "c"]


def test_moved_removed_held_renamed_and_deleted(queued):
    run_queue.move("c", -5)
    run_queue.move("a", 1)
    assert run_queue.read().names == ["c", "b", "a"]
    run_queue.hold(True)
    assert advance() == []
    storage.rename("c", "d")
    storage.delete("b")
    run_queue.hold(False)
    assert advance() == ["d"] and run_queue.read().names == ["d", "a"]
    run_queue.add(find_run("a"))  # twice is once
    assert run_queue.read().names == ["d", "a"]
    with pytest.raises(NotFound):
        run_queue.remove("b")


def test_a_run_that_cannot_be_read_does_not_stop_the_next(queued):
    files.write_bytes(find_run("a").folder / "run.toml", b"\xff{")
    assert advance() == ["b"]
    end("b", STOPPED)
    assert advance() == ["c"] and run_queue.read().names == ["c"]


def test_a_start_that_is_refused_is_told_in_the_run(queued):
    def refuse(run, card):
        if run.name == "a":
            raise BadFile("Its folder is read-only.", "Allow it.")
        begin(run, card)

    assert [run.name for run in run_queue.advance(refuse)] == ["b"]
    assert find_run("a").state() == "failed"
    end("b", STOPPED)
    assert advance() == ["c"] and run_queue.read().names == ["c"]


def test_one_run_a_card(queued, two_cards):
    assert advance() == ["a", "b"]
    assert [entry.card for entry in run_queue.read().entries] == [LARGE, SMALL, ""]
    end("a", FAILED)
    assert advance() == ["c"] and run_queue.read().entries[-1].card == LARGE


def test_a_run_waits_for_a_card_that_is_large_enough(queued, two_cards):
    for name in ("a", "b"):
        run = find_run(name)
        text = (run.folder / "run.toml").read_text(encoding="utf-8")
        assert "budget_gib = 8.0" in text
        files.write_text(
            run.folder / "run.toml", text.replace("budget_gib = 8.0", "budget_gib = 12.0")
        )
    assert advance() == ["a", "c"]  # c fits the small card, b waits
    assert [entry.card for entry in run_queue.read().entries] == [LARGE, "", SMALL]


def test_a_queue_of_a_later_version_is_left_alone(queued):
    path = data_dir() / "queue.json"
    later = '{"version": 2, "entries": []}'
    files.write_text(path, later)
    with pytest.raises(UserError, match="queue.json"):
        advance()
    run_queue.advance_quietly()
    assert path.read_text(encoding="utf-8") == later


def test_runs_of_other_folders_are_refused(tmp_path):
    photos = fake_feed.make_photos(tmp_path / "pet", 1, 16)
    run = fake_feed.make_run(photos, name=str(tmp_path / "elsewhere"))
    with pytest.raises(WrongState):
        run_queue.add(run)
