"""The command that trains one run for each of several pets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from blockskip.cli import options
from blockskip.cli.errors import console
from blockskip.cli.new_run import make_run
from blockskip.cli.pet_list import Pet, read_pets
from blockskip.core.errors import UserError, command
from blockskip.core.output import Json, print_result
from blockskip.core.settings import Seed, Settings
from blockskip.data.photos import find_photos
from blockskip.memory.planning import planner
from blockskip.runs import run_queue, storage
from blockskip.runs.problem import state_and_problem
from blockskip.runs.run import Run
from blockskip.studio import run_state

_POLL_S = 0.5


@dataclass
class Job:
    """A pet and its run, or why none could be made."""

    pet: str
    run: Run | None = None
    problem: UserError | None = None


def batch(
    pets: Annotated[
        Path, typer.Argument(help="A folder with a folder of photos for each pet, or a TOML file.")
    ],
    model: Annotated[str | None, typer.Option(help="A row of presets/models.toml.")] = None,
    class_name: options.ClassName = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Graphics memory, GiB.", callback=options.positive),
    ] = None,
    steps: options.Steps = None,
    rank: options.Rank = None,
    seed: Annotated[
        int | None, typer.Option(help="Of every run.", callback=options.checked(Seed))
    ] = None,
    frames: options.Frames = "auto",
    as_json: Json = False,
) -> None:
    """Train a LoRA for each of several pets, one after the other, one on each card.

    Ctrl-C stops watching; the queue goes on by itself.
    """
    given = {"model": model, "class": class_name, "budget": budget}
    given |= {"steps": steps, "rank": rank, "seed": seed}
    listed = read_pets(pets, {key: value for key, value in given.items() if value is not None})
    jobs = [_job(pet, frames == "auto") for pet in listed]
    run_queue.hold(False)
    try:
        _watch([job.run for job in jobs if job.run is not None], as_json)
    except KeyboardInterrupt:
        console.print(
            f"The queue goes on by itself. {command('queue')} shows it; {command('queue hold')} "
            "starts no further run."
        )
        raise
    rows = list(map(_row, jobs))
    print_result(as_json, {"pets": rows}, list(_lines(rows)))
    raise typer.Exit(0 if all(row["state"] == "done" for row in rows) else 1)


def _job(pet: Pet, framed: bool) -> Job:
    """Make a pet's run and put it in the queue. A pet for which that fails does not stop others."""
    try:
        run = make_run(_settings(pet), find_photos(pet.photos), "", framed, None)
        run_queue.add(run)
        return Job(pet.name, run)
    except UserError as error:
        console.print(Text(f"{pet.name}: {error}", style="red"))
        return Job(pet.name, problem=error)


def _settings(pet: Pet) -> Settings:
    """Return a pet's settings, as `train` chooses them. Raises UserError."""
    chosen: dict[str, Any] = {k: v for k, v in asdict(pet.options).items() if v is not None}
    names = {"kind": "class_name", "budget": "budget_gib"}
    chosen = {names.get(key, key): value for key, value in chosen.items()}
    model = chosen.get("model", Settings.model)
    chosen["precision"] = options.of_model(chosen.get("precision"), model)
    return planner.choose_settings(**storage.available_memory(), **chosen)


def _watch(runs: list[Run], quiet: bool) -> None:
    """Show the progress of all runs until each has ended."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    words = TextColumn("{task.fields[state]}")
    with Progress(*columns, words, console=console, disable=quiet) as bars:
        tasks = {run.name: bars.add_task(run.name, total=None, state="waits") for run in runs}
        while True:
            run_queue.advance()
            queued, left = run_queue.read().names, False
            for run in runs:
                state, problem = state_and_problem(run)
                left = left or run.name in queued or state == "running"
                if problem is None:
                    now = run_state.read(run)
                    shown = now.stage if state == "running" else state
                    total = now.steps or None
                    bars.update(tasks[run.name], completed=now.step, total=total, state=shown)
            if not left:
                return
            time.sleep(_POLL_S)


def _row(job: Job) -> dict[str, Any]:
    if job.run is None:
        return {"pet": job.pet, "run": "", "state": "failed", "lora": "", **_told(job.problem)}
    state, problem = state_and_problem(job.run)
    exported = run_state.read(job.run).exported if state == "done" else None
    lora = str(job.run.folder / exported.path) if exported else ""
    return {"pet": job.pet, "run": job.run.name, "state": state, "lora": lora, **_told(problem)}


def _told(problem: UserError | None) -> dict[str, str]:
    return {"problem": f"{problem.title} {problem.remedy}".strip() if problem else ""}


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    width = max(len(row["pet"]) for row in rows)
    for row in rows:
        yield f"{row['pet']:{width}}  {row['state']:8}  {row['lora'] or row['problem']}".rstrip()
