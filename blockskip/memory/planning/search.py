"""Budget → plan: of all that fits, what loses the least likeness, then what takes the least time.

Losses are tried in the order of presets/budgets.toml: published figures for how many blocks are
skipped and the side trained at, assumptions of ours for 8 and 4 bits and shorter captions. Before
anything is lost, all that costs only time is tried: checkpointing, the middle leaving the card
while windows and previews are made, fewer draws at a time, smaller windows, tiles. Streaming the
middle, which crosses the bus in every step, is the last resort. Skipping nothing is no candidate
unless it is asked for: it is as good, and slower (explanations.py says where it would fit). No torch.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blockskip.core.presets import ModelRow, preview_threshold, quality_table, reserve_table
from blockskip.core.settings import PreviewSpeed
from blockskip.memory.planning.requirements import Choice, Need, stage_needs

RAM_FOR_SYSTEM = 0.25  # of the PC's RAM stays the system's: 12 of 16 GiB are planned with


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user said. Unsaid: span None, precision "", side_px 0, s_max_px 0, text_tokens 0.

    free_gib: what the card has free now (inf: not known). system: Windows, Linux, … ("": this one).
    """

    budget_gib: float
    ram_gib: float = 16.0
    disk_gib: float = math.inf
    free_gib: float = math.inf
    system: str = ""
    span: tuple[int, int] | None = None
    precision: str = ""
    patches: str = "dynamic"
    side_px: int = 0
    s_max_px: int = 0
    text_tokens: int = 0
    rank: int = 16
    targets: str = "attention"
    batch: int = 0  # draws of a step that pass together; 0: as many as there is room for
    draws_per_step: int = 4
    prior: float = 0.0
    num_draws: int = 2000
    window_draws: int = 200
    reuse: int = 1  # steps that see a draw
    preview_speed: PreviewSpeed = "exact"
    preview_steps: int = 28
    adapters: float = 0.0  # bytes

    @property
    def cached(self) -> bool:
        """Whether previews are sampled with a step cache, if there is RAM for it."""
        return preview_threshold(self.preview_speed, self.preview_steps) > 0

    @property
    def reserve_gib(self) -> float:
        """What is never planned with: the desktop's share, CUDA's context, the allocator's gaps."""
        table, desktop = reserve_table(), desktop_gib(self.budget_gib, self.system)
        gaps = table["allocator"] * min(self.budget_gib, self.free_gib)
        return desktop + table["context"] + gaps

    @property
    def usable_gib(self) -> float:
        """What stages may take of the card, in GiB: budget or free memory, less the reserve."""
        return min(self.budget_gib, self.free_gib) - self.reserve_gib

    @property
    def usable_ram_gib(self) -> float:
        """What a run may take of RAM, in GiB; the rest is the system's."""
        return self.ram_gib * (1 - RAM_FOR_SYSTEM)


@dataclass(frozen=True)
class Candidate:
    """One way to train: what it loses of DINO likeness against plain LoRA at 512 px."""

    loss: float
    front: int
    back: int
    side_px: int
    precision: str
    text_tokens: int


@dataclass(frozen=True)
class Fit:
    """A candidate with everything else settled, and what its stages need."""

    candidate: Candidate
    choice: Choice
    needs: dict[str, Need]


def desktop_gib(budget_gib: float, system: str = "") -> float:
    """Graphics memory left to the desktop. system: Windows, Linux, … ("": this one)."""
    table = reserve_table()
    share = "windows" if (system or platform.system()) == "Windows" else "other"
    return table[share + "_big" if budget_gib >= table["big_from"] else share]


def find(row: ModelRow, wish: Wish) -> Fit | None:
    """The best that fits, None when nothing does."""
    ways = candidates(row, wish)
    found = (settle(row, wish, way, streamed=False) for way in ways)
    fit = next((fit for fit in found if fit), None)
    if fit is None:
        # Streamed is what the smallest card that need not stream would train: little crosses the
        # bus, and nobody loses likeness by allowing more memory.
        ways.sort(key=lambda way: peak_gib(least_needs(row, wish, way)))
        found = (settle(row, wish, way, streamed=True) for way in ways)
        fit = next((fit for fit in found if fit), None)
    return fit


