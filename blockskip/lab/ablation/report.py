"""Write the ablation's page from its cells: assets/evidence/ablation.md, ablation.json and
plots."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import NotFound, command
from blockskip.lab.ablation.contact_sheet import SHEETS, write_sheets
from blockskip.lab.ablation.statistics import (
    FINDINGS,
    Estimate,
    Results,
    by_variant,
    difference,
    estimate,
    for_table,
    median,
    verdict,
)
from blockskip.lab.ablation.tables import tables, window_key
from blockskip.lab.ablation.variants import SPLITS, WINDOWS, Table
from blockskip.lab.measuring import plots
from blockskip.lab.measuring.json_lines import read_lines
from blockskip.lab.measuring.pages import markdown_table, write_below_marker

JSON_FIELDS = (  # those of a cell that ablation.json keeps
    *("row", "subject", "seed", "steps", "front", "back", "identity", "attributes"),
    *("places_obeyed", "class_word", "seconds_per_draw", "peak_bytes", "window_peak_bytes"),
    *("photos_identity", "final_loss", "failed", "recipe"),
)
COLUMNS = "row|cells|likeness|against|attributes|places|class word|s a draw|peak MB"
PICTURES = """## What that looks like

One pet, seed 0. The first four pictures of each prompt: the pet, on the beach, in the snow, and the bare class word.
"""
TITLE = "The ablation: the paper's tables and ours, on the demo models"
INTRO = """Made by the commands `lab ablate` and `lab ablation-report` (`--help` says how).
Every cell trains {steps} steps of 8 draws on five pictures of a pet, then 32 pictures are generated and judged.

- **Likeness** is the demo world judge's mean cosine between 24 pictures (three prompts, two of which name
  a place) and the pet's photos, not DINO or CLIP. A perfect copy scores about {ceiling:.2f}, the untrained model
  {floor}. **Attributes**: share of the pet's eleven attributes that the judge sees. **Places**: share of
  pictures in the place asked for. **Class word**: likeness of pictures of “a photo of a cat”, which should stay low.
- Brackets are 95 % intervals, bootstrapped over pets (with their seeds). **against** is the mean difference in likeness from the
  named row, paired by pet and seed.
- Neither the demo model nor its judge was trained on the pets of tables A to D. They are drawn by seed, and kept only if the
  judge reads them correctly in drawn pictures. Settings are tuned on other pets (table E).
- **Processor seconds a draw** (one core, windows included{measured}) and **peak bytes in use** of a training
  step, counted by storage: weights, LoRA, its optimiser, activations, the window and all draws' latents, without Python's
  libraries. Sessions differ by 2 % at most.
- Table A trains at 32 px on crops of 32 to 64 px, since patches need a side smaller than the picture's. Table B trains on
  whole pictures at 64 px, the demo's default.
