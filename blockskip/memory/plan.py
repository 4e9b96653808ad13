"""Budget → plan: of all that fits, what loses the least likeness, then what takes the least time.

Losses are tried in the order of presets/budgets.toml: published figures for how many blocks are
skipped and the side trained at, assumptions of ours for 8 and 4 bits and shorter captions. Before
anything is lost, all that costs only time is tried: checkpointing, the middle leaving the card
while windows and previews are made, fewer draws at a time, smaller windows, tiles. Streaming the
middle, which crosses the bus in every step, is the last resort. No torch here.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blockskip.config import ModelRow, quality_table, reserve_table
from blockskip.events import UserError
from blockskip.memory.tables import STAGES, WEIGHT_BYTES, Choice, Need, stage_needs

RAM_FOR_SYSTEM = 0.25  # of the PC's RAM stays the system's: 12 of 16 GiB are planned with


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user said. Unsaid: span None, precision "", side_px 0, text_tokens 0.

    free_gib: what the card has free now (inf: not known). system: Windows, Linux, … ("": this one).
    """

    budget_gib: float
    ram_gib: float = 16.0
    disk_gib: float = math.inf
    free_gib: float = math.inf
    system: str = ""
    span: tuple[int, int] | None = None
    precision: str = ""
    side_px: int = 0
    text_tokens: int = 0
    rank: int = 16
    targets: str = "attention"
    batch: int = 1
    draws_per_step: int = 4
    prior: float = 0.0
    num_draws: int = 2000
    window_draws: int = 200

    @property
    def reserve_gib(self) -> float:
        """What is never planned with: the desktop's share, CUDA's context, the allocator's gaps."""
        table, desktop = reserve_table(), desktop_gib(self.budget_gib, self.system)
        gaps = table["allocator"] * min(self.budget_gib, self.free_gib)
        return desktop + table["context"] + gaps

    @property
    def usable_gib(self) -> float:
        return min(self.budget_gib, self.free_gib) - self.reserve_gib

    @property
    def usable_ram_gib(self) -> float:
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

    @property
    def peak_vram_gib(self) -> float:
        return max(need.vram_gib for need in self.needs.values())


def desktop_gib(budget_gib: float, system: str = "") -> float:
    """Graphics memory left to the desktop. system: Windows, Linux, … ("": this one)."""
    table = reserve_table()
    share = "windows" if (system or platform.system()) == "Windows" else "other"
    return table[share + "_big" if budget_gib >= table["big_from"] else share]


def find(row: ModelRow, wish: Wish) -> Fit:
    """The best that fits. Raises UserError when nothing does, with the least that would."""
    ways = candidates(row, wish)
    # what crosses the bus in every step should be little: the smallest weights first
    lightest = sorted(ways, key=lambda way: WEIGHT_BYTES[way.precision])
    for streamed, order in ((False, ways), (True, lightest)):
        for candidate in order:
            fit = settle(row, wish, candidate, streamed)
            if fit is not None:
                return fit
    raise _refusal(row, wish, ways)


def candidates(row: ModelRow, wish: Wish) -> list[Candidate]:
    """All ways the wish allows, least loss first, then least work."""
    table = quality_table()
    spans = [wish.span] if wish.span else list(row.spans.values())
    sides = [wish.side_px] if wish.side_px else table["sides"]
    precisions = [wish.precision] if wish.precision else ["bf16", "int8", "nf4"]
    texts = [wish.text_tokens] if wish.text_tokens else [512, 256, 128]
    found = []
    for front, back in spans:
        for side in sides:
            likeness = expected_likeness((front + back) / row.num_blocks, side)
            for precision in precisions:
                for text in texts:
                    loss = table["lora"] - likeness + table["loss"][precision]
                    loss += table["loss"].get(f"text_{text}", 0.0)
                    found.append(Candidate(round(loss, 5), front, back, side, precision, text))
    return sorted(found, key=lambda c: (c.loss, -c.front - c.back, c.side_px))


def expected_likeness(ratio: float, side_px: int) -> float:
    """Published DINO for that share of skipped blocks and side, straight lines in between."""
    table = sorted((float(key), at) for key, at in quality_table()["likeness"].items())
    share = min(1.0, max(0.0, (side_px - 256) / 256))
    points = [(x, at["256"] + share * (at["512"] - at["256"])) for x, at in table]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if ratio <= x1 + 0.015:  # 29 of 57 blocks are the published 50 %
            return y0 + (y1 - y0) * min(1.0, max(0.0, (ratio - x0) / (x1 - x0)))
    return points[-1][1] - (ratio - points[-1][0])  # beyond: “drops clearly” (paper)


