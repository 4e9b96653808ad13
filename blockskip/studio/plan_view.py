"""A plan, drawn: the model's blocks, memory per stage under the budget, crops and trade-offs.

Pure functions from a plan to HTML without scripts; shapes and colours are in studio.css (“the
plan”). Every figure is repeated in words beside it. Sizes are GiB, shown to the user as GB with one
decimal.
"""

from __future__ import annotations

import html
import math
from itertools import pairwise

from blockskip.core import stages
from blockskip.core.errors import UserError
from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory.planning.planner import Plan
from blockskip.memory.planning.request import RAM_FOR_SYSTEM
from blockskip.memory.planning.run_sizes import middle_bytes
from blockskip.runs.expected_time import ExpectedTime
from blockskip.studio import strings
from blockskip.studio.formatting import duration, note
from blockskip.studio.measuring import State
from blockskip.studio.plan_strings import (
    amount,
    costs,
    crop_words,
    gain_text,
    gb,
    reason_text,
    refusal_text,
    sides,
)

e = html.escape


def plan_figure(
    plan: Plan,
    row: ModelRow,
    expected: ExpectedTime | None,
    disk_gib: float | None = None,
    measuring: State = "over",
) -> str:
    """Return the whole plan as one section.

    expected: how long the run will take, None if unknown. disk_gib: free disk space. measuring:
    whether this computer's speed is being measured or will be.
    """
    verdict, *reasons = [reason_text(reason) for reason in plan.reasons]
    short = note("", reason_text(plan.commit_short), "warning") if plan.commit_short else ""
    return (
        f'<section class="plan" aria-label="{strings.PLAN_LABEL}">{short}'
        f'<div><p class="plan-verdict">{e(verdict)}</p><p class="hint">{_time(expected, measuring)}</p></div>'
        f"{_blocks(plan.settings, row)}"
        f'<div class="plan-two"><div>{_stages(plan, row)}{_ram_and_disk(plan, row, disk_gib)}</div>'
        f"<div>{_crops(plan.settings)}{_tradeoffs(plan, row)}</div></div>{_reasons(reasons)}</section>"
    )


def refusal(error: UserError, smallest_gib: float | None) -> str:
    """Return why a budget cannot work, with a button for the smallest that does (rounded up)."""
    button = ""
    if smallest_gib is not None:
        least = math.ceil(smallest_gib * 10 - 1e-9) / 10
        label = strings.PLAN_USE.format(size=gb(least))
        button = f'<button type="button" data-budget="{least:g}">{label}</button>'
    title, remedy = refusal_text(error)
    return (
        f'<section class="plan refused" aria-label="{strings.PLAN_LABEL}"><p>'
        f"<b>{e(title)}</b> {e(remedy)}</p>{button}</section>"
    )


SIZES_GIB = (8, 12, 16, 24)  # of the cards that most people have or plan to buy


def budget_sizes(budget_gib: float) -> str:
    """Return buttons that set the budget to the usual sizes of cards."""
    buttons = "".join(
        f'<button type="button" class="press preset" data-budget="{size}" '
        f'aria-pressed="{str(size == budget_gib).lower()}">{gb(size)}</button>'
        for size in SIZES_GIB
    )
    return f'<div class="presses presets"><span>{strings.PLAN_SIZES}</span>{buttons}</div>'


def budget_marks(
    low: float,
    high: float,
    total_gib: float | None,
    others_gib: float | None,
    free_gib: float | None,
) -> str:
    """Return a strip below the budget slider, which runs from low to high GiB.

    It marks budgets that are free now, in use by other programs, and beyond the card's memory. None
    or a negative size means unknown.
    """
    if total_gib is None or total_gib <= 0:
        return f'<p class="plan-marks hint">{strings.PLAN_MARKS_NO_CARD}</p>'
    free = total_gib if free_gib is None or free_gib < 0 else min(free_gib, total_gib)
    others = (
        total_gib - free if others_gib is None or others_gib < 0 else min(others_gib, total_gib)
    )
    free = total_gib if others < 0.05 else free
    text = strings.PLAN_MARKS if others >= 0.05 else strings.PLAN_MARKS_ALONE
    text = text.format(total=gb(total_gib), others=gb(others), free=gb(free))
    edges = [low, *(min(max(gib, low), high) for gib in (free, total_gib)), high]
    parts = (
        ("free", strings.PLAN_MARKS_FREE),
        ("taken", strings.PLAN_MARKS_TAKEN),
        ("beyond", strings.PLAN_MARKS_BEYOND),
    )
    strip = legend = ""
    for (key, words), (start, end) in zip(parts, pairwise(edges), strict=True):
        if end > start:
            share = 100 * (end - start) / (high - low)
            strip += f'<i class="{key}" style="width:{share:.2f}%"></i>'
            legend += f'<li class="{key}">{words}</li>'
    return (
        f'<div class="plan-marks"><div class="plan-scale" aria-hidden="true">{strip}</div>'
        f'<p class="hint">{text}</p><ul class="plan-legend">{legend}</ul></div>'
    )


