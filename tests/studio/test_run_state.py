"""A run's story: read once, told in plain words, and small however long it gets."""

import dataclasses
import json
import random

import psutil
import pytest
from helpers import fake_feed

from blockskip.core import events
from blockskip.runs import storage
from blockskip.studio import actions, result_view, run_state, run_view, screen
from blockskip.studio.series import MAX_BINS, Series


def test_a_story_is_read_once_and_goes_on(pet):
    run = fake_feed.make_run(pet)
    assert run_state.read(run).status == "new"
    fake_feed.feed(run, 60)
    story = run_state.read(run)
    assert (story.status, story.step, len(story.images)) == ("crashed", 60, 4)
    run.append(events.Started(steps=300, resumed_from=50))
    run.append(events.Loss(step=51, loss=0.3, seconds=1))
    fake_feed.seem_alive(run)
    story = run_state.read(run)
    assert (story.status, story.step) == ("running", 51), (
        "steps after the checkpoint are learnt again"
    )
    assert story.losses.last == (51, 0.3)
    assert actions.status()["state"] == "running"


def test_a_story_handed_out_is_the_callers_own(pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 20)
    mine = run_state.read(run)
    mine.losses.add(999, 9.0)
    mine.images.clear()
    mine.notes.append(events.Note(text="mine"))
    other = run_state.read(run)
    assert other.losses.last[0] == 20 and other.images and not other.notes


@pytest.mark.parametrize(
    "end, state, said",
    [
        (events.Stopped(reason="paused", step=60), "paused", "Paused at step 60"),
        (events.Stopped(reason="stopped", step=60), "stopped", "Stopped at step 60"),
        (
            events.Failed(title="The <disk> is full.", remedy="Free some."),
            "failed",
            "The &lt;disk&gt; is full.",
        ),
        (None, "crashed", "interrupted"),
    ],
)
def test_every_end_is_told_in_plain_words(pet, told, end, state, said):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60, end)
    story = run_state.read(run)
    assert story.status == state and said in run_view.messages(story)
    parts, _ = told(run.name)
    assert parts["resume"]["visible"] and not parts["pause"]["visible"]
    assert said in parts["messages"]["value"]


def test_large_pictures_have_a_column_of_their_own(pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60)
    story, large = run_state.read(run), run.settings().changed(draft_px=32)
    assert "full size" not in run_view.previews(story, large, []), "it ended before them"
    picture = next(iter(story.images.values()))
    for step, index in ((40, 0), (60, 0), (60, 1)):
        event = dataclasses.replace(picture, step=step, index=index, path="previews/large-1/7.png")
        run.append(dataclasses.replace(event, large=True))
    story = run_state.read(run)
    assert len(story.images) == 4, "they do not replace those that are compared"
    page = run_view.previews(story, large, [])
    assert "Step 60, full size" in page and "Step 40, full size" not in page
    assert page.count("large-1/7.png?size=1024") == 2
    assert "large-1" not in result_view.compare(story, large, 60, [60], "")


def test_a_worker_that_the_system_killed_is_told_on_the_page(pet, told, monkeypatch):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60)
    for code, said in ((-9, "because RAM ran out"), (-11, "interrupted without an error message")):
        monkeypatch.setattr(
            run.__class__, "start", lambda self, card="", stays=False, c=code: Exited(c)
        )
        run_state.start(run)
        assert said in told(run.name)[0]["messages"]["value"]


class Exited:
    """A process that has ended."""

    pid = 0

    def __init__(self, code):
        self.poll = lambda: code


def test_a_run_replaced_by_another_of_its_name_is_read_afresh(pet):
    run = fake_feed.make_run(pet, name="momo")
    fake_feed.feed(run, 200)
    assert run_state.read(run).step == 200
    storage.delete("momo")
    run = fake_feed.make_run(pet, name="momo")
    fake_feed.feed(run, 20, begin=1.9e9)
    assert run_state.read(run).step == 20


def test_progress_never_runs_back(pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 100)
    before = run_view.percent(run_state.read(run))
    run.append(events.Progress(stage="residuals", n=1, total=6))
    assert run_view.percent(run_state.read(run)) == before > 8


def test_series_lose_no_peak_and_stay_small():
    chance, series = random.Random(3), Series(0.5)
    values = [(i * 0.7, chance.random()) for i in range(5000)]
    values[1234] = (values[1234][0], 50.0)
    for x, y in values:
        series.add(x, y)
    assert len(series.bins) <= MAX_BINS and series.last == values[-1]
    assert max(y for _, y in series.peaks()) == 50.0
    counted = sum(bin[0] for bin in series.bins.values())
    total = sum(bin[1] for bin in series.bins.values())
    assert counted == 5000 and total == pytest.approx(sum(y for _, y in values))
    xs = [x for x, _ in series.means()]
    assert xs == sorted(xs) and len(series.smooth()) == len(xs)
    series.cut(700.0)
    assert series.last[0] <= 700.0


@pytest.fixture
def long_run(pet):
    """A training of 100 000 events."""
    run = fake_feed.make_run(pet, steps=33_333)
    fake_feed.feed_long(run, 100_000)
    fake_feed.seem_alive(run)
    return run


def sent(updates):
    return len(json.dumps(updates, ensure_ascii=False).encode("utf-8"))


def test_a_long_run_is_read_once_and_little_is_sent(long_run):
    """Bytes, not times: the log is read once, and no tick sends more than 20 kB."""
    if not hasattr(psutil.Process(), "io_counters"):
        pytest.skip("this system does not count what a process reads")

    def looked(tokens):
        before = psutil.Process().io_counters().read_chars
        updates = screen.page_updates(long_run.name, tokens)
        return psutil.Process().io_counters().read_chars - before, updates

    log = long_run.events_path.stat().st_size
    assert log > 10_000_000
    first, updates = looked("")
    assert log <= first < 1.2 * log and sent(updates) < 60_000
    again, updates_2 = looked(updates[-1])
    assert again < 100_000 and sent(updates_2) < 2_000, "nothing new: nothing is sent"
    long_run.append(events.Loss(step=33_334, loss=0.2, seconds=0.4, time=1.8e9 + 14_000))
    long_run.append(
        events.Memory(rss_gib=1.9, ram_used_gib=8, ram_total_gib=16, time=1.8e9 + 14_000)
    )
    long_run.append(events.Note(text="All that can change changes.", level="warning"))
    more, updates_3 = looked(updates[-1])
    names = dict(zip(screen.PARTS, updates_3[:-1], strict=True))
    assert all("value" in names[part] for part in ("status", "charts", "notes"))
    assert more < 100_000 and sent(updates_3) <= 20_000
