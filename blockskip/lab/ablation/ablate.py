"""Run the ablation: rows × pets × seeds, one JSON line per finished cell. It can stop and resume at
any moment.

Cells run in rounds, every row for one pet and seed and then every row for the next, so a table that
is cut short is still balanced. A line is identified by its row, pet, seed, steps and configuration
hash. Cells with the same hash are not run again. report.py computes the figures and intervals.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blockskip.core import files, processes
from blockskip.core.errors import BadInput, WrongState
from blockskip.lab.ablation import tables
from blockskip.lab.ablation.experiment import Experiment, ExperimentRunner
from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.bench.report import machine
from blockskip.lab.demo_world.subjects import DEMO_SUBJECTS
from blockskip.lab.measuring.json_lines import append_line, read_lines

log = logging.getLogger(__name__)
STEPS = 300  # as in presets/training.toml, repeated so that a new default changes no table


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `lab ablate` runs. groups: tables to interleave, joined by +, such as "A+B"; the groups
    run in order. keys: rows, () for all. subjects, seeds, steps: 0 for the table's own. known:
    another file of cells, such as a page's ablation.json, which are not run again."""

    work: Path
    groups: tuple[str, ...] = ("A+B",)
    keys: tuple[str, ...] = ()
    subjects: int = 0
    seeds: int = 0
    steps: int = 0
    images: int = 8
    known: Path | None = None


def experiments(plan: Plan) -> list[Experiment]:
    """Return all cells in running order. Raises UserError for unknown tables or rows."""
    cells = [cell for group in plan.groups for cell in _group(plan, group.split("+"))]
    if not cells:
        raise BadInput(
            "None of these rows is in these tables.", "See blockskip/lab/ablation/tables.py."
        )
    return list({(c.variant.key, c.name, c.steps): c for c in cells}.values())


def _group(plan: Plan, names: Sequence[str]) -> list[Experiment]:
    known = tables.tables()
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"There is no table “{unknown[0]}”.", f"Known: {', '.join(known)}.")
    chosen = [known[name] for name in names]
    rounds = []  # (seed, index of the pet, index of the table, cells of the round)
    for index, table in enumerate(chosen):
        for seed in range(plan.seeds or table.seeds):
            num = plan.subjects or table.subjects
            pets = DEMO_SUBJECTS[:num] if table.shipped else subjects(num, table.for_tuning)
            for number, subject in enumerate(pets):
                cells = [
                    Experiment(row, subject, seed, plan.steps or STEPS)
                    for row in tables.select_variants(table, plan.keys)
                ]
                rounds.append((seed, number, index, cells))
    rounds.sort(key=lambda entry: entry[:3])
    return [cell for *_, cells in rounds for cell in cells]


def ablate(plan: Plan, say: Callable[[str], None] = log.info) -> Iterator[dict]:
    """Run the missing cells and yield each new line once it is written to `work`/cells.jsonl.

    Raises UserError if another process works in that folder.
    """
    path, wanted = plan.work / "cells.jsonl", experiments(plan)
    with processes.locked(plan.work / "lock") as free:
        if not free:
            raise WrongState(f"Another process works in {plan.work}.", "Let it, or end it first.")
        models = {experiment.variant.model for experiment in wanted}
        runners = {model: ExperimentRunner(plan.work, plan.images, model) for model in models}
        files.write_json(plan.work / "machine.json", machine())
        known_keys = {
            _line_key(line) for file in (path, plan.known) if file for line in read_lines(file)
        }
        missing = [
            experiment
            for experiment in wanted
            if _key(runners[experiment.variant.model], experiment) not in known_keys
        ]
        say(f"{len(wanted)} cells, {len(wanted) - len(missing)} are there")
        began = time.perf_counter()
        for number, experiment in enumerate(missing, 1):
            line = runners[experiment.variant.model].run(experiment)
            append_line(path, line)
            left = (time.perf_counter() - began) / number * (len(missing) - number) / 3600
            outcome = line.get("failed") or f"likeness {line['identity']:.3f}"
            say(
                f"{number}/{len(missing)} {experiment.variant.key} {experiment.name}: {outcome}; {left:.1f} h left"
            )
            yield line


def _key(runner: ExperimentRunner, experiment: Experiment) -> tuple:
    return (
        experiment.variant.key,
        experiment.subject.key,
        experiment.seed,
        runner.config_hash(experiment),
    )


def _line_key(line: dict) -> tuple:
    return tuple(line.get(name) for name in ("row", "subject", "seed", "recipe"))