def _time(expected: ExpectedTime | None, measuring: State) -> str:
    """Return a sentence with the expected duration and whose it is, or that it is unknown."""
    words = strings.PLAN_MINUTES_UNKNOWN
    if expected is not None:
        words = strings.PLAN_MINUTES_BY[expected.basis].format(time=duration(60 * expected.minutes))
    if expected is not None and expected.basis != "common":
        return words
    return f"{words} {strings.PLAN_MEASURING[measuring]}".strip()


def _blocks(s: Settings, row: ModelRow) -> str:
    """Return one cell per block in model order, separated by stack, and a legend."""
    trained = row.num_blocks - s.plan.front - s.plan.back
    kind = "streamed" if s.plan.middle == "streamed" else "trained"
    kinds = ["skipped"] * s.plan.front + [kind] * trained + ["skipped"] * s.plan.back
    stacks, start = "", 0
    for count in row.blocks:
        cells = "".join(f'<i class="{kind}"></i>' for kind in kinds[start : start + count])
        stacks, start = f'{stacks}<span style="flex-grow:{count}">{cells}</span>', start + count
    learn = strings.PLAN_STREAMED if kind == "streamed" else strings.PLAN_TRAINED
    legend = [(kind, learn.format(count=trained))]
    if s.plan.front + s.plan.back:
        legend.append(("skipped", strings.PLAN_SKIPPED.format(count=s.plan.front + s.plan.back)))
    title = strings.PLAN_BLOCKS.format(count=row.num_blocks)
    label = f"{strings.translated(row.title)}. {title}: {'; '.join(words for _, words in legend)}"
    return (
        f'<figure class="plan-blocks"><figcaption><b>{title}</b></figcaption>'
        f'<div class="plan-strip" role="img" aria-label="{e(label)}">{stacks}</div>'
        f"{_legend(legend)}</figure>"
    )


def _legend(entries: list[tuple[str, str]]) -> str:
    return (
        '<ul class="plan-legend">'
        + "".join(f'<li class="{key}">{e(words)}</li>' for key, words in entries)
        + "</ul>"
    )


def _stages(plan: Plan, row: ModelRow) -> str:
    """Return one bar per stage, scaled to the budget, with its unusable part hatched."""
    budget = plan.settings.budget_gib
    skips = plan.settings.plan.front + plan.settings.plan.back > 0
    names = strings.PLAN_STAGES if skips else strings.PLAN_STAGES | strings.PLAN_STAGES_UNSKIPPED
    needs = {names[name]: _parts(plan, row, name) for name in plan.stages}
    most = max(needs, key=lambda name: sum(needs[name]))
    rows = ""
    for name, (held, passing) in needs.items():
        bars = _bar("held", held, budget) + _bar("passing", passing, budget)
        rows += _row(name, bars, gb(held + passing), "most" * (name == most))
    reserved = plan.usable_gib + plan.reserve_gib
    taken = max(0.0, budget - reserved)
    legend = [("held", strings.PLAN_HELD)] if any(held for held, _ in needs.values()) else []
    legend += [("passing", strings.PLAN_PASSING)] if legend else []
    if plan.reserve_gib:
        legend.append(("reserve", strings.PLAN_RESERVE.format(size=gb(plan.reserve_gib))))
    if taken >= 0.05:
        legend.append(("taken", strings.PLAN_TAKEN.format(size=gb(taken))))
    legend.append(("budget", strings.PLAN_BUDGET.format(size=gb(budget))))
    edges = f"--usable:{_percent(plan.usable_gib, budget)};--reserved:{_percent(reserved, budget)}"
    return (
        f'<figure class="plan-stages" style="{edges}"><figcaption><b>{strings.PLAN_STAGES_TITLE}</b>'
        f"<span>{strings.PLAN_STAGES_ABOUT.format(size=gb(plan.peak_vram_gib), stage=most)}</span>"
        "</figcaption>"
        f'<ul class="plan-bars">{rows}</ul>{_legend(legend)}</figure>'
    )


def _parts(plan: Plan, row: ModelRow, stage: str) -> tuple[float, float]:
    """Return a stage's (trained blocks on the card, everything else) in GiB."""
    total, middle = plan.stages[stage].vram_gib, plan.settings.plan.middle
    stages_with_middle = {
        "stays": (stages.RESIDUALS, stages.TRAIN, stages.PREVIEW),
        "leaves": (stages.TRAIN,),
    }.get(middle, ())
    if stage not in stages_with_middle:
        return 0.0, total
    held = min(total, middle_bytes(row, plan.settings) / GIB)
    return held, total - held


def _row(name: str, bars: str, size: str, key: str = "") -> str:
    track = f'<span class="plan-track" aria-hidden="true">{bars}</span>' if bars else ""
    return f'<li class="{key}"><span>{name}</span>{track}<span>{size}</span></li>'


