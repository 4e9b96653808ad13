"""The command that trains one run for each of several pets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Train on a Ray cluster: “auto”, HOST:PORT, or “local” for this computer alone.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a LoRA for each of several pets, one after the other, one on each card.

    Ctrl-C stops watching; the queue goes on by itself. On Ray it pauses what trains.
    """
    given = {"model": model, "class": class_name, "budget": budget}
    given |= {"steps": steps, "rank": rank, "seed": seed}
    listed = read_pets(pets, {key: value for key, value in given.items() if value is not None})
    if ray is not None:
        jobs = _on_ray(listed, ray, frames == "auto", as_json)
    else:
        jobs = _in_line(listed, frames == "auto", as_json)
    rows = list(map(_row, jobs))
    print_result(as_json, {"pets": rows}, list(_lines(rows)))
    raise typer.Exit(0 if all(row["state"] == "done" for row in rows) else 1)


def _in_line(pets: list[Pet], framed: bool, quiet: bool) -> list[Job]:
    """Train the pets by way of the queue, on this computer."""
    jobs = [_job(pet, framed) for pet in pets]
    runs = [job.run for job in jobs if job.run is not None]
    for run in runs:
        run_queue.add(run)
    run_queue.hold(False)
    try:
        with _shown(runs, quiet) as update:
            left = True
            while left:
                run_queue.advance()
                waiting = run_queue.read().names
                left = update() or any(run.name in waiting for run in runs)
                time.sleep(_POLL_S if left else 0)
    except KeyboardInterrupt:
        console.print(
            f"The queue goes on by itself. {command('queue')} shows it; {command('queue hold')} "
            "starts no further run."
        )
        raise
    return jobs


def _on_ray(pets: list[Pet], address: str, framed: bool, quiet: bool) -> list[Job]:
    """Train the pets on a Ray cluster."""
    from blockskip.cli.ray_batch import connected

    with connected(address) as cluster:
        jobs = [_job(pet, framed, cluster.workers) for pet in pets]
        runs = [job.run for job in jobs if job.run is not None]
        try:
            with _shown(runs, quiet) as update:
                cluster.train(runs, update)
        except KeyboardInterrupt:
            console.print(f"Those that trained are paused. {command('resume')} RUN continues one.")
            raise
    return jobs


def _job(pet: Pet, framed: bool, at_a_time: int = 1) -> Job:
    """Make a pet's run. A pet for which that fails does not stop others. at_a_time: how many runs
    share the RAM."""
    try:
        settings = _settings(pet, at_a_time)
        return Job(pet.name, make_run(settings, find_photos(pet.photos), "", framed, None))
    except UserError as error:
        console.print(Text(f"{pet.name}: {error}", style="red"))
        return Job(pet.name, problem=error)


def _settings(pet: Pet, at_a_time: int) -> Settings:
    """Return a pet's settings, as `train` chooses them. Raises UserError."""
    chosen: dict[str, Any] = {k: v for k, v in asdict(pet.options).items() if v is not None}
    names = {"kind": "class_name", "budget": "budget_gib"}
    chosen = {names.get(key, key): value for key, value in chosen.items()}
    model = chosen.get("model", Settings.model)
    chosen["precision"] = options.of_model(chosen.get("precision"), model)
    return planner.choose_settings(**storage.available_memory(processes=at_a_time), **chosen)


@contextmanager
def _shown(runs: list[Run], quiet: bool) -> Iterator[Callable[[], bool]]:
    """Context manager that shows the runs' progress. Yields a function that brings it up to date, and
    returns whether one of them trains."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    words = TextColumn("{task.fields[state]}")
    with Progress(*columns, words, console=console, disable=quiet) as bars:
        tasks = {run.name: bars.add_task(run.name, total=None, state="waits") for run in runs}

        def update() -> bool:
            trains = False
            for run in runs:
                state, problem = state_and_problem(run)
                trains = trains or state == "running"
                if problem is None:
                    now = run_state.read(run)
                    shown = now.stage if state == "running" else state
                    total = now.steps or None
                    bars.update(tasks[run.name], completed=now.step, total=total, state=shown)
            return trains

        yield update


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
