"""What the last word of a log is, read from its end, is what reading all of it says."""

import random

import pytest

from blockskip.core import events
from blockskip.core.events import Done, Failed, Loss, Note, Progress, Started, Stopped
from blockskip.runs import event_log
from blockskip.runs.run import Run

DONE = dict(adapter="a", exported="b", final_loss=0.1, peak_rss_gib=1.0, peak_vram_gib=-1.0)
ENDS = (
    Stopped(reason="paused", step=1),
    Stopped(reason="stopped", step=1),
    Failed(title="x" * 40_000),  # longer than what is read at a time
    Done(steps=1, seconds=1.0, stages={}, **DONE),
)


def told_slowly(run: Run) -> str:
    """The state by reading everything, forwards, and the four words that decide alone."""
    last = None
    for event in run.events()[0]:
        if isinstance(event, (Started, Stopped, Failed, Done)):
            last = event
    if isinstance(last, Stopped):
        return last.reason
    return {type(None): "new", Started: "crashed", Failed: "failed", Done: "done"}[type(last)]


def session(run: Run, chance: random.Random) -> None:
    """What one worker says; it may be killed within any line."""
    said = [Started(steps=9)]
    for step in range(chance.choice((0, 1, 5, 400))):
        said.append(
            chance.choice(
                (
                    Note(text='"done" {"event": "done"}\u2028ü' * 9),
                    Progress(stage="train", n=step, total=9),
                    Loss(step=step, loss=0.5, seconds=0.1),
                )
            )
        )
    said += [Note(text="x" * chance.randrange(40_000))] if chance.random() < 0.3 else []
    said += [chance.choice(ENDS)] if chance.random() < 0.6 else []
    for event in said:
        run.append(event)
    if chance.random() < 0.5:
        with open(run.events_path, "rb+") as file:  # the last line is torn
            end = file.seek(0, 2)
            file.truncate(end - chance.randrange(1, len(events.to_json(said[-1])) + 1))
    if chance.random() < 0.3:
        with open(run.events_path, "ab") as file:
            file.write(chance.choice((b"\xff\xfe{\n", b"[1]\n", b"7\n", b'{"event": "done"}\n')))


@pytest.mark.parametrize("seed", range(40))
def test_the_state_is_what_reading_everything_says(tmp_path, seed):
    chance, run = random.Random(seed), Run(tmp_path)
    for _ in range(chance.randrange(1, 4)):
        session(run, chance)
        assert run.state() == told_slowly(run)


def test_the_last_of_a_kind_is_found_in_front_of_a_long_log(tmp_path):
    path = tmp_path / "events.jsonl"
    assert event_log.last_event(path, (Started,)) is None
    event_log.append(path, Started(steps=3, time=1.0))
    for _ in range(500):
        event_log.append(path, Note(text="y" * 100))
    assert event_log.last_event(path, (Started,)) == Started(steps=3, time=1.0)
    assert event_log.last_event(path, (Failed,)) is None


def test_a_hundred_thousand_events_are_not_read_for_the_state(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.append(Started(steps=10**6))
    line = events.to_json(Loss(step=1, loss=0.5, seconds=0.1)) + "\n"
    with open(run.events_path, "a", encoding="utf-8") as file:
        file.write(line * 100_000)
    parsed = []
    real = events.from_json
    monkeypatch.setattr(events, "from_json", lambda text: parsed.append(1) or real(text))
    assert run.state() == "crashed" and len(parsed) < 10
    run.append(ENDS[0])
    assert run.state() == "paused" and len(parsed) < 20
