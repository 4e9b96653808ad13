"""Plans for other devices: Macs, and cards before RTX 30. Those for newer cards do not change."""

import re

import pytest

from blockskip.core.errors import UserError
from blockskip.core.presets import model_row, model_rows
from blockskip.core.settings import settings_from_dict, settings_to_dict
from blockskip.memory import monitor
from blockskip.memory.planning.planner import make_plan

TURING, AMPERE = 7.5, 8.6
FULL_SIZE = [name for name, row in model_rows().items() if not row.demo]


def plan(model="flux-dev", budget=8, free=float("inf"), system="Linux", **more):
    return make_plan(model=model, budget_gib=budget, free_gib=free, system=system, **more)


@pytest.mark.parametrize("model", FULL_SIZE)
def test_a_card_without_bfloat16_computes_in_float16_or_is_told_the_hours(model):
    new = plan(model, capability=AMPERE)
    assert new.to_dict() == plan(model, capability=-1).to_dict(), "as where nothing is known"
    row = model_row(model)
    if row.dtype == "float32":
        assert plan(model, capability=TURING).to_dict() == new.to_dict()
        return
    if not row.float16:
        with pytest.raises(UserError, match="emulates") as refused:
            plan(model, capability=TURING)
        assert float(re.search(r"about ([\d.]+) hours", refused.value.title)[1]) >= 0.1
        assert "FLUX" in refused.value.remedy
        return
    assert plan(model, capability=TURING, device="cpu").settings.plan.number_type == "model"
    old = plan(model, capability=TURING)
    assert old.settings.plan.number_type == "float16"
    assert "float16" in " ".join(old.to_dict()["reasons"])
    assert old.peak_vram_gib <= old.usable_gib
    assert settings_from_dict(settings_to_dict(old.settings)) == old.settings


def test_beside_float16_the_vae_is_planned_in_float32():
    settings = plan(capability=AMPERE).settings
    from blockskip.memory.planning.planner import planned_memory

    half = planned_memory(settings.changed(number_type="float16"))
    assert half["latents"].vram_gib == 2 * planned_memory(settings)["latents"].vram_gib
    assert half["train"] == planned_memory(settings)["train"]


def test_the_card_is_asked_what_it_computes(monkeypatch):
    monkeypatch.setattr(monitor, "_ask", lambda *_: (7, 5))
    assert monitor.compute_capability() == TURING
    assert make_plan(model="flux-dev", free_gib=8.0).settings.plan.number_type == "float16"
    monkeypatch.setattr(monitor, "_ask", lambda *_: None)
    assert monitor.compute_capability() == -1


@pytest.mark.parametrize("budget", [4, 8, 12])
@pytest.mark.parametrize("ram", [16, 32])
@pytest.mark.parametrize("model", ["flux-dev", "flux2-klein-4b"])
def test_a_mac_counts_its_memory_once_and_has_no_nf4(model, ram, budget):
    try:
        made = plan(model, budget, system="Darwin", ram_gib=ram)
    except UserError as refused:
        assert "least that works" in refused.remedy
        return
    assert made.settings.plan.precision != "nf4"
    for need in made.stages.values():
        assert need.vram_gib + need.ram_gib <= 0.75 * ram, "both are one memory"


def test_nf4_is_refused_on_a_mac():
    with pytest.raises(UserError, match="bitsandbytes"):
        plan(system="Darwin", precision="nf4")
