"""What would be better than a plan: what stands in its way, and what more memory would bring."""

from __future__ import annotations

from dataclasses import replace

from blockskip.core.presets import ModelRow, quality_table
from blockskip.core.units import GIB
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.requirements import middle_bytes
from blockskip.memory.planning.search import (
    Candidate,
    Fit,
    Wish,
    candidates,
    exceeded,
    find,
    least_needs,
    limits,
    smallest,
    totals,
)


def one_more_gib(row: ModelRow, wish: Wish, fit: Fit) -> Reason:
    """What the next GiB would bring, or how many it takes until something changes."""
    for more in (1, 2, 4, 8, 16):
        then = find(row, _wider(wish, more))
        change = _change(row, fit, then) if then else None
        if change:
            kind = "more_next" if more == 1 else "more_later"
            return Reason(kind, {"more_gib": more, "change": change})
    return Reason("more_nothing", {"room": _room_for_all(row, wish, fit)})


Limits = tuple[str, ...]  # of card, ram, disk


def better_ways(row: ModelRow, wish: Wish, fit: Fit) -> dict[Limits, Candidate]:
    """The best of what would lose less, by what it fails by if not streamed; only those that fail
    by one thing, if there are any: with more of it they would be taken."""
    found: dict[Limits, Candidate] = {}
    for way in candidates(row, wish):
        if way.loss < fit.candidate.loss:
            found.setdefault(tuple(exceeded(wish, least_needs(row, wish, way))), way)
    alone: dict[Limits, Candidate] = {names: way for names, way in found.items() if len(names) == 1}
    return alone or dict(list(found.items())[:1])


def better(row: ModelRow, wish: Wish, fit: Fit, way: Candidate) -> Reason:
    """What would be better, and what it fails by."""
    least = least_needs(row, wish, way)
    needs, there = totals(least), limits(wish)
    lacks = []
    for name in exceeded(wish, least):
        sizes = {"needs_gib": needs[name], "there_gib": there[name]}
        lacks.append(Reason("better_lacks", sizes | {"limit": Reason(f"limit_{name}")}))
    streamed = None
    if not exceeded(wish, least_needs(row, wish, way, streamed=True)):
        size = middle_bytes(row, smallest(row, wish, way, True, "streamed")) / GIB
        mine = middle_bytes(row, fit.choice) / GIB
        kind = "better_streams_more" if fit.choice.middle == "streamed" else "better_would_stream"
        streamed = Reason(kind, {"size_gib": size, "mine_gib": mine})
    values: Values = {"way": _way(way, row), "lacks": tuple(lacks), "streamed": streamed}
    return Reason("better", values)


def unskipped(row: ModelRow, wish: Wish, fit: Fit) -> Reason | None:
    """Skipping nothing where that would fit too and lose less: what it would bring and cost. None if
    not, or if the user decided."""
    other = find(row, replace(wish, span=(0, 0))) if wish.span is None else None
    if other is None or other.choice.middle == "streamed":
        return None
    if other.candidate.loss >= fit.candidate.loss:  # it would take fewer bits or smaller crops
        return None
    left = row.num_blocks - fit.candidate.front - fit.candidate.back
    # forward and backward through frozen weights take as long, checkpointed: forward once more
    passes = (2 + fit.choice.checkpointing) / (2 + other.choice.checkpointing)
    return Reason(
        "unskipped",
        {
            "way": _way(other.candidate, row),
            "gain": _difference(fit.candidate.loss - other.candidate.loss),
            "percent": round(100 * (1 - left / row.num_blocks * passes)),
        },
    )


def _wider(wish: Wish, more_gib: float) -> Wish:
    return replace(wish, budget_gib=wish.budget_gib + more_gib, free_gib=wish.free_gib + more_gib)


def _change(row: ModelRow, now: Fit, then: Fit) -> Reason | None:
    if then.candidate.loss < now.candidate.loss:
        likeness = round(now.candidate.loss - then.candidate.loss, 4)
        ways = {"now": _way(now.candidate, row), "then": _way(then.candidate, row)}
        shorter = then.candidate.text_tokens < now.candidate.text_tokens  # captions
        return Reason("gives_likeness", {**ways, "shorter": shorter, "likeness": likeness})
    if now.choice.middle == "streamed" != then.choice.middle:
        return Reason("gives_room")
    if now.choice.checkpointing and not then.choice.checkpointing:
        return Reason("gives_speed")
    if now.choice.middle == "leaves" and then.choice.middle == "stays":
        return Reason("gives_calm")
    return None


def _room_for_all(row: ModelRow, wish: Wish, fit: Fit) -> Reason | None:
    """When there is, or would be, room to skip nothing and lose less."""
    for more in (0, 1, 2, 4, 8, 16) if wish.span is None else ():
        other = find(row, replace(_wider(wish, more), span=(0, 0)))
        if (
            other
            and other.choice.middle != "streamed"
            and other.candidate.loss < fit.candidate.loss
        ):
            gain = _difference(fit.candidate.loss - other.candidate.loss)
            return Reason("room_later" if more else "room_now", {"more_gib": more, "gain": gain})
    return None


def _difference(gain: float) -> Reason:
    """How much more likeness (0 or more), and whether that is more than such figures vary."""
    if gain < 5e-5:
        return Reason("likeness_same")
    # published: skipping more blocks came out better by so much, so it is no more than chance
    chance = Reason("likeness_chance") if gain <= quality_table()["chance"] + 5e-5 else None
    return Reason("likeness_more", {"likeness": round(gain, 4), "chance": chance})


def _way(candidate: Candidate, row: ModelRow) -> Reason:
    """“40 % of the blocks skipped, 512 px, 8 bits”."""
    percent = round(100 * (candidate.front + candidate.back) / row.num_blocks)
    captions = None
    if candidate.text_tokens < row.text_tokens:
        captions = Reason("way_captions", {"text_tokens": candidate.text_tokens})
    return Reason(
        "way",
        {
            "percent": percent,
            "blocks": Reason("way_skips" if percent else "way_skips_none", {"percent": percent}),
            "side_px": candidate.side_px,
            "bits": Reason(f"bits_{candidate.precision}"),
            "captions": captions,
        },
    )
