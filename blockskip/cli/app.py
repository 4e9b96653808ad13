"""The main commands. They only parse options and call other modules.

Exit codes: 0 done, 1 failed with a plain reason, 2 wrong usage, 130 stopped by the user. With
--json, stdout has one JSON object and nothing else.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from blockskip.cli import options
from blockskip.cli.batch import batch
from blockskip.cli.describe import describe
from blockskip.cli.errors import console, exit_code_of
from blockskip.cli.lab import lab
from blockskip.cli.likeness import likeness_
from blockskip.cli.models import models, plan
from blockskip.cli.new_run import make_run, shared
from blockskip.cli.queue import queue
from blockskip.cli.results import export, preview
from blockskip.core import presets
from blockskip.core import update as program_files
from blockskip.core.errors import BadPhoto, command
from blockskip.core.output import Json, print_result
from blockskip.core.paths import ROOT
from blockskip.data.demo_photos import demo_pet
from blockskip.memory import monitor
from blockskip.memory.planning import planner
from blockskip.models import sources
from blockskip.runs import run_queue, storage
from blockskip.runs.folders import check_new
from blockskip.runs.problem import state_and_problem
from blockskip.runs.run import Run, find_run, list_runs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach a diffusion transformer your pet, on the card you already own.",
)
app.add_typer(lab, name="lab")
app.add_typer(queue, name="queue")


@app.command()
def train(
    photos: options.Photos = None,
    demo: Annotated[bool, typer.Option("--demo", help="The first demo pet.")] = False,
    model: options.Model = "demo",
    trigger: options.Trigger = "sks",
    class_name: options.ClassName = None,
    budget: options.Budget = 8.0,
    ram: options.Ram = None,
    skip: options.Skip = "",
    precision: options.Precision = None,
    arithmetic: options.Arithmetic = None,
    compiling: options.Compile = None,
    patches: options.Patches = None,
    steps: options.Steps = None,
    batch: options.Batch = None,
    rank: options.Rank = None,
    lr: options.LearningRate = None,
    targets: options.Targets = None,
    prior: options.Prior = None,
    seed: options.Seed = 0,
    caption: options.Caption = "",
    frames: options.Frames = "auto",
    preview_every: options.PreviewEvery = None,
    preview_images: options.PreviewImages = None,
    preview_speed: options.PreviewSpeed = None,
    pictures: options.Pictures = "auto",
    adapter: options.Adapter = "auto",
    hold_out: options.HoldOut = "auto",
    device: options.Device = "auto",
    processes: options.Processes = 1,
    out: Annotated[str, typer.Option(help="Name or folder of the new run.")] = "",
    as_json: Json = False,
) -> None:
    """Train a LoRA for ComfyUI on your photos."""
    check_new(out)
    paths, demo_class = _chosen_photos(photos, demo)
    if not demo and presets.model_row(model).demo:
        console.print(
            "[yellow]The demo model only knows drawn pets. For real photos choose another model, "
            "such as --model flux2-klein-4b.[/]"
        )
    class_name = class_name or demo_class or "cat"
    settings = planner.choose_settings(
        model=model,
        trigger=trigger,
        class_name=class_name,
        budget_gib=budget,
        **storage.available_memory(ram, processes=processes),
        skip=skip,
        precision=options.of_model(precision, model),
        arithmetic=arithmetic,
        compile=compiling,
        patches=patches,
        steps=steps,
        batch=batch,
        rank=rank,
        lr=lr,
        targets=targets,
        prior=prior,
        seed=seed,
        caption=_caption_with_trigger(caption, trigger, class_name),
        preview_every=preview_every,
        preview_images=preview_images,
        preview_speed=preview_speed,
        preview_model=sources.picture_model(presets.model_row(model), pictures),
        training_adapter="" if adapter == "none" else None,
        device=device,
    )
    number = None if hold_out == "auto" else int(hold_out)
    from blockskip.cli.progress import watch_run

    run = make_run(shared(settings, processes), paths, out, frames == "auto", number)
    raise typer.Exit(watch_run(run, start=True, as_json=as_json))


def _caption_with_trigger(caption: str, trigger: str, class_name: str) -> str:
    """Return the caption of --caption completed by the trigger, and say if that changed it."""
    from blockskip.data.captions import training_caption

    trained = caption and training_caption(caption, trigger, class_name)
    if trained != caption:
        console.print(Text(f"The caption trained is “{trained}”.", style="yellow"))
    return trained


def _chosen_photos(photos: list[Path] | None, demo: bool) -> tuple[list[Path], str]:
    """Return (photo files, class of the demo pet or ""). Raises BadParameter, UserError."""
    from blockskip.data.photos import find_photos

    if demo and photos:
        raise typer.BadParameter("give photos or --demo, not both")
    if demo:
        folder, demo_class = demo_pet()
        return find_photos([folder]), demo_class
    if not photos:
        raise BadPhoto(
            "No photos were given.",
            "Name photos or a folder of them, or use --demo for the demo pet.",
        )
    return find_photos(photos), ""


@app.command()
def resume(
    run: options.RunName,
    steps: options.TotalSteps = None,
    as_planned: Annotated[
        bool, typer.Option("--as-planned", help="Undo what was changed when memory ran out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Continue a run that was paused, stopped or interrupted; with --steps also a finished one."""
    from blockskip.cli.progress import watch_run

    resumed = find_run(run)
    if as_planned:
        resumed.forget_fallbacks()
    if steps is not None:
        resumed.set_total_steps(steps)
    raise typer.Exit(watch_run(resumed, start=True, as_json=as_json))


