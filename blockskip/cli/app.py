"""The main commands. They only parse options and call other modules.

Exit codes: 0 done, 1 failed with a plain reason, 2 wrong usage, 130 stopped by the user. With
--json, stdout has one JSON object and nothing else.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from blockskip.cli import options
from blockskip.cli.lab import lab
from blockskip.cli.models import models, plan
from blockskip.core import files, presets
from blockskip.core.errors import BadInput, BadPhoto, UserError, command
from blockskip.core.output import Json, print_result
from blockskip.core.settings import Settings
from blockskip.core.shortage import shortage
from blockskip.data.demo_photos import demo_pet
from blockskip.memory import monitor
from blockskip.memory.planning import planner
from blockskip.models import sources
from blockskip.runs import storage
from blockskip.runs.run import create_run, find_run, list_runs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach a diffusion transformer your pet, on the card you already own.",
)
app.add_typer(lab, name="lab")

console = Console(stderr=True)
CheckpointStep = Annotated[
    int | None, typer.Option(min=1, help="Use the LoRA of this step; default: the last.")
]
RunName = Annotated[str, typer.Argument(help="Name or folder of the run.", metavar="RUN")]


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
    patches: options.Patches = None,
    steps: options.Steps = None,
    batch: options.Batch = None,
    rank: options.Rank = None,
    lr: options.LearningRate = None,
    targets: options.Targets = None,
    prior: options.Prior = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    caption: Annotated[str, typer.Option(help="Caption of photos without a .txt.")] = "",
    preview_every: options.PreviewEvery = None,
    preview_images: options.PreviewImages = None,
    preview_speed: options.PreviewSpeed = None,
    device: options.Device = "auto",
    out: Annotated[str, typer.Option(help="Name or folder of the new run.")] = "",
    as_json: Json = False,
) -> None:
    """Train a LoRA for ComfyUI on your photos."""
    paths, demo_class = _chosen_photos(photos, demo)
    if not demo and presets.model_row(model).demo:
        console.print(
            "[yellow]The demo model only knows drawn pets. For real photos choose another model, "
            "such as --model flux2-klein-4b.[/]"
        )
    settings = planner.choose_settings(
        model=model,
        trigger=trigger,
        class_name=class_name or demo_class or "cat",
        budget_gib=budget,
        **storage.available_memory(ram),
        skip=skip,
        precision=options.of_model(precision, model),
        patches=patches,
        steps=steps,
        batch=batch,
        rank=rank,
        lr=lr,
        targets=targets,
        prior=prior,
        seed=seed,
        caption=caption,
        preview_every=preview_every,
        preview_images=preview_images,
        preview_speed=preview_speed,
        device=device,
    )
    raise typer.Exit(_train(settings, paths, out, as_json))


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


def _train(settings: Settings, paths: list[Path], out: str, as_json: bool) -> int:
    """Create a run, start it and show its progress. Returns the exit code.

    Raises UserError before creating a run if the model or the photos are unusable.
    """
    from blockskip.cli.progress import watch_run
    from blockskip.data.photos import read_photos

    sources.find_model(presets.model_row(settings.model))
    good, bad = read_photos(paths, settings.subject_caption)
    for rejected in bad:
        line = _escape_markup(f"{rejected.name} is left out: {rejected.reason}.")
        console.print(f"[yellow]{line}[/]")
    run = create_run(settings, [photo.path for photo in good], out)
    return watch_run(run, start=True, as_json=as_json)


@app.command()
def resume(
    run: RunName,
    steps: Annotated[int | None, typer.Option(min=1, help="New total number of steps.")] = None,
    as_json: Json = False,
) -> None:
    """Continue a run that was paused, stopped or interrupted; with --steps also a finished one."""
    from blockskip.cli.progress import watch_run

    resumed = find_run(run)
    if steps is not None:
        resumed.set_total_steps(steps)
    raise typer.Exit(watch_run(resumed, start=True, as_json=as_json))


@app.command()
def pause(run: RunName) -> None:
    """Save a checkpoint and free the graphics card; `resume` continues the run."""
    find_run(run).send_command("pause")


@app.command()
def stop(run: RunName) -> None:
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
        rows: list[dict] = [
            {"run": r.name, "state": r.state(), "folder": str(r.folder), "bytes": r.size_bytes()}
            for r in list_runs()
        ]
        print_result(
            as_json,
            {"runs": rows},
            [f"{r['state']:9} {r['bytes'] / 2**20:8.1f} MiB  {r['run']}" for r in rows]
            or ["No run has been made yet."],
        )
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


@app.command()
def preview(
    run: RunName,
    prompt: Annotated[str, typer.Option(help="What the picture should show.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    seed: Annotated[int, typer.Option()] = 0,
    steps: Annotated[int, typer.Option(help="Sampling steps; 0 = the model's.")] = 0,
    base: Annotated[bool, typer.Option("--base", help="Without the LoRA.")] = False,
    step: CheckpointStep = None,
    strength: Annotated[float, typer.Option(min=0.0, max=2.0, help="Factor of the LoRA.")] = 1.0,
) -> None:
    """Sample a picture with a run's LoRA."""
    from blockskip.runs import results

    (image,) = results.generate_images(
        find_run(run), [prompt], [seed], steps, with_lora=not base, step=step, strength=strength
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    image.save(out)


@app.command()
def export(
    run: RunName,
    format: Annotated[
        str, typer.Option(help="comfyui | diffusers; for some models also kohya | native")
    ] = "comfyui",
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    step: CheckpointStep = None,
    as_json: Json = False,
) -> None:
    """Write a run's LoRA to a file, then reopen and check it."""
    from blockskip.models.lora.names import lora_names_of
    from blockskip.runs import results

    source = find_run(run)
    formats = lora_names_of(presets.model_row(source.settings().model).family).FORMATS
    if format not in formats:
        raise typer.BadParameter(f"--format is one of {', '.join(formats)}")
    exported = results.export_run(source, format, out, step)
    print_result(
        as_json,
        {"exported": str(exported.path), "format": format, "keys": exported.keys},
        [f"{exported.path}: {exported.keys} tensors, reopened and checked."],
    )


app.command()(models)
app.command()(plan)


@app.command()
def clean(as_json: Json = False) -> None:
    """Delete the caches of all idle runs, and models' quantised blocks; they are rebuilt
    identically when needed."""
    freed = storage.clean_all()
    print_result(as_json, {"freed_bytes": freed}, [f"{freed / 2**20:.1f} MiB freed."])


@app.command()
def doctor(
    report: Annotated[
        Path | None,
        typer.Option(help="Write a text file for support requests: no photos, no tokens."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that this machine can train, and list what is missing."""
    from blockskip.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(report, as_json))


@app.command()
def studio(
    port: Annotated[int, typer.Option(help="0 = the usual port, or the next free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser")] = False,
    window: Annotated[
        bool, typer.Option("--window", help="In a window of its own (needs pywebview).")
    ] = False,
) -> None:
    """Open the studio in the browser."""
    from blockskip.studio.app import main as open_studio

    raise typer.Exit(open_studio(port=port, browser=not no_browser, window=window))


def main() -> int:
    """Run the command line and return the exit code. Errors become a plain sentence and a
    remedy."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        monitor.pin_card()
        app(prog_name=command())
    except UserError as error:
        return _print_error(error)
    except OSError as error:  # unexpected, such as a removed drive or an unreadable file
        return _print_error(files.read_error(error))
    except SystemExit as end:
        usage_error = end.__context__  # typer has already printed it
        if isinstance(usage_error, TyperException) and "--json" in sys.argv:
            context = getattr(usage_error, "ctx", None)
            path = context.command_path if context else command()
            remedy = f"See the options: {path} --help"
            _print_json_error(BadInput(usage_error.format_message(), remedy))
        return int(end.code or 0)
    except Exception as error:
        if (short := shortage(error)) is None:
            raise
        return _print_error(short)
    return 0


def _print_json_error(error: UserError) -> None:
    typer.echo(json.dumps(error.to_dict(), ensure_ascii=False))


def _print_error(error: UserError) -> int:
    if "--json" in sys.argv:
        _print_json_error(error)
    console.print(
        f"[bold red]{_escape_markup(error.title)}[/] {_escape_markup(error.remedy)}",
        highlight=False,
    )
    return 1


def _escape_markup(text: str) -> str:
    return text.replace("[", r"\[")
