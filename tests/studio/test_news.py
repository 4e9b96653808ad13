"""Trainings that end are told once, and the page says how long a training will still take."""

import json
import re
import time
from html import unescape

import pytest
from helpers import fake_feed

from blockskip.core import events
from blockskip.runs.expected_time import ExpectedTime
from blockskip.runs.run import list_runs
from blockskip.studio import actions, news, run_screen, run_state, run_view, strings


@pytest.fixture(autouse=True)
def _nothing_seen():
    news._running.clear()
    news._ended.clear()


@pytest.fixture
def run(pet):
    """A training whose worker has just begun."""
    made = fake_feed.make_run(pet, pet="<Momo>")
    fake_feed.seem_alive(made)
    return made


def told():
    drawn = news.news(list_runs())
    return json.loads(unescape(re.search('data-news="([^"]*)"', drawn)[1]))


def gone(run):
    (run.folder / "worker.json").unlink()


def test_what_ends_is_told_with_its_pet_and_its_own_id(run):
    assert told() == []
    run.append(fake_feed.done(run))
    gone(run)
    ((first, name, words),) = told()
    assert name == run.name and words == strings.NEWS["done"].format(pet="<Momo>")
    assert told() == [[first, name, words]]
    fake_feed.seem_alive(run)
    told()
    run.append(events.Failed(title="The disk is full.", remedy=""))
    gone(run)
    again = told()
    assert len(again) == 2 and again[1][0] != first


@pytest.mark.parametrize("reason", ["paused", "stopped"])
def test_what_its_user_ended_is_not(run, reason):
    told()
    run.append(events.Stopped(reason=reason, step=3))
    gone(run)
    assert told() == []


def test_a_deleted_or_damaged_training_is_no_news(run):
    told()
    (run.folder / "run.toml").write_text("x", encoding="utf-8")
    run.events_path.write_bytes(b"\xff\n")
    gone(run)
    assert all(words for *_, words in told())


def test_a_press_is_remembered_until_the_worker_has_ended(run):
    run.append(events.Started(steps=300))
    actions.pause(run.name)
    run.take_command()
    assert run_state.pending_command(run) == "pause"
    run.append(events.Stopped(reason="paused", step=0))
    run_state.read(run)
    assert run_state.pending_command(run) == ""
    actions.stop(run.name)
    assert run_state.pending_command(run) == "stop"
    gone(run)
    run_state.read(run)
    run.take_command()
    assert run_state.pending_command(run) == ""


def left(run, expected_s=None):
    return run_view._time_left(run_state.read(run), expected_s)


def test_before_the_first_steps_it_is_what_was_expected(run, monkeypatch):
    now = time.time()
    monkeypatch.setattr(run_screen, "finished_runs", list)
    monkeypatch.setattr(
        run_screen, "expected_time", lambda settings, past: ExpectedTime(10.0, "measured")
    )
    assert "10 min" in run_screen.parts(run.name)[0]["status"]["value"]
    run.append(events.Started(steps=300, time=now - 250))
    for at in range(250, 0, -10):
        run.append(events.Progress(stage="latents", n=1, total=40, time=now - at))
    assert "6 min" in run_screen.parts(run.name)[0]["status"]["value"]
    assert left(run, 200.0) == "", "longer than expected: nothing is promised"


@pytest.mark.parametrize(
    "eta, words",
    [(2.0, strings.LEFT_LITTLE), (61.0, "about 60 s left"), (100.0, "about 2 min left")],
)
def test_then_it_is_by_the_pace_of_the_steps(run, eta, words):
    now = time.time()
    run.append(events.Started(steps=300, time=now))
    for step in (1, 2, 3):
        run.append(events.Loss(step=step, loss=0.3, seconds=1.0, time=now))
        run.append(events.Progress(stage="train", n=step, total=300, eta_s=eta, time=now))
    assert left(run, 9000.0) == words