"""


def write(work: Sequence[Path], out: Path, costs: Path | None = None) -> list[Path]:
    """Write page, figures and plots, and return their paths. work: folders of cells, or an
    ablation.json; the later copy of a cell counts. costs: the folder of a separate short run, which
    supplies the seconds in the tables it covers completely. Raises UserError without any cell."""
    paths = [source / "cells.jsonl" if source.is_dir() else source for source in work]
    lines = [line for path in paths for line in read_lines(path)]
    if not lines:
        raise NotFound(
            f"There are no cells in {work[0]}.", f"Make them first: {command('lab ablate')}"
        )
    cells, costs_of = by_variant(lines), _costs(costs)
    texts = plot_files(cells) | {"ablation.json": results_json(cells)}
    for name, text in texts.items():
        files.write_text(out / name, text)
    sheets = write_sheets([source for source in work if source.is_dir()], out)
    pictured = [name for name in SHEETS if (out / name).exists()]
    write_below_marker(out / "ablation.md", TITLE, markdown_page(cells, *costs_of, pictured))
    return [*(out / name for name in sorted([*texts, "ablation.md"])), *sheets]


def results_json(cells: Results) -> str:
    """Return the text of ablation.json: a list of cells, one per line."""
    lines = [line for row in cells.values() for line in row.values()]
    lines = [{key: line[key] for key in JSON_FIELDS if key in line} for line in lines]
    return "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n"


def _costs(folder: Path | None) -> tuple[Results, str]:
    """Return the cells of a separate short run and the note about them. Raises UserError if there
    are none."""
    if folder is None:
        return {}, "; median of the cells, other work beside them"
    cells = by_variant(read_lines(folder / "cells.jsonl"))
    if not cells:
        raise NotFound(f"There are no cells in {folder}.", "Let its run make some first.")
    machine = files.read_json(folder / "machine.json")
    steps = max(line["steps"] for row in cells.values() for line in row.values())
    where = f"{machine['processor']}, torch {machine['torch']}, {machine['date']}"
    keys = [t.key for t in tables().values() if {row.key for row in t.variants} <= cells.keys()]
    note = f"{', '.join(keys)}: of runs of {steps} steps, one after another in one process, {where}"
    return cells, f"; {note}; other tables: median of the cells, other work beside them"


def markdown_page(
    cells: Results, costs: Results | None = None, measured: str = "", pictured: Sequence[str] = ()
) -> str:
    """Return the generated part of ablation.md. costs: cells used only for seconds. measured: the
    note about them. pictured: names of the existing sheets."""
    every = [line for row in cells.values() for line in row.values()]
    ceiling = [line["photos_identity"] for line in every if "photos_identity" in line]
    floor = estimate(cells, "untrained")
    head = INTRO.format(
        steps=max(line["steps"] for line in every),
        ceiling=sum(ceiling) / max(1, len(ceiling)),
        floor=f"{floor.value:.2f}" if floor else "(not measured yet)",
        measured=measured,
    )
    parts = [head, _findings(cells), *([_pictures(pictured)] if pictured else [])]
    for table in tables().values():
        if has_results(cells, table):
            selected = for_table(cells, table)
            parts.append(
                _windows(selected) if table.key == "C" else _table(selected, table, costs or {})
            )
    return "\n".join(parts)


def _pictures(sheets: Sequence[str]) -> str:
    lines = [f"![a line of pictures a row]({name})\n" for name in sheets]
    return "\n".join([PICTURES, *lines])


def has_results(cells: Results, table: Table) -> bool:
    """Return whether any row of a table has results for the table's pets."""
    selected = for_table(cells, table)
    return any(estimate(selected, row.key) for row in table.variants)


def _findings(cells: Results) -> str:
    rows = []
    cells = for_table(cells, tables()["B"])  # covers the pets and seeds of all others
    for finding in FINDINGS:
        apart = difference(cells, finding.better, finding.worse)
        better, num = estimate(cells, finding.better), apart.num if apart else 0
        outcome = verdict(finding, apart, better)
        rows.append([finding.claim, _interval(apart, signed=True), num, outcome])
    head = "finding|difference in likeness|cells|here"
    return "\n".join(["## What reproduces\n", *markdown_table(head, rows)]) + "\n"


def _table(cells: Results, of: Table, costs: Results) -> str:
    if not {row.key for row in of.variants} <= costs.keys():
        costs = cells
    rows = []
    for row in of.variants:
        like = estimate(cells, row.key)
        if like is None:
            continue
        apart = difference(cells, row.key, row.baseline) if row.key != row.baseline else None
        against = f"{_interval(apart, signed=True)} {row.baseline}" if apart and row.trainer else ""
        failed = sum("failed" in line for line in cells[row.key].values())
        cost = [
            _number(median(costs, row.key, "seconds_per_draw"), "{:.4f}"),
            _number(median(cells, row.key, "peak_bytes"), "{:.0f}", 1e-6),
        ]
        shares = [
            _number(estimate(cells, row.key, name), "{:.2f}")
            for name in ("attributes", "places_obeyed", "class_word")
        ]
        count = f"{like.num}" + (f" ({failed} went astray)" if failed else "")
        rows.append([row.title, count, _interval(like), against, *shares, *cost])
    lines = [f"## {of.key}. {of.title}\n", *markdown_table(COLUMNS, rows)]
    return "\n".join(lines) + f"\n\n![{of.title}](ablation-{of.key}.svg)\n"


