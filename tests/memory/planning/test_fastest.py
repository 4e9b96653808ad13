"""Of the plans that learn the same, the fastest by counted seconds is chosen."""

import itertools

import pytest

from blockskip.core.presets import model_row, quality_table
from blockskip.memory.planning.duration import run_seconds, usual_rates
from blockskip.memory.planning.planner import make_plan
from blockskip.memory.planning.requirements import stage_memory

FLUX = model_row("flux-dev")
BUDGETS = (4, 6, 8, 10, 12, 16, 24)


def plan(budget, model="flux-dev", **more):
    return make_plan(model=model, budget_gib=budget, system="Windows", free_gib=99, **more)


def told(made):
    return made.to_dict()["reasons"]


@pytest.mark.parametrize("budget", [12, 24])
def test_a_much_faster_precision_is_taken_for_a_loss_within_chance(budget):
    made, exact = plan(budget), plan(budget, precision="bf16")
    assert made.settings.plan.int8_products and not made.settings.plan.recomputed
    assert made.settings.plan.front == exact.settings.plan.front
    times = [run_seconds(FLUX, each.settings, usual_rates()) for each in (exact, made)]
    said = next(reason for reason in told(made) if "16 bits would fit too" in reason)
    again = exact.settings.plan.recomputed
    assert (f", with {again} blocks computed twice:" in said) == (again > 0) == (budget == 12)
    assert f"{100 * (times[0] / times[1] - 1):.0f} % longer" in said
    only_weights = plan(24, arithmetic="weights")  # which are as fast in 16 bits
    assert only_weights.settings.plan.precision == "full"
    assert "16 bits would fit" not in " ".join(told(only_weights))
    assert quality_table()["faster"]["loss"] < quality_table()["chance"]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("model", ["flux-dev", "flux2-klein-4b", "sd35-medium"])
def test_no_other_batch_or_number_of_recomputed_blocks_that_fits_is_faster(budget, model):
    row, made = model_row(model), plan(budget, model=model)
    if made.settings.plan.middle == "streamed":
        return
    trained = row.num_blocks - made.settings.plan.front - made.settings.plan.back
    fastest = run_seconds(row, made.settings, usual_rates())
    for batch, again in itertools.product((1, 2, 4), range(0, trained, 3)):
        other = made.settings.changed(batch=batch, accumulation=4 // batch, recomputed=again)
        fits = stage_memory(row, other)["train"].vram_gib <= made.usable_gib
        assert not fits or run_seconds(row, other, usual_rates()) >= 0.999 * fastest


@pytest.mark.parametrize("model", ["flux-dev", "flux2-klein-4b", "z-image"])
def test_products_in_8_bits_take_less_time_for_little_memory(model):
    row = model_row(model)
    weights, int8 = (plan(12, model, precision="int8", arithmetic=a) for a in ("weights", "int8"))
    same = weights.settings.changed(arithmetic="int8")
    slow, fast = (run_seconds(row, s, usual_rates()) for s in (weights.settings, same))
    assert fast < 0.6 * slow
    more = stage_memory(row, same)["train"].vram_gib - weights.stages["train"].vram_gib
    assert 0 <= more < 0.07
    assert int8.to_dict()["arithmetic"] == "int8" and "8 bits too" in " ".join(told(int8))
    assert weights.to_dict()["arithmetic"] == "bf16" and "8 bits too" not in " ".join(told(weights))


def test_weights_of_8_bits_multiply_in_8_bits_unless_told_otherwise():
    assert plan(12).to_dict()["arithmetic"] == "int8"
    assert plan(12, precision="bf16").to_dict()["arithmetic"] == "bf16"
    assert plan(12, precision="nf4").to_dict()["arithmetic"] == "bf16"
    assert plan(12, precision="int8", arithmetic="weights").to_dict()["arithmetic"] == "bf16"
    mac = make_plan(model="flux-dev", budget_gib=12, ram_gib=64, system="Darwin", free_gib=99)
    old = plan(12, "qwen-image", precision="int8", capability=7.0)
    assert not mac.settings.plan.int8_products and not old.settings.plan.int8_products


def test_products_in_8_bits_need_8_bit_weights_and_a_device_that_has_them():
    assert not plan(24, precision="bf16", arithmetic="int8").settings.plan.int8_products
    asked = {"model": "flux-dev", "budget_gib": 12, "free_gib": 99, "precision": "int8"}
    for more, works in (({}, True), ({"system": "Darwin"}, False), ({"capability": 7.0}, False)):
        made = make_plan(
            **asked, **{"capability": 8.6, "system": "Linux"} | more, arithmetic="int8"
        )
        assert made.settings.plan.int8_products == works