def settle(row: ModelRow, wish: Wish, candidate: Candidate, streamed: bool) -> Fit | None:
    """Everything that costs only time, the quickest that fits; None when nothing does."""
    for checkpointing, middle in _time_costs(streamed):
        choice = _smallest(row, wish, candidate, checkpointing, middle)
        if not _fits(wish, stage_needs(row, choice)):
            continue
        for name, values in _roomier(choice, wish):
            choice = next(
                tried
                for value in values
                if _fits(wish, stage_needs(row, tried := replace(choice, **{name: value})))
            )
        on_card = replace(choice, window_on_card=choice.window_draws)  # all of it, or none
        choice = on_card if _fits(wish, stage_needs(row, on_card)) else choice
        return Fit(candidate, choice, stage_needs(row, choice))
    return None


def _time_costs(streamed: bool) -> list[tuple[bool, str]]:
    """(checkpointing, middle), the quickest first; only checkpointed steps stream."""
    if streamed:
        return [(True, "streamed")]
    return [(c, middle) for c in (False, True) for middle in ("stays", "leaves")]


def _smallest(
    row: ModelRow, wish: Wish, candidate: Candidate, checkpointing: bool, middle: str
) -> Choice:
    return Choice(
        model=row.name,
        front=candidate.front,
        back=candidate.back,
        side_px=candidate.side_px,
        s_max_px=max(row.s_max_px, candidate.side_px),
        text_tokens=candidate.text_tokens,
        precision=candidate.precision,
        checkpointing=checkpointing,
        rank=wish.rank,
        targets=wish.targets,
        batch=wish.batch,
        middle=middle,
        window_draws=min(wish.window_draws, wish.draws_per_step),
        window_on_card=0,
        rows=1,
        encode_rows=1,
        preview_px=row.native_px,
        tiled=True,
        num_draws=wish.num_draws,
        prior=wish.prior,
        offload="mapped",
    )


def _roomier(choice: Choice, wish: Wish) -> Iterator[tuple[str, list]]:
    """Fields to enlarge, in this order, each with values from the best to the smallest one."""
    steps = max(1, wish.window_draws // wish.draws_per_step)
    windows = sorted({max(1, steps // 2**i) * wish.draws_per_step for i in range(9)}, reverse=True)
    yield "window_draws", [*windows, choice.window_draws]
    yield "rows", [16, 8, 4, 2, 1]
    yield "encode_rows", [8, 4, 2, 1]
    yield "tiled", [False, True]
    yield "offload", ["pinned", "mapped"]


def _fits(wish: Wish, needs: dict[str, Need]) -> bool:
    return (
        max(need.vram_gib for need in needs.values()) <= wish.usable_gib
        and max(need.ram_gib for need in needs.values()) <= wish.usable_ram_gib
        and sum(need.disk_gib for need in needs.values()) <= wish.disk_gib
    )


def _refusal(row: ModelRow, wish: Wish, ways: list[Candidate]) -> UserError:
    """Why nothing fits, and the least that would."""
    smallest = [
        stage_needs(row, _smallest(row, wish, way, True, middle))
        for way in ways
        for middle in ("leaves", "streamed")
    ]
    ram = min(max(need.ram_gib for need in needs.values()) for needs in smallest)
    if ram > wish.usable_ram_gib:
        return UserError(
            f"{wish.ram_gib:g} GiB of RAM are too small for {row.title}.",
            f"The least that works is {_up(ram / (1 - RAM_FOR_SYSTEM))} GiB: the program itself "
            "and two blocks of the model on their way to the card.",
        )
    least = min(smallest, key=lambda needs: max(need.vram_gib for need in needs.values()))
    disk = sum(need.disk_gib for need in least.values())
    if disk > wish.disk_gib:
        return UserError(
            f"{wish.disk_gib:g} GiB on the disk are too small for {row.title}.",
            f"The least that works is {_up(disk)} GiB, for its cache of quantised blocks.",
        )
    stage = max(STAGES, key=lambda name: least[name].vram_gib)
    needs = least[stage].vram_gib
    found = f"; {wish.free_gib:.1f} GiB are free now" if wish.free_gib < wish.budget_gib else ""
    return UserError(
        f"A budget of {wish.budget_gib:g} GiB is too small for {row.title}{found}.",
        f"The least that works is {_up(_budget_for(wish, needs))} GiB: {_WHY[stage]} takes "
        f"{needs:.1f} GiB, and the rest is left to the desktop and the driver.",
    )


def _budget_for(wish: Wish, needs_gib: float) -> float:
    """The budget of which so much can be used."""
    gaps = reserve_table()["allocator"]
    fixed = wish.reserve_gib - gaps * min(wish.budget_gib, wish.free_gib)
    return (needs_gib + fixed) / (1 - gaps)


_WHY = {
    "text": "reading the captions with T5-XXL, two of its blocks at a time,",
    "latents": "turning photos into latents",
    "residuals": "the skipped blocks, two at a time,",
    "train": "training the blocks that are not skipped",
    "preview": "sampling a preview, two blocks at a time,",
}


def _up(gib: float) -> str:
    """Rounded up to a tenth, so that what is promised works."""
    return f"{math.ceil(gib * 10 - 1e-9) / 10:g}"
