"""A plan never exceeds its budget, is refused in words when it must be, and says its figures."""

import itertools
import json
import re
import subprocess
import sys

import pytest

from blockskip import cli
from blockskip.config import model_row, model_rows
from blockskip.events import UserError
from blockskip.memory import planner
from blockskip.memory.plan import Wish, candidates, expected_likeness
from blockskip.memory.tables import STAGES

FLUX = model_row("flux-dev")
BUDGETS = (4, 6, 8, 10, 12, 16, 24)
KEYS = (
    "model budget_gib span precision offload checkpointing patches window_draws stages "
    "peak_vram_gib ram_gib disk_gib fits reasons"
).split()


def plan(budget, model="flux-dev", system="Windows", free=float("inf"), **more):
    return planner.make_plan(model=model, budget_gib=budget, system=system, free_gib=free, **more)


@pytest.mark.parametrize("system", ["Windows", "Linux"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_rung_fits_with_16_gib_of_ram(budget, system):
    made = plan(budget, system=system, ram_gib=16)
    assert made.usable_gib <= budget - 0.6, "CUDA's context at the least is left alone"
    for stage in STAGES:
        assert made.stages[stage].vram_gib <= made.usable_gib, stage
        assert made.stages[stage].ram_gib <= 12, stage
    assert made.settings.middle != "streamed", "a rung needs no streaming in every step"


@pytest.mark.parametrize("model", list(model_rows()))
def test_plan_never_exceeds_budget(model):
    grid = itertools.product((1, 2, 2.5, 3, 5, 7, 9.5, 13, 20, 40), (8, 16, 32), ("", "0.5"))
    for budget, ram, skip in grid:
        try:
            made = plan(budget, model, ram_gib=ram, skip=skip)
        except UserError as refusal:
            assert "least that works" in refusal.remedy, refusal.remedy
            continue
        assert made.peak_vram_gib <= made.usable_gib
        assert made.ram_gib <= ram * 0.75
        assert made.settings.window_steps >= 1 and made.settings.micro_batch >= 1


def test_free_memory_counts_not_the_cards_size():
    made = plan(8, free=5.2)
    assert made.usable_gib == pytest.approx(5.2 * 0.97 - 1.05)
    assert made.peak_vram_gib <= made.usable_gib
    assert "5.2 GiB that are free now" in made.reasons[0]


def test_big_cards_and_windows_keep_more_back():
    reserves = {
        (system, budget): Wish(budget_gib=budget, system=system).reserve_gib
        for system in ("Windows", "Linux")
        for budget in (8, 16)
    }
    assert reserves["Windows", 16] > reserves["Windows", 8] >= 0.6
    assert reserves["Windows", 8] > reserves["Linux", 8]


@pytest.mark.parametrize("skip", ["", "19,10", "0.3"])
def test_a_refusal_says_the_least_and_the_least_works(skip):
    with pytest.raises(UserError, match="too small for FLUX.1-dev") as refused:
        plan(1, skip=skip)
    least = float(re.search(r"least that works is ([\d.]+) GiB", refused.value.remedy)[1])
    assert "takes" in refused.value.remedy and "driver" in refused.value.remedy, "why"
    assert plan(least, skip=skip).peak_vram_gib <= least
    with pytest.raises(UserError):
        plan(least - 0.11, skip=skip)


@pytest.mark.parametrize("more, word", [({"ram_gib": 4}, "RAM"), ({"disk_gib": 0.2}, "disk")])
def test_too_little_ram_or_disk_is_refused_as_that(more, word):
    with pytest.raises(UserError, match=word):
        plan(12, **more)


def test_more_memory_never_loses_quality():
    found = [plan(b / 2) for b in range(8, 50)]
    losses = [
        min(
            c.loss
            for c in candidates(FLUX, Wish(budget_gib=1))
            if (c.front, c.side_px, c.precision, c.text_tokens)
            == (p.front, p.side_px, p.precision, p.text_tokens)
        )
        for p in (planner.choice_of(made.settings) for made in found)
    ]
    assert losses == sorted(losses, reverse=True)


def test_what_costs_only_time_goes_before_what_costs_quality():
    made = plan(12)
    assert made.settings.checkpointing and made.settings.precision == "full"
    assert not plan(24).settings.checkpointing


def test_an_8_gb_card_trains_unquantised_when_asked():
    made = plan(8, skip="19,10", precision="bf16")
    assert made.to_dict()["precision"] == "bf16" and made.settings.middle != "streamed"
    assert (made.settings.front, made.settings.back) == (19, 10)


def test_published_likeness_is_read_as_published():
    for (front, back), expected in zip(
        FLUX.spans.values(), [(0.7194, 0.7282), (0.7171, 0.7303), (0.6963, 0.7150)], strict=True
    ):
        ratio = (front + back) / FLUX.num_blocks
        found = [round(expected_likeness(ratio, side), 4) for side in (256, 512)]
        assert found == pytest.approx(expected, abs=1e-4)


def test_what_the_user_says_is_obeyed():
    made = plan(24, rank=8, targets="attention", patches="full", steps=100)
    settings = made.settings
    assert (settings.rank, settings.targets, settings.steps) == (8, "attention", 100)
    assert planner.choice_of(settings).side_px == settings.s_max_px == 512
    assert plan(24, text_tokens=128).settings.text_tokens == 128


def test_json_has_the_contracts_keys(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", "blockskip plan --budget 8 --ram 16 --json".split())
    assert cli.main() == 0
    said = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(said) and said["fits"] is True
    assert set(said["stages"]) == set(STAGES)
    assert {"vram_gib", "ram_gib", "disk_gib"} <= set(said["stages"]["train"])
    assert set(said["span"]) == {"front", "middle", "back", "ratio"}
    assert said["span"]["front"] + said["span"]["middle"] + said["span"]["back"] == 57


def test_a_plan_as_a_table_and_a_refusal(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", "blockskip plan --budget 12 --ram 16".split())
    assert cli.main() == 0
    out = capsys.readouterr().out
    assert "graphics memory" in out and "can be planned with" in out and "would" in out
    monkeypatch.setattr(sys, "argv", "blockskip plan --budget 1".split())
    assert cli.main() == 1
    assert "least that works" in " ".join(capsys.readouterr().err.split())


def test_the_demos_choice_is_what_it_was():
    settings = planner.choose_settings()
    assert (settings.front, settings.back) == (6, 3)
    assert (settings.s_min_px, settings.s_max_px, settings.text_tokens) == (32, 64, 22)
    assert (settings.batch, settings.window_steps, settings.micro_batch) == (8, 30, 16)
    assert settings.precision == "full" and not settings.checkpointing


def test_planning_needs_no_torch():
    code = (
        "import sys; from blockskip.memory import planner; "
        "planner.make_plan(model='flux-dev'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
