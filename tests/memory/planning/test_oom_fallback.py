"""Memory runs out: the run gives way in what costs only time first, and goes on."""

from types import SimpleNamespace

import pytest
import torch

from blockskip.core import events
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos
from blockskip.memory import monitor
from blockskip.memory import vram_cap as memory_cap
from blockskip.memory.monitor import Usage
from blockskip.memory.planning.oom_fallback import next_fallback
from blockskip.memory.planning.planner import choose_settings, make_plan, planned_memory
from blockskip.memory.planning.search import PlanRequest
from blockskip.memory.vram_cap import allowed_gib, limit_vram
from blockskip.runs import checkpoints, worker_process
from blockskip.runs.run import create_run
from blockskip.sampling import loaded_model
from blockskip.training import encode, trainer
from blockskip.training.checkpoint import checkpoint_lora

NEVER = "front back rank targets s_min_px s_max_px patches steps lr text_tokens seed".split()
SAID = {"steps": 4, "batch": 2, "window_steps": 2, "preview_every": 0, "preview_steps": 1}


def all_eased(settings, stage):
    found = []
    while (smaller := next_fallback(settings, stage)) is not None:
        settings, words = smaller
        found.append((settings, words))
        assert words and len(found) < 30, "it comes to an end"
    return found


@pytest.mark.parametrize("budget", [6, 12, 24])
@pytest.mark.parametrize("stage", ["text", "latents", "residuals", "train", "preview"])
def test_every_smaller_way_takes_less_and_learns_the_same(stage, budget):
    begun = make_plan(model="flux-dev", budget_gib=budget, free_gib=64, batch=4).settings
    before = begun
    for settings, _ in all_eased(begun, stage):
        assert all(settings.flat()[name] == begun.flat()[name] for name in NEVER)
        assert settings.num_draws == begun.num_draws
        assert (
            planned_memory(settings)[stage].vram_gib
            <= planned_memory(before)[stage].vram_gib + 1e-9
        )
        before = settings


def test_precision_goes_last():
    begun = make_plan(model="flux-dev", budget_gib=24, free_gib=64, batch=4).settings
    begun = begun.changed(precision="full", checkpointing=False, middle="stays")
    words = [words for _, words in all_eased(begun, "train")]
    assert ["draws" in words[0], "draws" in words[1], "twice" in words[2]] == [True] * 3
    assert "one by one" in words[3] and ["bits" in word for word in words[4:]] == [True] * 2


@pytest.fixture
def run():
    settings = choose_settings(**SAID, seed=1, device="cpu", checkpoint_every=1)
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2]
    return create_run(settings, photos, "small card")


OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CUDNN = RuntimeError("GET was unable to find an engine to execute this computation")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def too_small(monkeypatch, module, name, while_, error=OUT):
    """`module.name` runs out of memory as long as `while_(settings or arguments)` says so."""
    real = getattr(module, name)

    def failing(*args, **how):
        if while_(*args, **how):
            raise error
        return real(*args, **how)

    monkeypatch.setattr(module, name, failing)


def test_out_of_memory_in_a_step_goes_on_from_the_checkpoint(run, monkeypatch):
    steps = []

    def full(model, family, step_inputs, window, *_):
        steps.append(len(window["t"]))
        return len(steps) > 2 and not run.settings().plan.checkpointing

    too_small(monkeypatch, trainer, "micro_step", full)
    worker_process.work(run)
    said = run.events()[0]
    notes = [e.text for e in said if isinstance(e, events.Note)]
    assert len(notes) == 2 and all("from step 2" in note for note in notes)
    assert [e.resumed_from for e in said if isinstance(e, events.Started)] == [0, 2, 2]
    assert isinstance(said[-1], events.Done) and said[-1].steps == SAID["steps"]
    assert run.info()["eased"] == {"batch": 1, "accumulation": 2, "checkpointing": True}
    assert run.info()["settings"]["plan"]["batch"] == 2 and run.state() == "done"
    peaks = [e.stage for e in said if isinstance(e, events.Peak)]
    assert peaks[-5:] == ["text", "latents", "residuals", "train", "preview"]


