"""RAM keeps a part of the waiting weights: the rest is read again, and results stay the same."""

import pytest
import torch
from helpers.parked import CPU, num_bytes, offloaded_model, saved_checkpoint
from helpers.tiny import tiny_draws, tiny_flux

from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.core.presets import model_row
from blockskip.core.settings import MAX_GIB, settings_from_dict
from blockskip.core.units import GIB
from blockskip.data.photos import find_photos
from blockskip.memory import monitor, open_model
from blockskip.memory.planning.duration import run_work
from blockskip.memory.planning.planner import choose_settings, make_plan
from blockskip.memory.planning.requirements import SPARE_RAM_GIB
from blockskip.memory.planning.run_sizes import kept_bytes, waiting_bytes
from blockskip.memory.streaming import by_store, offloaded_params, weight_stores
from blockskip.models.families.flux import Flux
from blockskip.runs import worker
from blockskip.runs.run import create_run
from blockskip.studio import plan_strings, strings
from blockskip.training.residuals import full_velocity
from blockskip.training.trainer import Trainer

FAMILY, FLUX = Flux(), model_row("flux-dev")
META = torch.device("meta")  # copies as to a card, which goes nowhere


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_checkpoint(tmp_path_factory.mktemp("model") / "transformer")


def in_ram(store):
    return sum(tensor.numel() * tensor.element_size() for tensor in store._cache.values())


def largest_block(model):
    return max(num_bytes(block) for _, block in FAMILY.blocks(model))


@pytest.mark.parametrize("limit", [0, 100_000, 200_000, 400_000])
def test_exactly_what_is_not_kept_is_read_again(folder, limit):
    model, store = offloaded_model(folder, limit)
    whole, draws = tiny_flux(), tiny_draws()
    expected = full_velocity(whole, FAMILY, draws, 2, CPU)
    assert torch.equal(full_velocity(model, FAMILY, draws, 2, CPU), expected)
    first = store.stats.read_bytes
    assert first == num_bytes(whole)
    kept = num_bytes(whole) - sum(p.numel() * 4 for p in model.parameters() if p.is_meta)
    assert limit - largest_block(whole) < kept <= limit
    assert torch.equal(full_velocity(model, FAMILY, draws, 2, CPU), expected)
    assert store.stats.read_bytes - first == num_bytes(whole) - kept


@pytest.mark.parametrize("pinned_at_most", [0, 2, 100])
def test_what_cannot_be_pinned_is_kept_all_the_same(folder, pinned_at_most, monkeypatch):
    """As on Windows, which pins about half of RAM."""
    model, store = offloaded_model(folder, 300_000)
    empty, pinned = torch.empty, []

    def at_most(*shape, pin_memory=False, **how):
        if pin_memory and len(pinned) >= pinned_at_most:
            raise RuntimeError("CUDA error: out of memory")
        pinned.extend([1] * pin_memory)
        return empty(*shape, **how)

    monkeypatch.setattr(torch, "empty", at_most)
    expected = dict(tiny_flux().named_parameters())
    for _ in range(2):
        for _, block in FAMILY.blocks(model):
            [(_, slots)] = by_store(offloaded_params(block)).items()
            fresh = [slot for slot in slots if slot.name not in store._cache]
            size = sum(slot.num_bytes for slot in fresh)
            keep = 0 < size <= store.cache_bytes
            store.cache_bytes -= size * keep
            found = store._gather(fresh, [slot.name for slot in slots], keep, pinned=True)
            assert all(torch.equal(found[name], expected[name]) for name in found)
    assert 0 < in_ram(store) <= 300_000
    assert set(store.stats.reads.values()) == {1, 2}


def test_kept_weights_wait_in_ram_for_a_card(folder):
    model, store = offloaded_model(folder, 200_000)
    for _ in range(2):
        before = store.stats.read_bytes
        for _, block in FAMILY.blocks(model):
            [(_, slots)] = by_store(offloaded_params(block)).items()
            store.take(slots, META, passing=True)
    blocks = sum(num_bytes(block) for _, block in FAMILY.blocks(model))
    assert 0 < in_ram(store) <= 200_000
    assert store.stats.read_bytes - before == blocks - in_ram(store)


def read_bytes(trainer):
    (store,) = weight_stores([trainer.model])
    return store.stats.read_bytes


PETS = sorted((ASSETS / "demo-photos").glob("*/"))
SAID = {"steps": 4, "batch": 2, "window_steps": 2, "preview_every": 0, "preview_steps": 1}


