"""What a plan says of itself is true, and its figures are those of the plan."""

import itertools
import re

import pytest
from helpers.plans import BUDGETS, FLUX, one_more, plan, told

from blockskip.core.errors import UserError
from blockskip.memory.planning.plan_table import plan_table
from blockskip.memory.planning.run_sizes import block_passes
from blockskip.memory.planning.search import expected_likeness


def test_whole_pictures_are_called_so():
    for more in ({"patches": "full"}, {"s_min_px": 512, "s_max_px": 512}):
        made = plan(24, **more)
        assert made.to_dict()["patches"] == {"schedule": "full", "s_min": 512, "s_max": 512}
        assert "whole pictures of 512 px" in plan_table(made).caption
        assert any("no close-ups" in said for said in told(made))
    assert "dynamic crops of 256 to 512 px" in plan_table(plan(8, s_min_px=256)).caption
    assert plan(24, patches="dynamic").settings == plan(24).settings, "what is usual may be said"


def test_what_growing_costs_is_said_and_true():
    text = " ".join(told(plan(12)))
    times = float(re.search(r"512 px instead of 256 px cost ([\d.]+) times the computing", text)[1])
    assert 1280 / 512 <= times < 1.15 * 1280 / 512, "the tokens, and attention"


@pytest.mark.parametrize("budget", BUDGETS)
def test_that_nothing_need_be_skipped_is_said_when_so(budget):
    made = plan(budget)
    try:
        whole = plan(budget, skip="0")
    except UserError:
        whole = None
    said = [reason for reason in told(made) if "Skipping nothing would fit" in reason]
    fits = whole is not None and whole.settings.plan.middle != "streamed"
    assert bool(said) == (fits and whole.settings.plan.precision != "nf4"), "4 bits lose more"
    if said:
        assert "more likeness expected" in said[0] and "--skip 0 turns it off" in said[0]
        saved = float(re.search(r"saves (\d+) % of the computing", said[0])[1])
        passes = [block_passes(FLUX, each.settings) for each in (made, whole)]
        assert saved == pytest.approx(100 * (1 - passes[0] / passes[1]), abs=0.51)
        assert {"full": "16", "int8": "8", "nf4": "4"}[
            whole.settings.plan.precision
        ] + " bits" in said[0]
    assert "change nothing" not in one_more(made)


def test_at_the_top_it_is_said_what_else_there_is_room_for():
    assert "There is room to skip nothing (--skip 0): 0.0021 more" in one_more(plan(24))
    assert "no more than such figures vary" in one_more(plan(24))
    assert "4 GiB more there is room to skip" in one_more(plan(24, precision="bf16"))
    assert plan(28, precision="bf16", skip="0").settings.plan.middle != "streamed"
    assert plan(24, skip="0").settings.plan.front == plan(24, skip="0").settings.plan.back == 0


def test_plain_lora_is_published():
    text = " ".join(told(plan(24, skip="0")))
    assert "between published" not in text and "published 0.7324" in text
    assert "between published" in " ".join(told(plan(24, skip="0", s_min_px=256)))


@pytest.mark.parametrize(
    "budget, more, limit",
    [(8, {}, "graphics memory"), (8, {"disk_gib": 12}, "disk"), (12, {"ram_gib": 6}, "RAM")],
)
def test_the_first_sentence_says_in_plain_words_what_limits(budget, more, limit):
    made = plan(budget, **more)
    assert f" {budget} GB card. What limits it: " in told(made)[0]
    assert limit in told(made)[0].split(". ")[1]
    assert ("graphics memory" in told(made)[0]) == (limit != "RAM")
    assert not re.search("DINO|NF4|LoRA|checkpoint", told(made)[0])
    assert told(plan(8))[0].startswith("This fits an 8 GB card.")
    better = " ".join(said for said in told(made) if said.startswith("Better by the order"))
    assert f"GiB of {'room on the disk' if limit == 'disk' else limit} at the least" in better
    assert "limits only how quick it is" in told(plan(24))[0]
    assert told(plan(64))[0].startswith("This fits a 64 GB card. Nothing limits it.")


def test_what_crosses_the_bus_how_often_is_true():
    for budget, ram, disk in itertools.product((2.8, 4, 8, 16), (8, 16), (1, float("inf"))):
        try:
            made = plan(budget, system="Linux", ram_gib=ram, disk_gib=disk)
        except UserError:
            continue
        text, s = " ".join(told(made)), made.settings.plan
        assert ("once a step" in text) == (s.window_steps > 1)
        assert ("no more than one step" in text) == (s.window_steps == 1)
        assert ("twice a window" in text) == (s.middle == "leaves")
        assert ("streamed in every step" in text) == (s.middle == "streamed")
        assert "every weight" not in text


def test_published_likeness_is_read_as_published():
    for (front, back), expected in zip(
        FLUX.spans.values(), [(0.7194, 0.7282), (0.7171, 0.7303), (0.6963, 0.7150)], strict=True
    ):
        ratio = (front + back) / FLUX.num_blocks
        found = [round(expected_likeness(FLUX, ratio, side), 4) for side in (256, 512)]
        assert found == pytest.approx(expected, abs=1e-4)
