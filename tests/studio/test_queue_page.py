"""The queue on the page: a training's place is told, and its buttons change the order."""

import datetime
import threading

import pytest
from helpers import fake_feed

from blockskip.core import idle_worker
from blockskip.core.errors import UserError
from blockskip.runs import run_queue
from blockskip.runs.expected_time import ExpectedTime
from blockskip.runs.run import find_run
from blockskip.studio import click_handlers, draft, places, queue_screen, run_state, strings


@pytest.fixture
def line(pet):
    """One that trains, and three that wait."""
    fake_feed.seem_alive(fake_feed.make_run(pet, name="first"))
    for name in ("a", "b", "c"):
        run_queue.add(fake_feed.make_run(pet, name=name, pet=f"<{name}>"))


def click(do, **data):
    return click_handlers.handle_click("*", {"do": do, **data})


def test_the_list_tells_the_order_and_changes_it(line, told):
    shown = told("*")[0]["list"]["value"]
    assert shown.index("&lt;a&gt;") < shown.index("&lt;b&gt;") < shown.index("&lt;c&gt;")
    assert shown.count('data-do="queue_move"') == 4, "the first has no earlier, the last no later"
    click("queue_move", run="c", value="-1")
    click("queue_remove", run="a")
    click("queue_remove", run="a")  # pressed twice, or in two tabs
    assert run_queue.waiting() == ["c", "b"]
    with pytest.raises(UserError):
        click("queue_move", run="a", value="1")


def test_each_tells_how_long_it_takes_and_opens(line, told, monkeypatch):
    expected = ExpectedTime(12.0, "history")
    monkeypatch.setattr(queue_screen, "expected_time", lambda settings, past: expected)
    shown = told("*")[0]["list"]["value"]
    assert shown.count("300 steps · about 12 min") == 3
    assert shown.index(f'href="{places.training("a")}"') < shown.index("&lt;b&gt;")
    (find_run("b").folder / "run.toml").write_text("x", encoding="utf-8")
    assert told("*")[0]["list"]["value"].count("about 12 min") == 2


def test_a_waiting_training_tells_its_place(line, told):
    for name, words in (("a", strings.WAITS_NEXT), ("b", strings.WAITS_ONE)):
        parts = told(name)[0]
        assert words in parts["messages"]["value"] and strings.STATES["waiting"] in str(parts)
        assert not parts["resume"]["visible"] and not parts["pause"]["visible"]
    assert strings.WAITS.format(count=2) in told("c")[0]["messages"]["value"]


def test_the_line_is_held_and_goes_on(line, told, monkeypatch):
    begun = []
    monkeypatch.setattr(run_state, "start", lambda run, card="": begun.append(run.name))
    click("queue_hold")
    (find_run("first").folder / "worker.json").unlink()
    run_queue.advance(run_state.start)
    assert not begun and strings.QUEUE_HELD in told("*")[0]["list"]["value"]
    assert strings.WAITS_HELD in told("b")[0]["messages"]["value"]
    click("queue_go")
    assert begun == ["a"]


def test_a_model_that_is_kept_open_is_told_and_closed(pet, told, monkeypatch):
    draft.add([pet[0].parent])
    assert strings.MODEL_CLOSE not in str(told("*")) + str(told(""))
    until = datetime.datetime(2026, 11, 30, 21, 34).timestamp()
    idle = idle_worker.Idle(card="", key="x", held_gib=9.1, until=until)
    with idle_worker.waiting(idle):
        for view, part in (("*", "list"), ("", "marks")):
            shown = told(view)[0][part]["value"]
            assert "21:34" in shown and "9.1 GB of graphics memory" in shown
        ended = threading.Thread(target=click, args=["close_model"])
        ended.start()
        assert idle_worker.next_order("", lambda: False, seconds=60) is None
    ended.join()
    assert strings.MODEL_CLOSE not in told("*")[0]["list"]["value"]


def test_a_damaged_queue_is_told_and_harms_no_training(line, told):
    run_queue._path().write_text("{", encoding="utf-8")
    assert told("*")[0]["list"]["value"] and told("a")[0]["status"]["value"]
    with pytest.raises(UserError, match="queue.json"):
        click("queue_go")
