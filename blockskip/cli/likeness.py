"""The command that compares a run's steps by the likeness of their pictures to the pet."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from pydantic import Field
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from blockskip.cli import options
from blockskip.cli.errors import console
from blockskip.core.errors import Unexpected, from_kind
from blockskip.core.output import Json, print_result
from blockskip.models.sources.tools import find_tool
from blockskip.runs import likeness
from blockskip.runs.likeness_pictures import MAX_ROUNDS
from blockskip.runs.run import Run, find_run

_DOING = {"starting": "Opening", "pictures": "Making pictures", "comparing": "Comparing"}
_POLL_S = 0.1


def likeness_(
    run: options.RunName,
    more: Annotated[
        int,
        typer.Option(
            help="Pictures of every prompt and step to make first; they take the graphics card.",
            callback=options.checked(Annotated[int, Field(ge=0, le=MAX_ROUNDS)]),
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Compare a run's steps by their likeness to your pet, and advise which one to keep."""
    measured = find_run(run)
    if not likeness.can_measure(measured):
        find_tool(likeness.TOOL)  # raises: how to download it
    known = likeness.read(measured)
    if more or known is None or known["measure"] is None:
        _measure(measured, more)
        known = likeness.read(measured)
    if known is None:
        raise Unexpected(f"Run “{measured.name}” has no pictures.", "Train it first.")
    print_result(as_json, {"run": measured.name, **known}, _lines(known))


def _measure(run: Run, rounds: int) -> None:
    """Measure in a process of its own and show its progress; Ctrl-C ends it. Raises UserError."""
    likeness.start(run, rounds)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(_DOING["starting"], total=None)
            while likeness.is_running(run):
                if told := likeness.progress(run):
                    doing = _DOING[told.doing]
                    bar.update(task, description=doing, completed=told.n, total=told.total or None)
                time.sleep(_POLL_S)
    except KeyboardInterrupt:
        likeness.stop(run)
        raise
    if told := likeness.progress(run):
        raise from_kind(told.kind, told.title, told.remedy)


def _lines(known: dict[str, Any]) -> list[str]:
    rows = [f"{'step':>6} {'your pet':>9} {'class':>6} {'nearest photo':>14}  behind the best"]
    for step, facts in known["by_step"].items():
        less = facts.get("less")
        behind = f"{less[0]:.3f} ± {less[1]:.3f}" if less else ""
        values = (facts["subject"], facts["class_word"], facts.get("nearest"))
        pet, bare, nearest = ("–" if value is None else f"{value:.3f}" for value in values)
        rows.append(f"{step:>6} {pet:>9} {bare:>6} {nearest:>14}  {behind}".rstrip())
    return [*rows, known["advice"]]
