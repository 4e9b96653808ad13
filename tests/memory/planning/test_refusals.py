"""A plan that is not possible is refused in words, and what they ask for works."""

import pytest
from helpers.plans import plan

from blockskip.core.errors import UserError


@pytest.mark.parametrize("skip", ["", "19,10", "0.3"])
def test_a_refusal_says_the_least_and_the_least_works(skip):
    with pytest.raises(UserError, match="too small for FLUX.1-dev") as refused:
        plan(1, skip=skip)
    least = refused.value.least.values["least_gib"]
    assert "takes" in refused.value.remedy and "driver" in refused.value.remedy, "why"
    assert plan(least, skip=skip).peak_vram_gib <= least
    with pytest.raises(UserError):
        plan(least - 0.11, skip=skip)


@pytest.mark.parametrize("more, word", [({"ram_gib": 4}, "RAM"), ({"disk_gib": 0.2}, "disk")])
def test_too_little_ram_or_disk_is_refused_as_that(more, word):
    with pytest.raises(UserError, match=word):
        plan(12, **more)


def test_what_a_refusal_for_ram_asks_for_works():
    with pytest.raises(UserError, match="RAM") as refused:
        plan(8, ram_gib=4)
    least = refused.value.least.values["least_gib"]
    assert plan(8, ram_gib=least).ram_gib <= 0.75 * least


@pytest.mark.parametrize("disk", [0.3, 0.6, 0.9, 2, 7])
@pytest.mark.parametrize("budget", [3, 5, 8, 12])
def test_what_a_refusal_for_the_disk_asks_for_works(budget, disk):
    try:
        plan(budget, disk_gib=disk)
    except UserError as refused:
        least = refused.least.values["least_gib"]
        if "disk" in refused.title:
            assert plan(budget, disk_gib=least).disk_gib <= least
            with pytest.raises(UserError):
                plan(budget, disk_gib=least - 0.11)
        else:
            assert plan(least, disk_gib=disk).disk_gib <= disk
