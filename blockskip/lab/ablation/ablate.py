"""The ablation: rows × pets × seeds, one line of JSON a finished cell, stopped and gone on with at any
moment.

The order is by rounds: every row for one pet and seed, then every row for the next, so a table that
is cut off is still balanced. A line is known by its row, pet, seed, steps and configuration hash; what is there
is not made again, and what was made with another configuration is. Figures with intervals are report.py's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from blockskip.core import files, processes
from blockskip.core.errors import BadInput, WrongState
from blockskip.lab.ablation import tables
from blockskip.lab.ablation.experiment import Experiment, ExperimentRunner
from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.bench.report import machine
from blockskip.lab.measuring.json_lines import append_line, read_lines

log = logging.getLogger(__name__)
STEPS = 300  # presets/training.toml's, written down: a table must not change with a default


@dataclass(frozen=True, kw_only=True)
class Plan:
    """groups: tables that are made together, with a + between them, such as "A+B"; one group after another.
    keys: rows, () = all. subjects, seeds, steps: 0 = as the table says. known: another file with cells,
    such as a page's ablation.json; those are not made again."""

    work: Path
    groups: tuple[str, ...] = ("A+B",)
    keys: tuple[str, ...] = ()
    subjects: int = 0
    seeds: int = 0
    steps: int = 0
    images: int = 8
    known: Path | None = None


def experiments(plan: Plan) -> list[Experiment]:
    """All cells in the order they are made. Raises UserError for unknown tables or rows."""
    found = [cell for group in plan.groups for cell in _group(plan, group.split("+"))]
    if not found:
        raise BadInput(
            "None of these rows is in these tables.", "See blockskip/lab/ablation/tables.py."
        )
    return list({(c.variant.key, c.name, c.steps): c for c in found}.values())


def _group(plan: Plan, names: Sequence[str]) -> list[Experiment]:
    known = tables.tables()
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"There is no table “{unknown[0]}”.", f"Known: {', '.join(known)}.")
    chosen = [known[name] for name in names]
    rounds = []  # (seed, pet's place, table's place, cells of a round)
    for place, table in enumerate(chosen):
        for seed in range(plan.seeds or table.seeds):
            pets = subjects(plan.subjects or table.subjects, table.for_tuning)
            for number, subject in enumerate(pets):
                made = [
                    Experiment(row, subject, seed, plan.steps or STEPS)
                    for row in tables.select_variants(table, plan.keys)
                ]
                rounds.append((seed, number, place, made))
    rounds.sort(key=lambda one: one[:3])
    return [cell for *_, made in rounds for cell in made]


def ablate(plan: Plan, say: Callable[[str], None] = log.info) -> Iterator[dict]:
    """Make what is missing; gives each new line once it is on the disk in `work`/cells.jsonl.

    Raises UserError when another process works there.
    """
    path, wanted = plan.work / "cells.jsonl", experiments(plan)
    with processes.locked(plan.work / "lock") as free:
        if not free:
            raise WrongState(f"Another process works in {plan.work}.", "Let it, or end it first.")
        models = {experiment.variant.model for experiment in wanted}
        runners = {model: ExperimentRunner(plan.work, plan.images, model) for model in models}
        files.write_json(plan.work / "machine.json", machine())
        there = {
            _line_key(line) for file in (path, plan.known) if file for line in read_lines(file)
        }
        missing = [
            experiment
            for experiment in wanted
            if _key(runners[experiment.variant.model], experiment) not in there
        ]
        say(f"{len(wanted)} cells, {len(wanted) - len(missing)} are there")
        began = time.perf_counter()
        for number, experiment in enumerate(missing, 1):
            line = runners[experiment.variant.model].run(experiment)
            append_line(path, line)
            left = (time.perf_counter() - began) / number * (len(missing) - number) / 3600
            told = line.get("failed") or f"likeness {line['identity']:.3f}"
            say(
                f"{number}/{len(missing)} {experiment.variant.key} {experiment.name}: {told}; {left:.1f} h left"
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


def lower_priority() -> None:
    """Give way to everything else on this machine."""
    if os.name == "nt":
        psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
        return
    os.nice(19 - os.nice(0))
    group = Path("/proc/self/autogroup")  # Linux shares a core among sessions before processes
    if group.exists():
        try:
            group.write_text("19", encoding="ascii")
        except OSError as error:
            log.info("the session's priority stays: %s", error)
