"""The commands of the queue: what waits for a card, and in which order."""

from __future__ import annotations

from typing import Annotated

import typer

from blockskip.cli import options
from blockskip.core import idle_worker
from blockskip.core.errors import command
from blockskip.core.output import Json, print_result
from blockskip.runs import run_queue
from blockskip.runs.run import find_run

queue = typer.Typer(
    invoke_without_command=True, help="Show or change the queue: runs that wait for a card."
)
Runs = Annotated[list[str], typer.Argument(help="Names of runs.")]


@queue.callback()
def list_(context: typer.Context, as_json: Json = False) -> None:
    """Show or change the queue: runs that wait for a card."""
    if context.invoked_subcommand is None:
        _show(as_json)


@queue.command()
def add(runs: Runs, as_json: Json = False) -> None:
    """Put runs at the end of the queue."""
    for run in [find_run(name) for name in runs]:
        run_queue.add(run)
    _show(as_json)


@queue.command()
def remove(run: options.RunName, as_json: Json = False) -> None:
    """Take a run out of the queue; its folder stays."""
    run_queue.remove(run)
    _show(as_json)


@queue.command()
def move(
    run: options.RunName,
    place: Annotated[int, typer.Argument(min=1, help="1: the front.")],
    as_json: Json = False,
) -> None:
    """Move a run in the queue."""
    run_queue.move(run, place - 1 - run_queue.read().place(run))
    _show(as_json)


@queue.command()
def hold(as_json: Json = False) -> None:
    """Start no further run. One that trains goes on."""
    run_queue.hold(True)
    _show(as_json)


@queue.command()
def go(as_json: Json = False) -> None:
    """Start the next runs, one on each card, also after `hold`."""
    run_queue.hold(False)
    _show(as_json)


@queue.command()
def free(as_json: Json = False) -> None:
    """Close the model that is kept open for the next run, which frees its memory."""
    idle_worker.free()
    _show(as_json)


def _show(as_json: bool) -> None:
    """Let the queue go on, and print it."""
    run_queue.advance()
    now, waiting = run_queue.read(), run_queue.waiting()
    rows = [
        {"run": name, "state": "waiting" if name in waiting else "running"} for name in now.names
    ]
    lines = [f"{place:3}  {row['state']:8} {row['run']}" for place, row in enumerate(rows, 1)]
    if now.held:
        lines.append("The queue is held; nothing more begins until: queue go")
    lines = lines or ["Nothing waits."]
    kept = [
        {"card": idle.card, "gib": round(idle.held_gib, 2)} for idle in idle_worker.waiting_now()
    ]
    if kept:
        lines.append(f"A model is kept open for the next run. To close it: {command('queue free')}")
    print_result(as_json, {"held": now.held, "queue": rows, "open_models": kept}, lines)
