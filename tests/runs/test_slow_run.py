"""A run whose steps become slow says why, saves what was learnt, and is planned again where that
helps."""

import pytest

from blockskip.core import events
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.memory.slow_steps import Slowdown, SlowStepDetector
from blockskip.runs import checkpoints, worker_process
from blockskip.runs.run import create_run

STEPS = 4


@pytest.fixture
def slow_run(monkeypatch):
    """Work on a run in which every step from the second on is slow. Returns the run."""

    def work(cause):
        def check(self, seconds):
            self.seconds.append(seconds)
            if len(self.seconds) < 2 or cause in self.told:
                return None
            self.told.add(cause)
            return Slowdown(cause, 5.0)

        monkeypatch.setattr(SlowStepDetector, "check", check)
        settings = choose_settings(
            steps=STEPS, batch=2, window_steps=2, preview_every=0, preview_steps=1, device="cpu"
        )
        photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2]
        run = create_run(settings.changed(preview_prompts=(), checkpoint_every=2), photos)
        worker_process.work(run)
        return run

    return work


def of(run, kind):
    return [event for event in run.events()[0] if isinstance(event, kind)]


@pytest.mark.parametrize("cause, again", [("heat", False), ("spill", True)])
def test_a_slow_run_says_why_saves_and_is_planned_again(slow_run, cause, again):
    run = slow_run(cause)
    notes = [note.text for note in of(run, events.Note)]
    assert sum(Slowdown(cause, 5.0).text == text for text in notes) == 1, "once a run"
    saved = [saved.step for saved in of(run, events.Saved) if saved.kind == "checkpoint"]
    assert saved == [2, 4], "each is written once: it may be mapped"
    assert sum("planned" in text or "with less memory" in text for text in notes) == again
    assert [begun.resumed_from for begun in of(run, events.Started)] == [0, 2][: 1 + again]
    assert (run.settings().plan != run.settings(original=True).plan) == again
    assert [loss.step for loss in of(run, events.Loss)] == [1, 2, 3, 4], "no step was made twice"
    assert of(run, events.Done) and checkpoints.newest_checkpoint(run)