@pytest.mark.parametrize(
    "middle", [pytest.param("stays", marks=pytest.mark.long), "leaves", "streamed"]
)
def test_the_demo_reads_and_holds_what_is_planned(middle, monkeypatch):
    """Its files have half of the bytes of its weights in RAM."""
    marks, trainers = [], []

    def mark_reads(name, when):
        kept_call = getattr(Trainer, name)

        def marked(self, *said):
            trainers.append(self)
            marks.extend([read_bytes(self)] * (when == "before"))
            found = kept_call(self, *said)
            marks.extend([read_bytes(self)] * (when == "after"))
            return found

        monkeypatch.setattr(Trainer, name, marked)

    mark_reads("make_window", "before"), mark_reads("train_step", "after")
    row, loras = model_row("demo"), []
    asked = choose_settings(**SAID, seed=1, device="cpu").changed(middle=middle)
    asked = asked.changed(preview_prompts=("a cat",))
    waiting = waiting_bytes(row, asked)
    for share in (0.0, 0.6):
        marks.clear()
        settings = asked.changed(ram_weights_gib=share * waiting / GIB)
        run = create_run(settings, find_photos([PETS[0]])[:1], f"{middle}-{share}")
        worker.Worker(run).work()
        one, (store,) = trainers[-1], weight_stores([trainers[-1].model])
        block = max(num_bytes(each) for _, each in one.family.blocks(one.model))
        work = run_work(row, settings, settings.num_draws * settings.reuse)
        planned = sum(each.disk_gb for each in work.values()) / 2 * 1e9
        read = 2 * (marks[-1] - marks[3])  # of the second window and its steps
        assert abs(read - planned) <= 0.05 * waiting
        held = share * waiting - store.cache_bytes
        assert 0 <= kept_bytes(row, settings) - held <= min(block, 0.05 * waiting)
        loras.append(one.lora)
    for other in loras[1:]:
        assert all(torch.equal(other[name], value) for name, value in loras[0].items())


def plan(model="flux-dev", budget=12, ram=16, system="Windows", **more):
    known = {"free_gib": float("inf"), "capability": 8.6} | more
    return make_plan(model=model, budget_gib=budget, ram_gib=ram, system=system, **known)


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
@pytest.mark.parametrize("model, budget", [("flux-dev", 12), ("z-image", 6)])
def test_more_free_ram_never_reads_more(model, budget, system):
    whole = plan(model, budget, 24, system)
    read = []
    for free in (1, 7, 10, 14, 17, 24):
        made = plan(model, budget, 24, system, free_ram_gib=free)
        settings, row = made.settings, model_row(model)
        assert settings == whole.settings.changed(
            ram_weights_gib=settings.plan.ram_weights_gib,
            preview_speed=settings.plan.preview_speed,
        ), "it decides nothing else"
        work = run_work(row, settings, 2000)
        read.append(sum(each.disk_gb for each in work.values()))
        shared = system == "Darwin"
        needs = {name: n.ram_gib + shared * n.vram_gib for name, n in made.stages.items()}
        assert max(needs.values()) <= 18
        if settings.plan.ram_weights_gib:
            loading = max(needs[name] for name in ("residuals", "train", "preview"))
            assert loading <= min(18, free - SPARE_RAM_GIB)
    assert read == sorted(read, reverse=True) and read[0] > read[-1]


def test_a_part_is_said_in_words():
    """A browser that holds 10 of 16 GiB refuses nothing."""
    for free, word, cost in (
        (10.0, "partly", strings.PLAN_COST_PARTLY),
        (6.0, "mapped", strings.PLAN_COST_MAPPED),
        (2.0, "mapped", strings.PLAN_COST_MAPPED),
    ):
        made = plan(free_gib=11.3, free_ram_gib=free)
        told, said = made.to_dict(), " ".join(made.to_dict()["reasons"])
        assert (told["offload"], told["free_ram_gib"]) == (word, free)
        assert (told["ram_weights_gib"] > 0) == (word == "partly")
        assert f"RAM: {free:.1f} GiB free now" in said
        assert ("Close other programs" in said) == (free < made.ram_gib)
        assert cost in plan_strings.costs(made.settings, FLUX)
    unknown = plan(free_gib=11.3).to_dict()
    assert unknown["free_ram_gib"] is None and "free now," not in unknown["reasons"][-3]


def test_a_run_that_starts_keeps_no_more_than_is_free_then(monkeypatch):
    settings = plan(free_gib=11.3).settings
    assert 1 < settings.plan.ram_weights_gib < MAX_GIB

    def kept(free, device=META):
        monkeypatch.setattr(monitor, "free_ram_gib", lambda: free)
        return open_model._kept_bytes(FLUX, settings, device) / GIB

    assert kept(100.0) == settings.plan.ram_weights_gib
    needs = plan(free_gib=11.3).ram_gib - settings.plan.ram_weights_gib
    assert kept(needs + SPARE_RAM_GIB + 1) == pytest.approx(1, abs=0.01)
    assert kept(3.0) == 0
    assert kept(needs + SPARE_RAM_GIB + 1, CPU) == 0, "what a card would hold is in RAM too"


def test_a_program_that_ended_holds_no_ram(monkeypatch):
    class Ended:
        def memory_info(self):
            raise monitor.psutil.NoSuchProcess(1)

    now = monitor.free_ram_gib()
    assert 0 < now <= monitor.usage().ram_total_gib
    monkeypatch.setattr(monitor.psutil.Process, "children", lambda self, recursive: [Ended()])
    assert monitor.free_ram_gib() > 0


@pytest.mark.parametrize("said, gib", [("pinned", MAX_GIB), ("mapped", 0.0)])
def test_all_or_none_of_earlier_runs_keeps_its_meaning(said, gib):
    for old in ({"offload": said}, {"plan": {"offload": said}}):
        assert settings_from_dict(old).plan.ram_weights_gib == gib
        eased = old | {"ram_weights_gib": 0.0}
        assert settings_from_dict(eased).plan.ram_weights_gib == 0
    for wrong in ("gone", ["pinned"], 3.0):
        with pytest.raises(UserError, match="ram_weights_gib"):
            settings_from_dict({"plan": {"offload": wrong}})
