"""Turn the ablation's cells into means with intervals, differences, and verdicts on the paper's
findings.

Differences are paired by pet and seed, so that easy and hard pets cancel out. The 95 % intervals
are bootstrapped over pets, because trainings on one pet are alike whatever their seed.
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
    """The mean of `num` cells with its 95 % interval."""

    value: float
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class Finding:
    """A claim about two rows: `better` beats `worse`; or they do not differ (`same`); or `worse`
    loses at most the share `within` of the likeness of `better`."""

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
    """Return the latest line of every cell. Only the longest trainings are comparable, so shorter
    ones are dropped."""
    lines = list(lines)
    steps = max((line["steps"] for line in lines), default=0)
    results: Results = {}
    for line in lines:
        if line["steps"] in (0, steps):  # 0: the untrained model
            results.setdefault(line["row"], {})[line["subject"], line["seed"]] = line
    return results


def for_table(cells: Results, table: Table) -> Results:
    """Return the cells of a table's pets and seeds. A row shared with another table may have
    more."""
    pets = {pet.key for pet in subjects(table.subjects, table.for_tuning)}
    return {
        row: {key: line for key, line in lines.items() if key[0] in pets and key[1] < table.seeds}
        for row, lines in cells.items()
    }


def estimate(cells: Results, row: str, field: str = "identity") -> Estimate | None:
    """Estimate a field over the cells of a row. Returns None without values."""
    values = [
        (pet, line[field]) for (pet, _), line in sorted(cells.get(row, {}).items()) if field in line
    ]
    return _bootstrapped(values)


def difference(cells: Results, row: str, other: str, field: str = "identity") -> Estimate | None:
    """Estimate row minus other over the pets and seeds they share. Returns None if there are
    none."""
    of_row, of_other = cells.get(row, {}), cells.get(other, {})
    values = [
        (key[0], of_row[key][field] - of_other[key][field])
        for key in sorted(of_row.keys() & of_other.keys())
        if field in of_row[key] and field in of_other[key]
    ]
    return _bootstrapped(values)


def _bootstrapped(pairs: Sequence[tuple[str, float]]) -> Estimate | None:
    """Estimate the mean of (pet, value) pairs, resampling whole pets."""
    if not pairs:
        return None
    by_pet: dict[str, list[float]] = {}
    for pet, value in pairs:
        by_pet.setdefault(pet, []).append(value)
    pets = by_pet.values()
    low, high = bootstrap([sum(values) for values in pets], [len(values) for values in pets])
    return Estimate(statistics.mean(value for _, value in pairs), low, high, len(pairs))


def median(cells: Results, row: str, field: str) -> float | None:
    """Return the median of a field over the cells of a row, for times: other work on the machine
    slows some cells. Returns None without values."""
    values = [line[field] for line in cells.get(row, {}).values() if field in line]
    return statistics.median(values) if values else None


def verdict(finding: Finding, apart: Estimate | None, better: Estimate | None = None) -> str:
    """Return the verdict on a finding, in words. apart: better minus worse. better: the likeness of
    the better row."""
    if apart is None or better is None:
        return "not measured yet"
    if apart.num < 3:
        return "too few cells"
    if finding.within:
        max_loss = finding.within * better.value
        if apart.high <= max_loss:
            return "holds"
        return "does not hold: more is lost" if apart.low > max_loss else "not decided"
    if finding.same:
        if apart.low <= 0 <= apart.high:
            return "holds: no loss that these cells can show"
        return "does not hold: a loss" if apart.low > 0 else "better than that: a gain"
    if apart.low > 0:
        return "reproduces"
    return "**the opposite** is seen" if apart.high < 0 else "not decided: the interval holds 0"