def test_when_nothing_smaller_is_left_it_is_said(run, monkeypatch):
    too_small(monkeypatch, trainer, "micro_step", lambda *_: True)
    # quantising the demo model is not what is tested here
    monkeypatch.setattr("blockskip.memory.planning.oom_fallback._FEWER_BITS", {})
    assert worker_process.main(str(run.folder)) == 1
    last = run.events()[0][-1]
    assert isinstance(last, events.Failed) and "too little free memory for training" in last.title
    assert "resume" in last.remedy and run.state() == "failed" and last.kind == "OutOfMemory"


def test_out_of_memory_in_a_window_and_in_latents(run, monkeypatch):
    too_small(monkeypatch, trainer, "compute_window", lambda *args: args[4] > 4, CUBLAS)
    larger = lambda *_: run.settings().plan.encode_batch > 16  # noqa: E731
    too_small(monkeypatch, encode, "encode_draws", larger, CUDNN)
    worker_process.work(run)
    assert run.info()["eased"] == {"micro_batch": 4, "encode_batch": 16}
    assert run.state() == "done"


def test_previews_give_way_without_stopping_the_run(run, monkeypatch):
    too_small(monkeypatch, loaded_model, "sample", lambda *args, **_: args[-2] > 1, CUDNN)
    worker_process.work(run)
    said = run.events()[0]
    assert [e.resumed_from for e in said if isinstance(e, events.Started)] == [0]
    assert run.info()["eased"] == {"preview_batch": 1}
    assert len([e for e in said if isinstance(e, events.Image)]) == 8


def test_after_a_mended_preview_it_is_training_that_gives_way(run, monkeypatch):
    too_small(monkeypatch, loaded_model, "sample", lambda *args, **_: args[-2] > 1)
    too_small(monkeypatch, trainer, "micro_step", lambda *_: run.settings().plan.batch > 1)
    worker_process.work(run)
    assert run.info()["eased"] == {"preview_batch": 1, "batch": 1, "accumulation": 2}


def test_what_was_learnt_is_the_same_however_small_the_way(run, monkeypatch):
    worker_process.work(run)
    photos = find_photos([run.photos_dir])
    other = create_run(run.settings(), photos, "smaller card")
    too_small(
        monkeypatch, trainer, "micro_step", lambda *_: not other.settings().plan.checkpointing
    )
    worker_process.work(other)
    ours, theirs = (checkpoint_lora(checkpoints.newest_checkpoint(each)) for each in (run, other))
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], atol=2e-4), name


@pytest.mark.parametrize("system", ["Windows", "Linux"])
@pytest.mark.parametrize("free", [5.0, 64.0])
@pytest.mark.parametrize("budget", [4, 8, 16, 24])
def test_what_is_planned_is_below_the_cap(budget, free, system):
    asked = PlanRequest(settings=Settings(budget_gib=budget), free_gib=free, system=system)
    assert asked.usable_gib < allowed_gib(budget, free, 0.45, system) < min(budget, free)


def test_without_cuda_there_is_no_cap():
    assert limit_vram(torch.device("cpu"), 4.0) == float("inf")


def test_the_cap_is_the_budget_less_the_measured_context(monkeypatch):
    gib, caps, woken = 2**30, [], []

    def limit(share, index):
        assert isinstance(index, int), "torch takes no device without an index here"
        caps.append(share * 12)

    card = SimpleNamespace(
        mem_get_info=lambda _: (9.4 * gib, 12 * gib),
        memory_reserved=lambda _: 0.1 * gib,
        set_per_process_memory_fraction=limit,
    )
    memory_cap.context_gib.cache_clear()
    monkeypatch.setattr(memory_cap.torch, "cuda", card)
    monkeypatch.setattr(memory_cap, "_warm_up", woken.append)
    free = {"vram_used_gib": 2.0, "vram_total_gib": 12.0}
    monkeypatch.setattr(monitor, "usage", lambda: Usage(1, 8, 16, **free))
    assert limit_vram(torch.device("cuda"), 8.0) == pytest.approx(8 - 0.5) == caps[0]
    free["vram_used_gib"] = 2.6  # a second attempt: the context is there already
    assert limit_vram(torch.device("cuda"), 8.0) == pytest.approx(8 - 0.5) and len(woken) == 1
    card.mem_get_info = lambda _: (0.1 * gib, 12 * gib)
    card.memory_reserved = lambda _: 0
    with pytest.raises(UserError, match="0.6 GiB of the graphics card are free"):
        limit_vram(torch.device("cuda"), 8.0)
    memory_cap.context_gib.cache_clear()