def _bar(key: str, gib: float, total_gib: float) -> str:
    return f'<i class="{key}" style="width:{_percent(gib, total_gib)}"></i>' if gib > 0 else ""


def _percent(part: float, total: float) -> str:
    return f"{100 * min(1.0, max(0.0, part / total)):.2f}%"


def _ram_and_disk(plan: Plan, row: ModelRow, disk_gib: float | None) -> str:
    """Return the RAM and disk needed beside what this computer has."""
    total = plan.settings.ram_gib
    ram = strings.PLAN_RAM_OF.format(size=amount(plan.ram_gib), total=gb(total))
    rows = _row(strings.PLAN_RAM, _bar("ram", plan.ram_gib, total), ram, "kept")
    disk, bar = gb(plan.disk_gib), ""
    if disk_gib is not None and 0 < disk_gib < math.inf:
        disk = strings.PLAN_DISK_OF.format(size=amount(plan.disk_gib), total=gb(disk_gib))
        bar = _bar("ram", plan.disk_gib, disk_gib)
    rows += _row(strings.PLAN_DISK, bar, disk)
    words = strings.PLAN_RAM_KEPT
    if math.isfinite(plan.free_ram_gib):
        words += " " + strings.PLAN_RAM_FREE.format(size=gb(plan.free_ram_gib))
    kept = f'<p class="hint">{words}</p>'
    return (
        f'<figure class="plan-room" style="--usable:{100 * (1 - RAM_FOR_SYSTEM):g}%;'
        f'--reserved:100%"><figcaption><b>{strings.PLAN_ROOM_TITLE}</b></figcaption>'
        f'<ul class="plan-bars">{rows}</ul>{kept}</figure>'
    )


def _crops(s: Settings) -> str:
    """Draw crop side over noise: three squares to scale in the whole photo, joined by a line."""
    crop_sides, high, captions = sides(s), s.plan.s_max_px, crop_words(s)
    same_crop = s.plan.patches not in ("dynamic", "reversed", "random")
    crop_sides = crop_sides[:1] if same_crop else crop_sides
    drawn, line = "", []
    for column, (low, top) in enumerate(crop_sides):
        x, frame = 100 * column, 'width="84" height="84"'
        side, inner = 84 * top / high, 84 * low / high
        if top < high:
            drawn += f'<rect class="frame" x="{x + 8}" y="6" {frame}/>'
        for key, px in (("crop", side), ("least", inner))[: 1 + (low < top)]:
            drawn += (
                f'<rect class="{key}" x="{x + 50 - px / 2:.1f}" y="{90 - px:.1f}" '
                f'width="{px:.1f}" height="{px:.1f}"/>'
            )
        line.append(f"{x + 50},{90 - side:.1f}")
    path = (
        f'<polyline points="{" ".join(line)}"/>'
        if len(line) > 1 and s.plan.patches != "random"
        else ""
    )
    spoken = ", ".join(f"{word} {px}".strip() for word, px in captions)
    ends = "".join(f"<span>{words}</span>" for words in strings.PLAN_NOISE)
    label = f"{strings.PLAN_CROPS_TITLE}, {' … '.join(strings.PLAN_NOISE)}: {spoken}"
    noise = "" if same_crop else f'<p class="plan-noise">{ends}</p>'
    words = "".join(f"<li><b>{word}</b> {px}</li>" for word, px in captions)
    same = "" if s.plan.patches == "full" else f"{strings.PLAN_SHRUNK.format(side=s.plan.s_min_px)}"
    return (
        f'<figure class="plan-crops{" one" if same_crop else ""}"><figcaption><b>{strings.PLAN_CROPS_TITLE}</b>'
        f"<span>{strings.PLAN_CROPS[s.plan.patches]}{same}</span></figcaption>"
        f'<svg role="img" aria-label="{e(label)}" viewBox="0 0 {100 * len(crop_sides)} 94">{drawn}'
        f"{path}</svg><ul>{words}</ul>{noise}</figure>"
    )


def _tradeoffs(plan: Plan, row: ModelRow) -> str:
    """Return what the plan gives up, and what more memory would bring."""
    given_up = costs(plan.settings, row)[:3] or [strings.PLAN_GIVES_NOTHING]
    listed = "".join(f"<li>{e(cost)}</li>" for cost in given_up)
    gain = gain_text(plan.one_more_gib)
    return (
        f'<div class="plan-words"><h3>{strings.PLAN_GIVES_UP}</h3><ul>{listed}</ul></div>'
        f'<div class="plan-words"><h3>{strings.PLAN_MORE}</h3><p>{e(gain)}</p></div>'
    )


def _reasons(reasons: list[str]) -> str:
    """Return all of the planner's reasons, folded up."""
    if not reasons:
        return ""
    listed = "".join(f"<li>{e(reason)}</li>" for reason in reasons)
    return f"<details><summary>{strings.PLAN_WHY}</summary><ul>{listed}</ul></details>"
