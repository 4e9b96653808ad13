"""Why nothing fits, and the least that would, in words."""

from __future__ import annotations

import math

from blockskip.core import stages
from blockskip.core.errors import DiskFull, OutOfMemory, UserError
from blockskip.core.presets import ModelRow, reserve_table
from blockskip.memory.planning.requirements import Need
from blockskip.memory.planning.search import (
    RAM_FOR_SYSTEM,
    Wish,
    candidates,
    exceeded,
    least_needs,
    limits,
    totals,
)


def refusal(row: ModelRow, wish: Wish) -> UserError:
    """Why nothing fits, and the least that would."""
    ways = [
        least_needs(row, wish, way, streamed)
        for way in candidates(row, wish)
        for streamed in (False, True)
    ]
    alone = {}  # what could be enlarged alone, and the way that asks for the least of it
    for name in limits(wish):
        others = [needs for needs in ways if exceeded(wish, needs) == [name]]
        if others:
            alone[name] = min(others, key=lambda needs: totals(needs)[name])
    if alone:
        name = min(alone, key=lambda n: totals(alone[n])[n] / max(limits(wish)[n], 1e-9))
        return _too_small(row, wish, name, alone[name])
    least = {name: min(ways, key=lambda needs: totals(needs)[name]) for name in limits(wish)}
    name = next((n for n in ("ram", "disk") if n in exceeded(wish, least[n])), "card")
    return _too_small(row, wish, name, least[name])


def _too_small(row: ModelRow, wish: Wish, name: str, least: dict[str, Need]) -> UserError:
    gib = totals(least)[name]
    if name == "ram":
        return OutOfMemory(
            f"{wish.ram_gib:g} GiB of RAM are too small for {row.title}.",
            f"The least that works is {_up(gib / (1 - RAM_FOR_SYSTEM))} GiB: the program itself "
            "and two blocks of the model on their way to the card.",
        )
    if name == "disk":
        stage = max(stages.PLANNED, key=lambda each: least[each].disk_gib)
        return DiskFull(
            f"{wish.disk_gib:g} GiB on the disk are too small for {row.title}.",
            f"The least that works is {_up(gib)} GiB, most of it for {_ON_DISK[stage]}.",
        )
    stage = max(stages.PLANNED, key=lambda each: least[each].vram_gib)
    found = f"; {wish.free_gib:.1f} GiB are free now" if wish.free_gib < wish.budget_gib else ""
    return OutOfMemory(
        f"A budget of {wish.budget_gib:g} GiB is too small for {row.title}{found}.",
        f"The least that works is {_up(_budget_for(wish, gib))} GiB: {_ON_CARD[stage]} takes "
        f"{gib:.1f} GiB, and the rest is left to the desktop and the driver.",
    )


def _budget_for(wish: Wish, needs_gib: float) -> float:
    """The budget of which so much can be used."""
    gaps = reserve_table()["allocator"]
    fixed = wish.reserve_gib - gaps * min(wish.budget_gib, wish.free_gib)
    return (needs_gib + fixed) / (1 - gaps)


_ON_CARD = {
    stages.TEXT: "reading the captions with T5-XXL, two of its blocks at a time,",
    stages.LATENTS: "turning photos into latents",
    stages.RESIDUALS: "the skipped blocks, two at a time,",
    stages.TRAIN: "training the blocks that are not skipped",
    stages.PREVIEW: "sampling a preview, two blocks at a time,",
}
_ON_DISK = {
    stages.TEXT: "captions",
    stages.LATENTS: "the encoded crops",
    stages.RESIDUALS: "what the skipped blocks compute, and quantised blocks where there are any",
    stages.TRAIN: "checkpoints",
    stages.PREVIEW: "previews",
}


def _up(gib: float) -> str:
    """Rounded up to a tenth, so that what is promised works."""
    return f"{math.ceil(gib * 10 - 1e-9) / 10:g}"
