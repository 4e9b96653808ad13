"""The commands of `blockskip lab` for the evidence: ablations, block selection, previews."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blockskip.cli import options
from blockskip.cli.progress import watch_run
from blockskip.core import files, presets, processes
from blockskip.core.output import Json, print_result
from blockskip.core.output_files import check_output
from blockskip.core.paths import ASSETS
from blockskip.core.safetensors_files import read_metadata
from blockskip.runs.run import find_run

Model = Annotated[str, typer.Option(help="A row of presets/models.toml.")]
Budget = Annotated[float, typer.Option(help="GiB of graphics memory.", callback=options.positive)]
Minutes = Annotated[
    float, typer.Option(help="Time limit in minutes; 0: none.", callback=options.amount)
]


def words(text: str) -> list[str]:
    """Split a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def aside(quiet: bool = False) -> Callable[[str], None]:
    """Return a function that prints progress to stderr, since stdout is for the result."""
    return partial(
        Console(stderr=True, quiet=quiet).print, highlight=False, markup=False, emoji=False
    )


def existing_paths(paths: list[Path]) -> list[Path]:
    """Accept existing files and folders. Raises BadParameter."""
    for path in paths:
        options.existing(path)
    return paths


def ablate(
    work: Annotated[
        Path,
        typer.Option(help="Folder of cells.jsonl, which is continued.", callback=options.folder),
    ],
    table: Annotated[
        str, typer.Option(help="Tables, in sequence; tables joined by + are interleaved.")
    ] = "A+B,C,D,F,E",
    rows: Annotated[str, typer.Option(help="Only these rows, separated by commas.")] = "",
    subjects: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Pets; 0: the table's number.")
    ] = 0,
    seeds: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Seeds per pet; 0: the table's number.")
    ] = 0,
    steps: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Steps per training; 0: 300.")
    ] = 0,
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Pictures per prompt.")] = 8,
    known: Annotated[
        Path | None,
        typer.Option(callback=options.existing_file, help="An ablation.json with cells to reuse."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and judge rows × pets × seeds on the demo model at low priority; it can be stopped and
    resumed at any time."""
    from blockskip.lab.ablation import ablate as lab_ablate

    processes.lower_priority()
    plan = lab_ablate.Plan(
        work=work,
        groups=tuple(words(table)),
        keys=tuple(words(rows)),
        subjects=subjects,
        seeds=seeds,
        steps=steps,
        images=images,
        known=known,
    )
    count = len(list(lab_ablate.ablate(plan, aside())))
    print_result(as_json, {"made": count, "cells": str(work / "cells.jsonl")}, [f"{count} cells"])


def select(
    work: Annotated[
        Path,
        typer.Option(help="Folder of measurements, which are continued.", callback=options.folder),
    ],
    model: Model = "demo",
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one folder per pet (cat-mia, dog-2); the demo has its own.",
            callback=options.existing_folder,
        ),
    ] = None,
    subjects: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Number of pets to train on.")
    ] = 4,
    images: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Pictures of each of three prompts.")
    ] = 4,
    steps: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Steps per training; 0: the preset's.")
    ] = 0,
    budget: Budget = 24.0,
    minutes: Minutes = 0.0,
    dino: Annotated[
        str, typer.Option(help="DINO for real models: a folder or a hub id; default: ViT-S/16.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Find the blocks that can be skipped, by removing the LoRA or the text span by span."""
    from blockskip.lab.evaluation.embedders import DINO
    from blockskip.lab.selection import probe as selection
    from blockskip.lab.selection import report as selection_report

    processes.lower_priority()
    plan = selection.Plan(
        work=work,
        train=lambda run: watch_run(run, start=run.worker() is None),
        model=model,
        photos=photos,
        subjects=subjects,
        images=images,
        steps=steps,
        budget_gib=budget,
        minutes=minutes,
        dino=dino or DINO,
    )
    if not selection.probe(plan, aside()):
        aside()("Time is up: run it again to continue. Results so far:")
    summary = selection_report.summary(plan)
    files.write_json(work / "selection.json", summary)
    plots = [work / f"selection-{probe}.svg" for probe in selection.PROBES]
    for probe, path in zip(selection.PROBES, plots, strict=True):
        files.write_text(path, selection_report.profile(summary, probe))
    lines = [f"{probe}: {summary['probes'][probe]['spans']}" for probe in selection.PROBES]
    lines += [selection_report.preset_row(summary), f"Plots: {plots[0]}, {plots[1]}"]
    print_result(as_json, summary, lines)


def ablation_report(
    work: Annotated[
        list[Path],
        typer.Option(
            callback=existing_paths,
            help="Folder of `lab ablate`, or an ablation.json; may be repeated.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the page, the figures and the plots.", callback=options.folder
        ),
    ] = (ASSETS / "evidence"),
    costs: Annotated[
        Path | None,
        typer.Option(
            help="Cells of a short run, for seconds and memory.", callback=options.existing
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write tables, plots and findings from the existing cells."""
    from blockskip.lab.ablation import report as page

    written = page.write(work, out, costs)
    print_result(as_json, {"written": [str(path) for path in written]}, map(str, written))


def _is_adapter(path: Path) -> bool:
    return "ddit" in read_metadata(path)


def distil(
    work: Annotated[
        Path,
        typer.Option(
            help="Folder of pictures and weights, which are continued.", callback=options.folder
        ),
    ],
    model: Model = "demo",
    out: Annotated[
        Path | None, typer.Option(help="The adapter; default: the file that runs use.")
    ] = None,
    prompts: Annotated[
        int, typer.Option(min=8, max=100_000, help="Number of training pictures.")
    ] = 256,
    steps: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Training steps for each of two sizes.")
    ] = 2000,
    batch: Annotated[int, typer.Option(min=1, max=1_000_000, help="Draws per step.")] = 8,
    budget: Budget = 24.0,
    minutes: Minutes = 0.0,
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Train a model to sample with larger patches where detail is not needed (DDiT); it can be
    stopped and resumed at any time."""
    if out is not None:
        check_output(out, made_here=_is_adapter, overwrite=force, endings=(".safetensors",))
    from blockskip.core.paths import adapter_file
    from blockskip.lab.previews import distil as lab_distil

    plan = lab_distil.Plan(
        work=work,
        model=model,
        out=out or adapter_file(model),
        prompts=prompts,
        steps=steps,
        batch=batch,
        seed=seed,
        budget_gib=budget,
        minutes=minutes,
    )
    done = lab_distil.distil(plan, aside())
    if not done:
        aside()("Time is up: run it again to continue.")
    print_result(as_json, {"done": done, "adapter": str(plan.out)}, [str(plan.out)] if done else [])


def previews(
    work: Annotated[
        Path, typer.Option(help="Folder of pictures, which are continued.", callback=options.folder)
    ],
    model: Model = "demo",
    run: Annotated[
        str, typer.Option(help="A run on the demo model: draw its pet with its LoRA.")
    ] = "",
    adapters: Annotated[
        Path | None,
        typer.Option(
            callback=options.existing_file,
            help="For larger patches; default: the file that runs use.",
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(min=8, max=100_000, help="Pictures per method.")] = 64,
    steps: Annotated[str, typer.Option(help="Sampling steps, separated by commas.")] = "50,12",
    out: Annotated[
        Path, typer.Option(help="Folder for the page, plots and sheets.", callback=options.folder)
    ] = (ASSETS / "evidence"),
    budget: Budget = 8.0,
    as_json: Json = False,
) -> None:
    """Compare every fast sampling method with exact sampling, on the same prompts and noise; it can
    be stopped and resumed at any time."""
    from blockskip.lab.previews import report as tradeoff_report
    from blockskip.lab.previews import tradeoff

    plan = tradeoff.Plan(
        work=work,
        model=model,
        run=find_run(run) if run else None,
        adapters=adapters,
        prompts=prompts,
        steps=tuple(options.parse_numbers("--steps", steps, int)),
        budget_gib=budget,
    )
    sampler = tradeoff.open_sampler(plan)
    tradeoff.measure(plan, sampler, aside())
    written = tradeoff_report.write(plan, sampler, out)
    print_result(as_json, {"written": [str(path) for path in written]}, map(str, written))


def calibrate(
    work: Annotated[
        Path, typer.Option(help="Folder of pictures, which are continued.", callback=options.folder)
    ],
    model: Model = "demo",
    prompts: Annotated[int, typer.Option(min=8, max=100_000, help="Pictures per schedule.")] = 32,
    budget: Budget = 8.0,
    as_json: Json = False,
) -> None:
    """Find the fastest previews that are no worse than with a step cache: the steps to compute
    (stored in presets/keysteps.toml), and a schedule of larger patches (stored beside the adapters
    of `lab distil`)."""
    from blockskip.lab.previews import calibrate as lab_calibrate
    from blockskip.lab.previews import tradeoff

    steps = presets.model_row(model).preview_steps
    plan = tradeoff.Plan(work=work, model=model, prompts=prompts, steps=(steps,), budget_gib=budget)
    report = lab_calibrate.calibrate(plan, aside())
    lines = [
        f"{speed}: " + (f"{len(keys)} of {steps} steps: {keys}" if keys else "the step cache")
        for speed, keys in report["keys"].items()
    ]
    lines.append(f"Larger patches: {report['schedule'] or 'not used'}")
    print_result(as_json, report, lines)