@app.command()
def pause(run: options.RunName) -> None:
    """Save a checkpoint and free the graphics card; `resume` continues the run. The queue is held."""
    run_queue.pause(find_run(run))


@app.command()
def stop(run: options.RunName) -> None:
    """Save a checkpoint and export the LoRA trained so far."""
    find_run(run).send_command("stop")


@app.command(name="runs")
def runs_(
    action: Annotated[str, typer.Argument(help="list | rename | delete")] = "list",
    run: Annotated[str, typer.Argument()] = "",
    new_name: Annotated[str, typer.Argument()] = "",
    as_json: Json = False,
) -> None:
    """List, rename or delete runs."""
    if action == "list":
        rows = list(map(_run_row, list_runs()))
        lines = [
            f"{r['state']:10} {r['bytes'] / 2**20:8.1f} MiB  {r['run']}  {r['problem']}".rstrip()
            for r in rows
        ]
        print_result(as_json, {"runs": rows}, lines or ["No run has been made yet."])
    elif action == "rename" and new_name:
        renamed = storage.rename(run, new_name)
        print_result(as_json, {"run": renamed.name}, [f"{run} is now {renamed.name}."])
    elif action == "delete" and run:
        freed = storage.delete(run)
        print_result(
            as_json, {"freed_bytes": freed}, [f"{run} deleted, {freed / 2**20:.1f} MiB freed."]
        )
    else:
        raise typer.BadParameter("use: runs list | runs rename RUN NEW | runs delete RUN")


def _run_row(run: Run) -> dict:
    state, problem = state_and_problem(run)
    facts = {"run": run.name, "state": state, "folder": str(run.folder)}
    return facts | {"bytes": run.size_bytes(), "problem": problem.title if problem else ""}


app.command()(batch)
app.command()(describe)
app.command()(preview)
app.command()(export)
app.command(name="likeness")(likeness_)
app.command()(models)
app.command()(plan)


@app.command()
def clean(as_json: Json = False) -> None:
    """Delete the caches of all idle runs, and models' quantised blocks; they are rebuilt
    identically when needed."""
    freed = storage.clean_all()
    print_result(as_json, {"freed_bytes": freed}, [f"{freed / 2**20:.1f} MiB freed."])


@app.command()
def update(
    release: Annotated[
        Path | None, typer.Argument(help="The ZIP file of a release.", show_default=False)
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go back to the files that the last update replaced.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Replace the program's files by those of a release. Models, photos and runs stay as they are."""
    if (release is None) != undo:
        raise typer.BadParameter("name the ZIP file of a release, or use --undo")
    before, now = (
        program_files.undo(ROOT) if release is None else program_files.update(release, ROOT)
    )
    answer = {"before": before, "now": now}
    print_result(as_json, answer, [f"BlockSkip Studio {now} is here (before: {before})."])


@app.command()
def doctor(
    report: Annotated[
        Path | None,
        typer.Option(help="Write a text file for support requests: no photos, no tokens."),
    ] = None,
    force: options.Force = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure its speed too, in about 20 s.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check that this machine can train, and list what is missing."""
    from blockskip.cli.doctor import run_doctor
    from blockskip.cli.speed import measured_lines

    raise typer.Exit(run_doctor(report, as_json, force, measured_lines if measure else list))


@app.command()
def studio(
    port: options.Port = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser")] = False,
    window: Annotated[
        bool, typer.Option("--window", help="In a window of its own (needs pywebview).")
    ] = False,
) -> None:
    """Open the studio in the browser."""
    from blockskip.studio.app import main as open_studio

    raise typer.Exit(open_studio(port=port, browser=not no_browser, window=window))


def main() -> int:
    """Run the command line and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    return exit_code_of(_run)


def _run() -> None:
    options.check_arguments(sys.argv[1:])
    monitor.pin_card()
    app(prog_name=command())
