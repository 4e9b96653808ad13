"""The commands of `blockskip lab` that make the evidence: which blocks can be skipped, and the tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blockskip.cli import options
from blockskip.cli.progress import watch_run
from blockskip.core import files, presets
from blockskip.core.output import Json, print_result
from blockskip.core.paths import ASSETS
from blockskip.runs.run import find_run

Model = Annotated[str, typer.Option(help="A row of presets/models.toml.")]
Budget = Annotated[float, typer.Option(help="GiB of graphics memory.", callback=options.positive)]
Minutes = Annotated[float, typer.Option(help="Stop after so many; 0: work through.")]


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def aside(quiet: bool = False) -> Callable[[str], None]:
    """What says how far a command is: on stderr, so that stdout is the answer's own."""
    return partial(Console(stderr=True, quiet=quiet).print, highlight=False)


def ablate(
    work: Annotated[Path, typer.Option(help="Where cells.jsonl is kept and gone on with.")],
    table: Annotated[
        str, typer.Option(help="Tables one after another; with + between them: together.")
    ] = "A+B,C,D,F,E",
    rows: Annotated[str, typer.Option(help="Only these rows, comma between them.")] = "",
    subjects: Annotated[int, typer.Option(min=0, help="Pets; 0: as the table says.")] = 0,
    seeds: Annotated[int, typer.Option(min=0, help="Seeds a pet; 0: as the table says.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Of every training; 0: 300.")] = 0,
    images: Annotated[int, typer.Option(min=1, help="Pictures a prompt.")] = 8,
    known: Annotated[
        Path | None,
        typer.Option(exists=True, help="An ablation.json, whose cells are not made again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and judge rows × pets × seeds on the demo model, at low priority; stopped at any time,
    it goes on again."""
    from blockskip.lab.ablation import ablate as lab_ablate

    lab_ablate.lower_priority()
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
    made = list(lab_ablate.ablate(plan, aside()))
    print_result(
        as_json, {"made": len(made), "cells": str(work / "cells.jsonl")}, [f"{len(made)} cells"]
    )


def select(
    work: Annotated[Path, typer.Option(help="Where measurements are kept and gone on with.")],
    model: Model = "demo",
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder with a folder a pet (cat-mia, dog-2); the demo has its own."),
    ] = None,
    subjects: Annotated[int, typer.Option(min=1, help="Pets it is tuned on.")] = 4,
    images: Annotated[int, typer.Option(min=1, help="Pictures of each of three prompts.")] = 4,
    steps: Annotated[int, typer.Option(min=0, help="Of every tuning; 0: the preset's.")] = 0,
    budget: Budget = 24.0,
    minutes: Minutes = 0.0,
    dino: Annotated[
        str, typer.Option(help="DINO for real models: a folder or a hub id; default: ViT-S/16.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Find the blocks that can be skipped: span by span, take the LoRA or the text from them."""
    from blockskip.lab.ablation import ablate as lab_ablate
    from blockskip.lab.evaluation.embedders import DINO
    from blockskip.lab.selection import probe as selection
    from blockskip.lab.selection import report as selection_report

    lab_ablate.lower_priority()
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
    whole = selection.probe(plan, aside())
    if not whole:
        aside()("Time is up: run it again to go on. What is known so far:")
    said = selection_report.summary(plan)
    files.write_json(work / "selection.json", said)
    plots = [work / f"selection-{probe}.svg" for probe in selection.PROBES]
    for probe, path in zip(selection.PROBES, plots, strict=True):
        files.write_text(path, selection_report.profile(said, probe))
    told = [f"{probe}: {said['probes'][probe]['spans']}" for probe in selection.PROBES]
    print_result(
        as_json, said, [*told, selection_report.preset_row(said), f"Plots: {plots[0]}, {plots[1]}"]
    )


def ablation_report(
    work: Annotated[
        list[Path],
        typer.Option(
            exists=True, help="Where `lab ablate` keeps cells, or an ablation.json; more than once."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the figures and the plots.")] = (
        ASSETS / "evidence"
    ),
    costs: Annotated[
        Path | None, typer.Option(help="Cells of one short run: seconds and memory from these.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tables, plots and findings from the cells that are there."""
    from blockskip.lab.ablation import report as page

    written = page.write(work, out, costs)
    print_result(as_json, {"written": [str(path) for path in written]}, map(str, written))


def distil(
    work: Annotated[
        Path, typer.Option(help="Where pictures and weights are kept and gone on with.")
    ],
    model: Model = "demo",
    out: Annotated[Path | None, typer.Option(help="The adapter; default: where runs look.")] = None,
    prompts: Annotated[int, typer.Option(min=8, help="Pictures to learn from.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Of learning, for each of two sizes.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Draws a step.")] = 8,
    budget: Budget = 24.0,
    minutes: Minutes = 0.0,
    seed: Annotated[int, typer.Option()] = 0,
    as_json: Json = False,
) -> None:
    """Teach a model to sample with larger patches where detail is not needed (DDiT); stopped at any
    time, it goes on again."""
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
        aside()("Time is up: run it again to go on.")
    print_result(as_json, {"done": done, "adapter": str(plan.out)}, [str(plan.out)] if done else [])


def previews(
    work: Annotated[Path, typer.Option(help="Where pictures are kept and gone on with.")],
    model: Model = "demo",
    run: Annotated[
        str, typer.Option(help="A run on the demo model, whose pet is drawn with its LoRA.")
    ] = "",
    adapters: Annotated[
        Path | None, typer.Option(exists=True, help="Of larger patches; default: where runs look.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=8, help="Pictures of every way.")] = 64,
    steps: Annotated[str, typer.Option(help="Of sampling, comma between them.")] = "50,12",
    out: Annotated[Path, typer.Option(help="Folder for the page, plots and sheets.")] = (
        ASSETS / "evidence"
    ),
    budget: Budget = 8.0,
    as_json: Json = False,
) -> None:
    """Measure every quick way of sampling against the exact one, on the same prompts and noise; stopped
    at any time, it goes on again."""
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
    work: Annotated[Path, typer.Option(help="Where pictures are kept and gone on with.")],
    model: Model = "demo",
    prompts: Annotated[int, typer.Option(min=8, help="Pictures of every schedule.")] = 32,
    budget: Budget = 8.0,
    as_json: Json = False,
) -> None:
    """Find what makes previews quickest and no worse than a step cache: which steps are computed (kept in
    presets/keysteps.toml), and a schedule of larger patches (beside the adapters of `lab distil`)."""
    from blockskip.lab.previews import calibrate as lab_calibrate
    from blockskip.lab.previews import tradeoff

    steps = presets.model_row(model).preview_steps
    plan = tradeoff.Plan(work=work, model=model, prompts=prompts, steps=(steps,), budget_gib=budget)
    found = lab_calibrate.calibrate(plan, aside())
    told = [
        f"{speed}: " + (f"{len(keys)} of {steps} steps: {keys}" if keys else "the step cache")
        for speed, keys in found["keys"].items()
    ]
    told.append(f"Larger patches: {found['schedule'] or 'not used'}")
    print_result(as_json, found, told)
