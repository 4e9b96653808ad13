"""A worker that ended without a word: whoever looks is told why, with the plan beside the peak."""

import sys

import pytest
from helpers import fake_feed

from blockskip.core import events, files, oom_kills
from blockskip.core.oom_kills import Kills
from blockskip.runs import vanished
from blockskip.runs.run import Run
from blockskip.studio import run_state, run_view

BOOT = "0e1f"


@pytest.fixture
def run(tmp_path):
    """A run whose worker vanished in the middle of training, and took 1.5 GiB last."""
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet", 1), 40, "gone")
    run.lock_path.touch()
    files.write_text(run.folder / "worker.log", "an old std::bad_alloc, of the worker before\n")
    return run


@pytest.fixture
def counted(monkeypatch):
    """Sets what the kernel counts."""
    return lambda boot, count: monkeypatch.setattr(
        oom_kills, "kills", lambda: None if boot is None else Kills(boot, count)
    )


def begin(run: Run) -> None:
    files.write_json(run.folder / "worker.json", vanished.mark(run))
    fake_feed.feed(run, 20)


@pytest.mark.parametrize(
    "boot, count, code, words",
    [
        (BOOT, 4, -9, "The system ended the training because RAM ran out."),
        (BOOT, 4, None, "The system ended the training because RAM ran out."),
        (BOOT, 3, -9, "The system ended the training, most likely because RAM ran out."),
        (BOOT, 3, None, None),
        (BOOT, 4, -11, None),
        ("another", 0, None, "The computer went off, or was started again, during the training."),
        (None, 0, -9, "The system ended the training, most likely because RAM ran out."),
        (None, 0, 0xC0000017, "The system ended the training, most likely because RAM ran out."),
        (None, 0, None, None),
    ],
)
def test_the_kernels_killer_is_recognised(run, counted, boot, count, code, words):
    counted(BOOT if boot else None, 3)
    begin(run)
    counted(boot, count)
    error = vanished.explain(run, code)
    assert (error and error.title) == words
    if error and error.kind == "OutOfMemory":
        assert "Training was planned with 3.1 GiB of RAM and took up to 1.5." in error.remedy
        assert "resume" in error.remedy
        if code is None:  # a studio that did not start the worker says so too
            assert words in run_view.messages(run_state.read(run))
            assert vanished.stage_without_ram(run) == "train"


@pytest.mark.parametrize(
    "text",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "Traceback (most recent call last):\n  …\nMemoryError",
    ],
)
def test_the_last_words_of_a_worker_that_ended_itself_are_understood(run, counted, text):
    counted(None, 0)
    begin(run)
    assert vanished.explain(run, -6) is None, "what an earlier worker said does not count"
    with open(run.folder / "worker.log", "a", encoding="utf-8") as log:
        log.write(text + "\n")
    assert "not enough RAM" in vanished.explain(run, -6).title


@pytest.mark.parametrize("broken", ["", "[]", '{"pid": -1, "oom_kills": "x"}', '{"pid": 7}'])
def test_what_a_worker_recorded_may_be_broken_or_old(run, counted, broken):
    counted(BOOT, 3)
    begin(run)
    counted(BOOT, 4)
    files.write_text(run.folder / "worker.json", broken)
    assert vanished.explain(run) is None
    assert "most likely" in vanished.explain(run, -9).title


def test_a_worker_that_said_why_is_not_explained(run, counted):
    counted(BOOT, 3)
    begin(run)
    counted(BOOT, 4)
    run.append(events.Failed(title="The disk is full."))
    assert vanished.explain(run, 1) is None and vanished.stage_without_ram(run) is None


@pytest.mark.skipif(sys.platform != "linux", reason="a counter of Linux")
def test_the_counter_of_this_kernel_is_read():
    now = oom_kills.kills()
    assert now is not None and now.count >= 0 and len(now.boot) == 36