def candidates(row: ModelRow, wish: Wish) -> list[Candidate]:
    """All ways the wish allows, least loss first, then least work."""
    table = quality_table()
    spans = [wish.span] if wish.span else list(row.spans.values())
    every = [round(times * row.s_min_px) for times in table["sides"]]
    largest = wish.s_max_px or max(every)
    sides = [wish.side_px] if wish.side_px else [side for side in every if side <= largest]
    precisions = [wish.precision] if wish.precision else ["bf16", "int8", "nf4"]
    whole = row.text_tokens
    texts = {whole: 0.0, whole // 2: table["loss"]["text_half"]}
    texts |= {whole // 4: table["loss"]["text_quarter"]}
    if wish.text_tokens:
        texts = {wish.text_tokens: texts.get(wish.text_tokens, 0.0)}
    found = []
    for front, back in spans:
        for side in sides:
            likeness = expected_likeness(row, (front + back) / row.num_blocks, side)
            for precision in precisions:
                for text, shorter in texts.items():
                    loss = table["lora"] - likeness + table["loss"][precision] + shorter
                    found.append(Candidate(round(loss, 5), front, back, side, precision, text))
    return sorted(found, key=lambda c: (c.loss, -c.front - c.back, c.side_px))


def crops(row: ModelRow, wish: Wish, side_px: int) -> tuple[str, int]:
    """(patch schedule, side of the largest crop) when training at `side_px`; the smallest crop has
    that side.

    Published pairs are 256 → 512 px (FLUX) and 512 → 1024 px (SANA): the largest crop is twice the
    side trained at. It is shrunk before it is encoded, so growing it takes no graphics memory.
    Where no crop would be larger, whole pictures are meant, and are called so.
    """
    if wish.patches == "full":
        return "full", side_px
    twice = min(row.native_px, side_px * row.s_max_px // row.s_min_px)
    largest = wish.s_max_px or twice
    return (wish.patches, largest) if largest > side_px else ("full", side_px)


def expected_likeness(row: ModelRow, ratio: float, side_px: int) -> float:
    """Published DINO for that share of skipped blocks and side, straight lines in between. Of FLUX:
    for another model its smallest crop stands for 256 px, twice that for 512."""
    table = sorted((float(key), at) for key, at in quality_table()["likeness"].items())
    share = min(1.0, max(0.0, side_px / row.s_min_px - 1))
    points = [(x, at["256"] + share * (at["512"] - at["256"])) for x, at in table]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if ratio <= x1 + 0.015:  # 29 of 57 blocks are the published 50 %
            return y0 + (y1 - y0) * min(1.0, max(0.0, (ratio - x0) / (x1 - x0)))
    return points[-1][1] - (ratio - points[-1][0])  # beyond: “drops clearly” (paper)


def settle(row: ModelRow, wish: Wish, candidate: Candidate, streamed: bool) -> Fit | None:
    """Everything that costs only time, the quickest that fits; None when nothing does."""
    if exceeded(wish, least_needs(row, wish, candidate, streamed)):
        return None
    for checkpointing, middle in _time_costs(streamed):
        choice = smallest(row, wish, candidate, checkpointing, middle)
        if exceeded(wish, stage_needs(row, choice)):
            continue
        for name, values in _roomier(choice, wish):
            choice = _first_fitting(row, wish, choice, name, values)
        batches = [wish.batch] if wish.batch else divisors(wish.draws_per_step)
        choice = _largest_batch(row, wish, choice, batches)
        # all of a window on the card, or none; what is there leaves RAM to weights that wait
        places = [choice.window_draws, 0]
        choice = _first_fitting(row, wish, choice, "window_on_card", places)
        choice = _first_fitting(row, wish, choice, "offload", ["pinned", "mapped"])
        choice = _first_fitting(row, wish, choice, "cached", [wish.cached, False])
        return Fit(candidate, choice, stage_needs(row, choice))
    return None


def _first_fitting(row: ModelRow, wish: Wish, choice: Choice, name: str, values: list) -> Choice:
    """`choice` with the first of these values that fits; the last one is known to."""
    tries = (replace(choice, **{name: value}) for value in values)
    return next(tried for tried in tries if not exceeded(wish, stage_needs(row, tried)))


def _largest_batch(row: ModelRow, wish: Wish, choice: Choice, batches: list[int]) -> Choice:
    """`choice` with the first of these batches that fits; the last one is known to."""
    every = wish.draws_per_step
    tries = (replace(choice, batch=b, accumulates=b < every) for b in batches)
    return next(tried for tried in tries if not exceeded(wish, stage_needs(row, tried)))


def _time_costs(streamed: bool) -> list[tuple[bool, str]]:
    """(checkpointing, middle), the quickest first; only checkpointed steps stream."""
    if streamed:
        return [(True, "streamed")]
    return [(c, middle) for c in (False, True) for middle in ("stays", "leaves")]


def smallest(
    row: ModelRow, wish: Wish, candidate: Candidate, checkpointing: bool, middle: str
) -> Choice:
    """The way to train a candidate that needs the least of card and RAM."""
    return Choice(
        model=row.name,
        front=candidate.front,
        back=candidate.back,
        side_px=candidate.side_px,
        text_tokens=candidate.text_tokens,
        precision=candidate.precision,
        checkpointing=checkpointing,
        rank=wish.rank,
        targets=wish.targets,
        batch=wish.batch or 1,
        accumulates=wish.draws_per_step > (wish.batch or 1),
        middle=middle,
        window_draws=min(wish.window_draws, wish.draws_per_step),
        window_on_card=0,
        rows=1,
        encode_rows=1,
        preview_px=row.native_px,
        tiled=True,
        adapters=wish.adapters,
        num_draws=wish.num_draws,
        prior=wish.prior,
        offload="mapped",
    )


def least_needs(
    row: ModelRow, wish: Wish, way: Candidate, streamed: bool = False
) -> dict[str, Need]:
    """What the stages need when everything is done to need little."""
    middle = "streamed" if streamed else "leaves"
    return stage_needs(row, smallest(row, wish, way, True, middle))


def _roomier(choice: Choice, wish: Wish) -> Iterator[tuple[str, list]]:
    """Fields to enlarge, in this order, each with values from the best to the smallest one."""
    steps = max(1, wish.window_draws // wish.draws_per_step)
    windows = sorted({max(1, steps // 2**i) * wish.draws_per_step for i in range(9)}, reverse=True)
    yield "window_draws", [*windows, choice.window_draws]
    yield "rows", [16, 8, 4, 2, 1]
    yield "encode_rows", [8, 4, 2, 1]
    yield "tiled", [False, True]


def divisors(num: int) -> list[int]:
    """Of a number, the largest first: parts of a step that are all of one size."""
    return [part for part in range(num, 0, -1) if num % part == 0]


def peak_gib(needs: dict[str, Need]) -> float:
    """The most graphics memory any stage takes."""
    return max(need.vram_gib for need in needs.values())


def totals(needs: dict[str, Need]) -> dict[str, float]:
    """GiB of graphics memory and RAM at the worst stage, of the disk in all."""
    return {
        "card": peak_gib(needs),
        "ram": max(need.ram_gib for need in needs.values()),
        "disk": sum(need.disk_gib for need in needs.values()),
    }


def limits(wish: Wish) -> dict[str, float]:
    """GiB that can be planned with, under the same names."""
    return {"card": wish.usable_gib, "ram": wish.usable_ram_gib, "disk": wish.disk_gib}


def exceeded(wish: Wish, needs: dict[str, Need]) -> list[str]:
    """Which of card, ram, disk are too small."""
    most = limits(wish)
    return [name for name, gib in totals(needs).items() if gib > most[name]]
