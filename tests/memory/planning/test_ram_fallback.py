"""RAM runs out: what takes less of it comes next, without another precision; else both figures."""

import errno
import re
from unittest.mock import Mock

import pytest

from blockskip.core import events
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.oom_fallback import least_ram
from blockskip.memory.planning.planner import choose_settings, make_plan, planned_memory
from blockskip.runs import worker_process
from blockskip.runs.kept_model import KeptModel
from blockskip.runs.run import create_run
from blockskip.sampling import loaded_model
from blockskip.training import encode, trainer

SAID = {"steps": 2, "batch": 2, "window_steps": 2, "preview_every": 0, "preview_steps": 1}
ERRORS = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
]


@pytest.fixture
def run():
    settings = choose_settings(**SAID, seed=1, device="cpu", checkpoint_every=1)
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2]
    return create_run(settings, photos, "little RAM")


def failing(monkeypatch, module, name, short, error):
    real = getattr(module, name)

    def call(*args, **how):
        if short():
            raise error
        return real(*args, **how)

    monkeypatch.setattr(module, name, call)


def notes(run):
    return [e.text for e in run.events()[0] if isinstance(e, events.Note)]


def test_every_disguise_of_it_is_eased(run, monkeypatch):
    for error in ERRORS:
        monkeypatch.setattr(worker_process.Worker, "work", Mock(side_effect=error))
        assert worker_process._attempt(run, set(), KeptModel()).func is worker_process._ease_ram


def test_a_stage_gives_way_and_the_run_goes_on(run, monkeypatch):
    begun = run.settings().plan.encode_batch
    short = lambda: run.settings().plan.encode_batch == begun  # noqa: E731
    failing(monkeypatch, encode, "encode_draws", short, MemoryError())
    assert worker_process.main(str(run.folder)) == 0 and run.state() == "done"
    (said,) = notes(run)
    assert said.startswith("RAM ran out while turning photos into latents. Training continues")
    assert run.settings().plan.precision == run.settings(original=True).plan.precision


def test_when_nothing_takes_less_both_figures_are_told(run, monkeypatch):
    failing(monkeypatch, trainer, "micro_step", lambda: True, MemoryError())
    assert worker_process.main(str(run.folder)) == 1
    last = run.events()[0][-1]
    assert isinstance(last, events.Failed) and last.kind == "OutOfMemory"
    assert last.title == "There was not enough RAM for this run."
    assert re.match(r"Training was planned with \d\.\d GiB of RAM and took up to \d", last.remedy)
    assert len(notes(run)) == 1, "one way out is tried, the one that takes the least"


def test_pictures_give_way_without_stopping_the_run(run, monkeypatch):
    failing(monkeypatch, loaded_model, "sample", lambda: True, MemoryError())
    assert worker_process.main(str(run.folder)) == 0
    assert "RAM ran out while sampling pictures. From now on" in notes(run)[0]
    assert "there is too little RAM" in notes(run)[1]


def test_the_worker_after_a_killed_one_takes_less(run, monkeypatch):
    monkeypatch.setattr(worker_process, "_attempt", lambda *_: None)
    worker_process.work(run, killed_in="latents")
    assert run.info()["eased"].keys() == {"encode_batch"}
    assert "The system ended the training for want of RAM. Training continues" in notes(run)[0]
    worker_process.work(run, killed_in=None)
    assert len(notes(run)) == 1


@pytest.mark.parametrize("stage", ["", "text", "latents", "residuals", "train", "preview"])
def test_beside_a_card_it_is_the_kept_weights_that_leave(stage):
    plan = {"budget_gib": 12, "free_gib": 11.3, "ram_gib": 64, "system": "Windows"}
    begun = make_plan(model="flux-dev", **plan).settings
    smaller = least_ram(begun, stage, False, begun)
    if smaller is not None:
        changed = {k for k, v in smaller[0].flat().items() if v != begun.flat()[k]}
        assert changed == {"ram_weights_gib"}
        needs = planned_memory(smaller[0]), planned_memory(begun)
        assert needs[0]["train"].ram_gib < needs[1]["train"].ram_gib
        assert least_ram(smaller[0], stage, False, begun) is None, "there is one way"
