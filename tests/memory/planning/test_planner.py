"""A plan never exceeds its budget, is refused in words when it must be, and says its figures."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers.make_simulated import DEFAULT_SETTINGS
from helpers.plans import BUDGETS, FLUX, plan, told

from blockskip.cli import app
from blockskip.core.errors import UserError
from blockskip.core.presets import model_rows, quality_table
from blockskip.core.settings import MAX_GIB, Settings
from blockskip.core.stages import PLANNED
from blockskip.core.units import GIB
from blockskip.memory.planning import planner
from blockskip.memory.planning.request import PlanRequest
from blockskip.memory.planning.requirements import stage_memory
from blockskip.memory.planning.run_sizes import middle_bytes
from blockskip.memory.planning.search import best_plan

KEYS = (
    "model budget_gib span precision arithmetic offload recomputed patches window_draws stages "
    "peak_vram_gib ram_gib disk_gib fits reasons"
).split()


@pytest.mark.parametrize("system", ["Windows", "Linux"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_rung_fits_with_16_gib_of_ram(budget, system):
    made = plan(budget, system=system, ram_gib=16)
    assert made.usable_gib <= budget - 0.6, "CUDA's context at the least is left alone"
    for stage in PLANNED:
        assert made.stages[stage].vram_gib <= made.usable_gib, stage
        assert made.stages[stage].ram_gib <= 12, stage
    assert made.settings.plan.middle != "streamed", "a rung needs no streaming in every step"


@pytest.mark.parametrize("model", list(model_rows()))
def test_plan_never_exceeds_budget(model):
    budgets, others = (1, 2, 3, 5, 7, 13, 40), ((8, "0.5"), (16, ""), (32, "0.5"))
    for budget, (ram, skip) in itertools.product(budgets, others):
        try:
            made = plan(budget, model, ram_gib=ram, skip=skip)
        except UserError as refusal:
            assert "least that works" in refusal.remedy, refusal.remedy
            continue
        assert made.peak_vram_gib <= made.usable_gib
        assert made.ram_gib <= ram * 0.75
        assert made.settings.plan.window_steps >= 1 and made.settings.plan.micro_batch >= 1


@pytest.mark.parametrize("model", [name for name, row in model_rows().items() if not row.demo])
def test_room_is_used_for_draws_that_pass_together(model):
    """A step averages over as many draws as ever, and what is asked for is kept."""
    found = [plan(budget, model, skip="0.5", precision="nf4") for budget in (8, 12, 24, 40)]
    assert [one.settings.plan.draws_per_step for one in found] == [4] * 4
    assert found[-1].settings.plan.batch == 4 and "together" in " ".join(told(found[-1]))
    asked = plan(40, model, batch=2)
    assert (asked.settings.plan.batch, asked.settings.plan.accumulation) == (2, 4)


def test_free_memory_counts_not_the_cards_size():
    made = plan(8, free=5.2)
    assert made.usable_gib == pytest.approx(5.2 * 0.96 - 1.05)
    assert made.peak_vram_gib <= made.usable_gib
    assert "into the 5.2 GiB that are free on the card now" in told(made)[0]
    assert "5.2 GiB that are free now (of 8 allowed)" in told(made)[1]


@pytest.mark.parametrize("row", model_rows().values(), ids=lambda row: row.name)
def test_pictures_while_training_are_no_larger_than_512_px(row):
    """The memory is that of the large ones at the end; the disk counts both."""
    made = plan(24, row.name).settings
    assert (made.preview_px, made.progress_px) == (row.native_px, min(512, row.native_px))
    assert made.finishes_large == (row.native_px > 512)
    now, before = (stage_memory(row, s)["preview"] for s in (made, made.changed(draft_px=0)))
    assert (now.vram_gib, now.ram_gib) == (before.vram_gib, before.ram_gib)
    pixels = 5 * made.progress_px**2 + made.finishes_large * row.native_px**2
    assert now.disk_gib == pytest.approx(4 * 3 * pixels / GIB)


def test_windows_must_set_aside_what_the_card_holds_too():
    """What is missing is enough, and changes nothing else."""
    whole = plan(8, commit_gib=float("inf"))
    assert whole.commit_short is None and whole.to_dict()["commit_short"] is None
    short = plan(8, commit_gib=10.0)
    assert (short.settings, short.stages) == (whole.settings, whole.stages)
    assert "Windows can set aside 10.0 GiB more" in short.to_dict()["commit_short"]
    more = short.commit_short.values["more_gib"]
    assert plan(8, commit_gib=10 + more).commit_short is None
    assert plan(8, commit_gib=10 + more - 0.01).commit_short is not None


def test_what_freed_memory_would_bring_is_the_plan_with_it():
    tight, wide = plan(24, free=6.0, freeable_gib=12.0), plan(24, free=18.0)
    assert tight.settings == plan(24, free=6.0).settings, "it is not counted on"
    assert wide.settings != tight.settings
    gain = tight.to_dict()["when_freed"]
    assert gain.startswith("If ComfyUI frees the 12.0 GiB") and "likeness expected" in gain
    assert "the same is trained" in plan(24, free=6.0, freeable_gib=0.05).to_dict()["when_freed"]
    assert plan(24, free=6.0).when_freed is None


def test_big_cards_and_windows_keep_more_back():
    reserves = {
        (system, budget): PlanRequest(
            settings=Settings(budget_gib=budget), system=system
        ).reserve_gib
        for system in ("Windows", "Linux")
        for budget in (8, 16)
    }
    assert reserves["Windows", 16] > reserves["Windows", 8] >= 0.6
    assert reserves["Windows", 8] > reserves["Linux", 8]


@pytest.mark.parametrize("system", ["Windows", "Linux"])
@pytest.mark.parametrize("more", [{}, {"targets": "attention"}, {"ram_gib": 8}])
def test_more_memory_never_loses_quality(system, more):
    with pytest.raises(UserError) as refused:
        plan(1, system=system, **more)
    least = refused.value.least.values["least_gib"]
    asked = PlanRequest(settings=plan(24).settings.changed(**more), system=system)
    found = [
        best_plan(
            FLUX, replace(asked, settings=asked.settings.changed(budget_gib=least + step / 2.5))
        )
        for step in range(58)
    ]
    losses = [(fit.slower or fit).loss for fit in found]
    assert losses == sorted(losses, reverse=True)
    assert all(
        fit.loss <= loss + quality_table()["faster"]["loss"]
        for fit, loss in zip(found, losses, strict=True)
    )
    assert found[0].settings.plan.middle == "streamed"
    assert found[-1].settings.plan.middle == "stays"


def test_what_costs_only_time_goes_before_what_costs_quality():
    made = plan(12, precision="bf16")
    assert 0 < made.settings.plan.recomputed < 34, "only as many as must be"
    wider = plan(13, precision="bf16").settings.plan
    assert wider.recomputed < made.settings.plan.recomputed
    assert not plan(24).settings.plan.recomputed


def test_an_8_gb_card_trains_unquantised_when_asked():
    made = plan(8, skip="19,10", precision="bf16")
    assert made.to_dict()["precision"] == "bf16" and made.settings.plan.middle != "streamed"
    assert (made.settings.plan.front, made.settings.plan.back) == (19, 10)


def test_what_the_user_says_is_obeyed():
    made = plan(24, rank=8, targets="attention", patches="full", steps=100)
    settings = made.settings
    assert (settings.rank, settings.targets, settings.steps) == (8, "attention", 100)
    assert settings.plan.side_px == settings.plan.s_max_px == 512
    assert plan(24, text_tokens=128).settings.plan.text_tokens == 128


def test_crops_grow_where_there_is_room_and_stay_dynamic():
    sides = []
    for budget in (3.25, *BUDGETS):
        settings = plan(budget).settings
        assert (
            settings.plan.patches == "dynamic"
            and settings.plan.s_max_px == 2 * settings.plan.s_min_px
        )
        assert settings.plan.s_max_px <= FLUX.native_px
        sides.append(settings.plan.s_min_px)
    assert sides == sorted(sides) and (sides[0], sides[-1]) == (256, 512)


@pytest.mark.parametrize("patches", ["random", "reversed", "resize"])
def test_a_schedule_asked_for_has_the_published_sides(patches):
    made = plan(24, patches=patches)
    assert made.to_dict()["patches"] == {"schedule": patches, "s_min": 256, "s_max": 512}
    assert any(patches in said and "below crops that follow" in said for said in told(made))


def test_weights_are_read_from_files_only_when_ram_is_too_small():
    for budget, ram, system in itertools.product(
        (3, 5, 8, 16), (8, 12, 16, 24, 32, 64), ("Windows", "Linux")
    ):
        made = plan(budget, ram_gib=ram, system=system)
        pinned = made.settings.changed(ram_weights_gib=MAX_GIB)
        needs = planner.planned_memory(pinned).values()
        fits = max(need.ram_gib for need in needs) <= ram * 0.75
        assert fits == (made.to_dict()["offload"] == "pinned")


@pytest.mark.parametrize("precision", ["full", "nf4"])
def test_a_middle_that_stays_does_not_wait_in_ram_as_well(precision):
    stays = DEFAULT_SETTINGS.changed(precision=precision, ram_weights_gib=MAX_GIB)
    leaves = stays.changed(middle="leaves")
    ram = [stage_memory(FLUX, c)["residuals"].ram_gib for c in (stays, leaves)]
    assert ram[1] - ram[0] == pytest.approx(middle_bytes(FLUX, stays) / GIB)


def test_json_has_the_contracts_keys(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", "blockskip plan --budget 8 --ram 16 --json".split())
    assert app.main() == 0
    said = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(said) and said["fits"] is True
    assert set(said["stages"]) == set(PLANNED)
    assert {"vram_gib", "ram_gib", "disk_gib"} <= set(said["stages"]["train"])
    assert set(said["span"]) == {"front", "middle", "back", "ratio"}
    assert said["span"]["front"] + said["span"]["middle"] + said["span"]["back"] == 57


def test_a_plan_as_a_table_and_a_refusal(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", "blockskip plan --budget 12 --ram 16".split())
    assert app.main() == 0
    out = capsys.readouterr().out
    assert "graphics memory" in out and "can be planned with" in out and "would" in out
    monkeypatch.setattr(sys, "argv", "blockskip plan --budget 1".split())
    assert app.main() == 1
    assert "least that works" in " ".join(capsys.readouterr().err.split())


def test_the_demos_choice_is_what_it_was():
    settings = planner.choose_settings()
    assert (settings.plan.front, settings.plan.back) == (6, 3)
    assert (settings.plan.s_min_px, settings.plan.s_max_px, settings.plan.text_tokens) == (
        32,
        64,
        22,
    )
    assert (settings.plan.batch, settings.plan.window_steps, settings.plan.micro_batch) == (
        8,
        24,
        16,
    )
    assert settings.plan.precision == "full" and not settings.plan.recomputed


def test_planning_needs_no_torch():
    code = (
        "import sys; from blockskip.memory.planning import planner; "
        "planner.make_plan(model='flux-dev'); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert said.stdout.split() == [b"False"]
