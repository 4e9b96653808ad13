"""Memory runs out: the run gives way in what costs only time first, and goes on."""

from types import SimpleNamespace

import pytest
import torch

from blockskip.core import events
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos
from blockskip.memory import monitor
from blockskip.memory import vram_cap as memory_cap
from blockskip.memory.monitor import Usage
from blockskip.memory.planning.duration import run_seconds, usual_rates
from blockskip.memory.planning.oom_fallback import is_out_of_memory, next_fallback
from blockskip.memory.planning.planner import choose_settings, make_plan, planned_memory
from blockskip.memory.planning.request import PlanRequest
from blockskip.memory.vram_cap import allowed_gib, limit_vram
from blockskip.runs import checkpoints, worker, worker_process
from blockskip.runs.run import create_run
from blockskip.sampling import loaded_model
from blockskip.studio import run_view, strings
from blockskip.training import encode, trainer
from blockskip.training.checkpoint import checkpoint_lora

NEVER = "front back rank targets s_min_px s_max_px patches steps lr text_tokens seed".split()
BITS = ["full", "int8", "nf4"]
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


def seconds(settings):
    return run_seconds(model_row(settings.model), settings, usual_rates())


@pytest.mark.parametrize("free", [11.3, 10.8, 5.0])
@pytest.mark.parametrize("model", ["flux-dev", "flux2-klein-4b", "z-image"])
def test_streaming_goes_last_and_nothing_takes_too_long(model, free):
    """A desktop's 3060 with 16 GiB of RAM: weights that do not fit there come from the disk."""
    card = {"free_gib": free, "system": "Windows"}
    begun = make_plan(model=model, budget_gib=12, ram_gib=16, **card).settings
    for stage in ("train", "residuals"):
        order, eased = [], begun
        while smaller := next_fallback(eased, stage, planned=begun, **card):
            eased = smaller[0]
            order.append((eased.plan.middle == "streamed", BITS.index(eased.plan.precision)))
            assert seconds(eased) <= 2 * seconds(begun)
            assert planned_memory(eased)[stage].ram_gib <= 12
        assert order == sorted(order) and order, "precision before streaming"


def test_weights_from_the_disk_are_not_streamed_at_any_price():
    """What a plan of 16 bits would have done first: 67 GiB from the disk in every step."""
    full = {"free_gib": 11.3, "free_ram_gib": 6.0, "system": "Windows", "precision": "bf16"}
    begun = make_plan(model="flux-dev", budget_gib=12, **full).settings
    streamed = begun.changed(middle="streamed")
    assert not begun.plan.ram_weights_gib and seconds(streamed) > 2 * seconds(begun)


def test_what_others_took_since_is_not_planned_with():
    begun = make_plan(model="flux-dev", budget_gib=12, free_gib=11.3, system="Windows").settings
    smaller, _ = next_fallback(begun, "train", free_gib=6.0, system="Windows")
    usable = PlanRequest(settings=begun, free_gib=6.0, system="Windows").usable_gib
    assert planned_memory(smaller)["train"].vram_gib <= usable < 5
    assert next_fallback(begun, "train", free_gib=1.5, system="Windows") is None


def test_a_mac_has_no_4_bits():
    asked = {"budget_gib": 12, "free_gib": 64, "ram_gib": 64, "precision": "bf16"}
    begun = make_plan(model="flux-dev", **asked).settings
    found = [begun]
    while smaller := next_fallback(found[-1], "train", system="Darwin"):
        found.append(smaller[0])
    assert {each.plan.precision for each in found} == {"full", "int8"}


@pytest.fixture
def run():
    settings = choose_settings(**SAID, seed=1, device="cpu", checkpoint_every=1)
    photos = find_photos([sorted((ASSETS / "demo-photos").glob("*/"))[0]])[:2]
    return create_run(settings, photos, "small card")


OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CUDNN = RuntimeError("GET was unable to find an engine to execute this computation")
BROKEN = RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`")
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
        return len(steps) > 2 and not run.settings().plan.recomputed

    too_small(monkeypatch, trainer, "micro_step", full)
    worker_process.work(run)
    said = run.events()[0]
    notes = [e.text for e in said if isinstance(e, events.Note)]
    assert len(notes) == 1 and "from step 2" in notes[0]
    assert [e.resumed_from for e in said if isinstance(e, events.Started)] == [0, 2]
    assert isinstance(said[-1], events.Done) and said[-1].steps == SAID["steps"]
    assert run.info()["eased"].keys() == {"recomputed"}
    assert run.info()["settings"]["plan"]["batch"] == 2 and run.state() == "done"
    peaks = [e.stage for e in said if isinstance(e, events.Peak)]
    assert peaks[-5:] == ["text", "latents", "residuals", "train", "preview"]
    note = run_view.eased(run.settings(original=True), run.settings())
    assert "computed twice" in note and strings.AS_PLANNED in note, "the page names it"
    run.forget_fallbacks()
    assert run.settings() == run.settings(original=True), "the way back"


def test_when_nothing_smaller_is_left_it_is_said(run, monkeypatch):
    too_small(monkeypatch, trainer, "micro_step", lambda *_: True)
    # quantising and streaming the demo model is not what is tested here
    monkeypatch.setattr("blockskip.memory.planning.oom_fallback._smaller", lambda *_: [])
    assert worker_process.main(str(run.folder)) == 1
    last = run.events()[0][-1]
    assert isinstance(last, events.Failed) and "too little free memory for training" in last.title
    assert "resume" in last.remedy and run.state() == "failed" and last.kind == "OutOfMemory"


def test_out_of_memory_in_a_window_and_in_latents(run, monkeypatch):
    too_small(monkeypatch, trainer, "compute_window", lambda *args: args[4] > 4, CUBLAS)
    larger = lambda *_: run.settings().plan.encode_batch > 16  # noqa: E731
    monkeypatch.setattr(worker_process, "room_gib", lambda: 0.5)
    too_small(monkeypatch, encode, "encode_draws", larger, CUDNN)
    worker_process.work(run)
    assert run.info()["eased"] == {"micro_batch": 4, "middle": "leaves", "encode_batch": 16}
    assert run.state() == "done"


@pytest.mark.parametrize("error", [OUT, CUDNN, RuntimeError("CUDA error: invalid device")])
def test_what_fails_outside_a_stage_changes_no_setting(run, monkeypatch, error):
    """Before the first stage nothing that a plan could change has been done."""
    monkeypatch.setattr(worker_process, "room_gib", lambda: 0.5)
    too_small(monkeypatch, worker, "limit_vram", lambda *_: True, error)
    too_small(monkeypatch, worker_process, "available_gib", lambda *_: True)  # it fails as well
    before = run.settings()
    assert worker_process.main(str(run.folder)) == 1
    assert run.settings() == before and "eased" not in run.info()
    last = run.events()[0][-1]
    assert ("too little free memory" in last.title) == (error is OUT or error is CUDNN)


@pytest.mark.parametrize("tries", [1, 2])
def test_a_card_that_fails_with_room_left_is_tried_once_more(run, monkeypatch, tries):
    failed = []
    monkeypatch.setattr(worker_process, "room_gib", lambda: 5.0)
    too_small(
        monkeypatch,
        trainer,
        "compute_window",
        lambda *_: failed.append(1) or len(failed) <= tries,
        BROKEN,
    )
    before = run.settings()
    assert worker_process.main(str(run.folder)) == tries - 1
    assert run.settings() == before and "eased" not in run.info()
    said = run.events()[0]
    assert len([e for e in said if isinstance(e, events.Note) and "once more" in e.text]) == 1
    if tries == 2:
        assert "has free memory" in said[-1].title and "driver" in said[-1].remedy


def test_previews_give_way_without_stopping_the_run(run, monkeypatch):
    too_small(monkeypatch, loaded_model, "sample", lambda *args, **_: args[-2] > 1)
    worker_process.work(run)
    said = run.events()[0]
    assert [e.resumed_from for e in said if isinstance(e, events.Started)] == [0]
    assert run.info()["eased"] == {"preview_batch": 1}
    assert len([e for e in said if isinstance(e, events.Image)]) == 8


def test_after_a_mended_preview_it_is_training_that_gives_way(run, monkeypatch):
    too_small(monkeypatch, loaded_model, "sample", lambda *args, **_: args[-2] > 1)
    too_small(monkeypatch, trainer, "micro_step", lambda *_: run.settings().plan.batch > 1)
    worker_process.work(run)
    assert run.info()["eased"].items() >= {"preview_batch": 1, "batch": 1}.items()


def test_what_was_learnt_is_the_same_however_small_the_way(run, monkeypatch):
    worker_process.work(run)
    photos = find_photos([run.photos_dir])
    other = create_run(run.settings(), photos, "smaller card")
    too_small(monkeypatch, trainer, "micro_step", lambda *_: not other.settings().plan.recomputed)
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


@pytest.mark.parametrize(
    "free, allocated, short",
    [(0.4, 5, True), (9, 7.8, True), (9, 5, False), (None, 5, False)],
    ids=["full card", "full budget", "room", "broken driver"],
)
def test_ambiguous_words_mean_memory_only_where_it_is_short(monkeypatch, free, allocated, short):
    def answer(_):
        if free is None:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return free * 2**30, 16 * 2**30

    card = SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 0,
        mem_get_info=answer,
        memory_reserved=lambda _: allocated * 2**30,
        memory_allocated=lambda _: allocated * 2**30,
        get_per_process_memory_fraction=lambda _: 0.5,
    )
    monkeypatch.setattr(memory_cap.torch, "cuda", card)
    assert is_out_of_memory(CUDNN, memory_cap.room_gib) == short
    assert is_out_of_memory(BROKEN, memory_cap.room_gib) == short
    assert is_out_of_memory(CUBLAS, memory_cap.room_gib), "named"
    assert not is_out_of_memory(RuntimeError("CUDA error: invalid"), memory_cap.room_gib)


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
