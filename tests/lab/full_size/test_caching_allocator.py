"""The model of torch's caching allocator: its rules on short sequences, and what stages need."""

import random

import pytest
from helpers import make_simulated
from helpers.make_reserved import CASES, FREE, settings_for

from blockskip.core.presets import reserve_table
from blockskip.lab.full_size.caching_allocator import (
    MIB,
    CachingAllocator,
    ExpandableAllocator,
    needed,
    replay,
)
from blockskip.lab.full_size.simulate import simulate
from blockskip.memory.planning.planner import make_plan


@pytest.mark.parametrize("wanted, given, reserved", [
    (1, 512, 2 * MIB), (513, 1024, 2 * MIB), (MIB, MIB, 2 * MIB),
    (MIB + 1, MIB + 512, 20 * MIB), (10 * MIB - 1, 10 * MIB, 10 * MIB),
    (9 * MIB, 9 * MIB, 20 * MIB), (11 * MIB, 12 * MIB, 12 * MIB),
    (13 * MIB - 5, 14 * MIB, 14 * MIB), (679 * MIB + 1, 680 * MIB, 680 * MIB),
])  # fmt: skip
def test_sizes_are_rounded_as_torch_does(wanted, given, reserved):
    """An uncut rest of 1 MiB or less belongs to the piece."""
    allocator = CachingAllocator()
    assert (allocator.allocate(wanted).size, allocator.reserved) == (given, reserved)


def test_the_smallest_free_piece_is_used_cut_and_merged_again():
    allocator = CachingAllocator()
    large, middle = allocator.allocate(100 * MIB), allocator.allocate(40 * MIB)
    allocator.free(large)
    allocator.free(middle)
    cut = [allocator.allocate(12 * MIB) for _ in range(3)]  # of the 40
    assert allocator.reserved == 140 * MIB
    assert [piece.start - cut[0].start for piece in cut] == [0, 12 * MIB, 24 * MIB]
    allocator.allocate(90 * MIB)
    for piece in (cut[0], cut[2], cut[1]):
        allocator.free(piece)
    assert allocator.allocate(40 * MIB).start == cut[0].start, "its neighbours were merged"
    assert allocator.reserved == 140 * MIB


def test_at_the_limit_only_whole_segments_are_returned():
    allocator = CachingAllocator(limit=100 * MIB)
    held, gone = allocator.allocate(50 * MIB), allocator.allocate(50 * MIB)
    allocator.free(gone)
    allocator.allocate(20 * MIB)  # of the second segment
    allocator.free(held)
    assert allocator.allocate(48 * MIB) and allocator.returns == 0
    with pytest.raises(MemoryError):
        allocator.allocate(31 * MIB)  # 30 are free, in a segment in use
    assert allocator.allocate(30 * MIB)


def test_uncut_segments_are_returned_one_at_a_time():
    allocator = CachingAllocator(200 * MIB, max_split=50 * MIB, large_segment=48 * MIB)
    pieces = [allocator.allocate(size * MIB) for size in (60, 70)]
    for piece in pieces:
        allocator.free(piece)
    allocator.allocate(40 * MIB)  # not out of a segment of 60
    assert allocator.reserved == 170 * MIB
    allocator.allocate(55 * MIB)  # the segment of 60, less than 20 larger
    assert allocator.reserved == 170 * MIB
    allocator.allocate(90 * MIB)  # for which the segment of 70 goes
    assert (allocator.reserved, allocator.returns) == (190 * MIB, 1)


def test_a_segment_that_grows_is_cut_anywhere_and_counts_pages_in_use():
    allocator = ExpandableAllocator()
    first, second = allocator.allocate(30 * MIB), allocator.allocate(30 * MIB)
    assert allocator.reserved == 60 * MIB
    allocator.free(first)
    assert allocator.reserved == 40 * MIB, "the second one's half page stays"
    allocator.allocate(25 * MIB)  # in the gap
    assert allocator.reserved == 60 * MIB
    allocator.free(second)
    assert allocator.allocate(70 * MIB).start == 25 * MIB, "the end grows, with the gap before it"
    assert allocator.peak_reserved == 100 * MIB


SETTINGS = [{}, {"max_split": 50 * MIB, "large_segment": 48 * MIB}, None]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_overlaps_and_nothing_is_lost(settings, seed):
    chance = random.Random(seed)
    allocator = ExpandableAllocator() if settings is None else CachingAllocator(**settings)
    if settings is not None:
        allocator.limit = 700 * MIB
    live = []
    for _ in range(1500):
        if live and chance.random() < 0.5:
            allocator.free(live.pop(chance.randrange(len(live))))
        elif allocator.allocated < 300 * MIB:
            size = int(2 ** chance.uniform(5, 26.5))
            piece = allocator.allocate(size)
            assert piece.size >= size
            live.append(piece)
        assert sum(piece.size for piece in live) == allocator.allocated <= allocator.reserved
        assert allocator.reserved <= allocator.limit
    for small in (True, False):
        ranges = sorted((p.start, p.start + p.size) for p in live if p.small == small)
        assert all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:], strict=False))
    for piece in live:
        allocator.free(piece)
    assert allocator.allocated == 0
    if settings is None:
        assert allocator.reserved == 0


@pytest.mark.long
def test_stages_of_full_size_need_little_more_than_they_use():
    """Of one model; the page has all (helpers/make_reserved.py)."""
    settings = settings_for("sana-1.6b", 8)
    for name, peak in simulate(settings, ["latents", "residuals", "preview"]).items():
        live = {number: size for number, size in peak.events if size}
        assert sum(live.values()) > peak.vram_gib * 2**30, "much is allocated in turn"
        reserved, _ = needed(peak.events)
        assert reserved <= 1.05 * peak.vram_gib * 2**30, name
        growing = replay(peak.events, ExpandableAllocator())
        assert growing.peak_reserved <= 1.05 * peak.vram_gib * 2**30, name


def test_the_page_has_every_case_and_no_stage_above_the_promise():
    rows = [
        line for line in make_simulated.PAGE.read_text("utf-8").splitlines() if " GB | " in line
    ]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [model for model, _ in CASES]
    cells = [row.strip("| ").split(" | ")[2:] for row in rows]
    ratios = [cell.split(" / ") for row in cells for cell in row[:-1]]
    assert len(ratios) == 5 * len(CASES)
    assert all(float(own) <= 1.06 and float(growing) <= 1.06 for own, growing, _ in ratios)
    for (model, budget), row in zip(CASES, cells, strict=True):
        free = FREE * budget
        plan = make_plan(model=model, budget_gib=budget, system="Windows", free_gib=free)
        gaps = reserve_table()["allocator"] * free  # what plans leave for them
        assert float(row[-1]) * plan.peak_vram_gib <= plan.usable_gib + gaps