def _windows(cells: Results) -> str:
    """Return table C, a column per window length: the likeness of every split, the effect of moving
    two skipped blocks from front to back, and seconds."""
    likes, moved, seconds = [], [], []
    for percent, splits in SPLITS.items():
        usual, other = (
            [window_key(percent, split, share) for share in WINDOWS] for split in splits
        )
        for (front, back), keys in zip(splits, (usual, other), strict=True):
            name = f"{percent} %: {front} + {back}"
            likes.append([name, *(_interval(estimate(cells, key)) for key in keys)])
            times = [median(cells, key, "seconds_per_draw") for key in keys]
            seconds.append([name, *(_number(time, "{:.4f}") for time in times)])
        apart = [difference(cells, *keys) for keys in zip(other, usual, strict=True)]
        (front, back), (now, then) = splits[1], splits[0]
        name = f"{percent} %: {front} + {back} instead of {now} + {then}"
        moved.append([name, *(_interval(gap, signed=True) for gap in apart)])
    return "\n".join(
        [
            "## C. How long a window serves, 32 px\n",
            "Share of the run that one window serves. 100 %: residuals of the untrained model, as in the paper.\n",
            _by_window("likeness", likes),
            _by_window("difference in likeness", moved),
            _by_window("processor seconds a draw, other work beside", seconds),
            "![window lengths](ablation-C.svg)\n",
        ]
    )


def _by_window(title: str, rows: Sequence[Sequence[str]]) -> str:
    head = "|".join([title, *(f"{share} %" for share in WINDOWS)])
    return "\n".join(markdown_table(head, [row for row in rows if any(row[1:])])) + "\n"


def plot_files(cells: Results) -> dict[str, str]:
    """Return file name → SVG, one for each table with results."""
    svgs = {}
    for table in tables().values():
        if has_results(cells, table):
            plot = _curves(cells) if table.key == "C" else _dots(cells, table)
            svgs[f"ablation-{table.key}.svg"] = plot
    return svgs


def _dots(cells: Results, table: Table) -> str:
    cells = for_table(cells, table)
    rows = [(row, estimate(cells, row.key)) for row in table.variants]
    mark = estimate(cells, table.variants[-1].baseline)
    return plots.dots(
        f"{table.key}. {table.title}",
        "likeness (demo world judge)",
        [plots.Dot(row.title, m.value, m.low, m.high) for row, m in rows if m],
        mark.value if mark else None,
        least=mark.value - 0.25 if mark else -math.inf,  # or outliers squeeze the rest
    )


def _curves(cells: Results) -> str:
    """Plot paired differences, since pets differ far more than windows do."""
    curves, cells = [], for_table(cells, tables()["C"])
    for percent, (front, back) in ((p, split) for p, splits in SPLITS.items() for split in splits):
        keys = {share: window_key(percent, (front, back), share) for share in WINDOWS}
        apart = {share: difference(cells, key, keys[100]) for share, key in keys.items()}
        points = [(share, m.value, m.low, m.high) for share, m in apart.items() if m]
        if points:
            curves.append(plots.Series(f"{percent} %: {front} + {back}", points))
    return plots.lines(
        "C. How long a window serves",
        "percent of the run that one window serves",
        "likeness, less that of residuals computed once",
        curves,
        log_x=True,
    )


def _interval(mean: Estimate | None, signed: bool = False) -> str:
    if mean is None:
        return ""
    sign = "+" if signed else ""
    return f"{mean.value:{sign}.3f} [{mean.low:{sign}.3f}, {mean.high:{sign}.3f}]"


def _number(value: Estimate | float | None, form: str, factor: float = 1.0) -> str:
    if value is None:
        return ""
    return form.format((value.value if isinstance(value, Estimate) else value) * factor)
