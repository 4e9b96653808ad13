"""Cells of the ablation → means with intervals, differences, and what of the paper's findings holds.

A difference is taken between cells of the same pet and seed, so that easy and hard pets cancel out;
its 95 % interval is a bootstrap over pets: trainings of one pet are alike, whatever their seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.ablation.variants import Table
from blockskip.lab.measuring.confidence import bootstrap

Results = dict[str, dict[tuple[str, int], dict]]  # row → (pet, seed) → line


@dataclass(frozen=True)
class Estimate:
    """Of `num` cells, with its 95 % interval."""

    value: float
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class Finding:
    """claim: what is claimed. better, worse: rows, said to be apart; or (`same`) not to be, or
    (`within`) by no more than that share of the better one's likeness."""

    claim: str
    better: str
    worse: str
    same: bool = False
    within: float = 0.0


FINDINGS = (
    Finding("dynamic patches > plain resize", "dynamic", "resize"),
    Finding("order of patches matters: dynamic > random", "dynamic", "random"),
    Finding("order of patches matters: dynamic > reversed", "dynamic", "reversed"),
    Finding("50 % skipped: residuals ≫ none", "once-50", "none-50"),
    Finding("50 % skipped: chosen span > front only (residuals once)", "once-50", "front-50"),
    Finding("50 % skipped: chosen span > front only (fresh)", "ours-50", "front-50"),
    Finding("50 % skipped: front only > back only (fresh)", "front-50", "back-50"),
    Finding(
        "50 % skipped: a hollow centre is the worst (below back only; fresh)",
        "back-50",
        "hollow-50",
    ),
    Finding("30 % skipped ≈ full LoRA (residuals once)", "lora", "once-30", same=True),
    Finding("ours: 30 % skipped ≈ full LoRA (fresh)", "lora", "ours-30", same=True),
    Finding("ours: 50 % skipped within 2 % of full LoRA (fresh)", "lora", "ours-50", within=0.02),
    Finding("ours: fresh residuals > once, at 30 %", "ours-30", "once-30"),
    Finding("ours: fresh residuals > once, at 40 %", "ours-40", "once-40"),
    Finding("ours: fresh residuals > once, at 50 %", "ours-50", "once-50"),
    Finding(
        "30 %: skipping loses nothing beyond what fewer learning blocks lose",
        "middle-30",
        "ours-30",
        same=True,
    ),
    Finding(
        "50 %: skipping loses nothing beyond what fewer learning blocks lose",
        "middle-50",
        "ours-50",
        same=True,
    ),
    Finding("50 %: LoRA of rank 32 > 16", "ours-50-rank-32", "ours-50"),
    Finding("50 %: windows of 2 % of the run > 10 %", "ours-50-window-2", "ours-50"),
    Finding("SANA, 50 % skipped: residuals ≫ none", "sana-once-50", "sana-none-50"),
    Finding("SANA: 30 % skipped ≈ full LoRA (fresh)", "sana-lora", "sana-ours-30", same=True),
    Finding(
        "SANA: 50 % skipped within 2 % of full LoRA (fresh)",
        "sana-lora",
        "sana-ours-50",
        within=0.02,
    ),
    Finding("SANA: fresh residuals > once, at 50 %", "sana-ours-50", "sana-once-50"),
    Finding(
        "SANA, 50 %: skipping loses nothing beyond what fewer learning blocks lose",
        "sana-middle-50",
        "sana-ours-50",
        same=True,
    ),
    Finding("SANA: 50 % skipped > LISA", "sana-ours-50", "sana-lisa"),
    Finding("SANA: 50 % skipped > LoRA-FA", "sana-ours-50", "sana-lora-fa"),
)


def by_variant(lines: Iterable[dict]) -> Results:
    """The latest line of every cell; steps are compared within one file, so the longest are taken."""
    lines = list(lines)
    steps = max((line["steps"] for line in lines), default=0)
    found: Results = {}
    for line in lines:
        if line["steps"] in (0, steps):  # 0: the untrained model
            found.setdefault(line["row"], {})[line["subject"], line["seed"]] = line
    return found


def for_table(cells: Results, table: Table) -> Results:
    """Those of a table's pets and seeds; a row that two tables share may have more of them."""
    pets = {pet.key for pet in subjects(table.subjects, table.for_tuning)}
    return {
        row: {key: line for key, line in lines.items() if key[0] in pets and key[1] < table.seeds}
        for row, lines in cells.items()
    }


def estimate(cells: Results, row: str, field: str = "identity") -> Estimate | None:
    """Of a field over the cells of a row."""
    values = [
        (pet, line[field]) for (pet, _), line in sorted(cells.get(row, {}).items()) if field in line
    ]
    return _bootstrapped(values)


def difference(cells: Results, row: str, other: str, field: str = "identity") -> Estimate | None:
    """Row minus other over the pets and seeds that both have."""
    one, two = cells.get(row, {}), cells.get(other, {})
    values = [
        (key[0], one[key][field] - two[key][field])
        for key in sorted(one.keys() & two.keys())
        if field in one[key] and field in two[key]
    ]
    return _bootstrapped(values)


def _bootstrapped(found: Sequence[tuple[str, float]]) -> Estimate | None:
    """Of (pet, value); whole pets are resampled."""
    if not found:
        return None
    by_pet: dict[str, list[float]] = {}
    for pet, value in found:
        by_pet.setdefault(pet, []).append(value)
    pets = by_pet.values()
    low, high = bootstrap([sum(values) for values in pets], [len(values) for values in pets])
    return Estimate(statistics.mean(value for _, value in found), low, high, len(found))


def median(cells: Results, row: str, field: str) -> float | None:
    """Of a field over the cells of a row: other work on the machine makes some of them slow."""
    values = [line[field] for line in cells.get(row, {}).values() if field in line]
    return statistics.median(values) if values else None


def verdict(finding: Finding, apart: Estimate | None, better: Estimate | None = None) -> str:
    """What the cells say of a finding, in words. better: likeness of the better row."""
    if apart is None or better is None:
        return "not measured yet"
    if apart.num < 3:
        return "too few cells"
    if finding.within:
        most = finding.within * better.value
        if apart.high <= most:
            return "holds"
        return "does not hold: more is lost" if apart.low > most else "not decided"
    if finding.same:
        if apart.low <= 0 <= apart.high:
            return "holds: no loss that these cells can show"
        return "does not hold: a loss" if apart.low > 0 else "better than that: a gain"
    if apart.low > 0:
        return "reproduces"
    return "**the opposite** is seen" if apart.high < 0 else "not decided: the interval holds 0"
