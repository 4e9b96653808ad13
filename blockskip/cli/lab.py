"""The commands of `blockskip lab`. Like cli/app.py, they only parse options."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from blockskip.cli import lab_bench, lab_evidence, options
from blockskip.cli.lab_evidence import aside
from blockskip.core import presets
from blockskip.core.errors import BadFile, BadInput
from blockskip.core.output import Json, print_result
from blockskip.core.output_files import check_output
from blockskip.core.paths import ASSETS
from blockskip.core.settings import ALL_BLOCKS, Arithmetic, Middle, Precision, Settings, Targets
from blockskip.core.stages import PLANNED, TRAIN
from blockskip.core.validation import validated
from blockskip.memory.planning import planner
from blockskip.memory.planning.preset_settings import parse_span
from blockskip.runs.run import find_run

MiddleOption = Annotated[Middle, typer.Option(help="Placement of the trained blocks.")]
# options decided by a budget's plan, so that they cannot be combined with --budget
_PLANNED = "skip side text precision arithmetic recomputed targets middle".split()

lab = typer.Typer(
    cls=lab_bench.LabGroup,
    no_args_is_help=True,
    help="Research commands: the demo model, measurements.",
)
for _command in (
    *(lab_evidence.ablate, lab_evidence.ablation_report, lab_evidence.select, lab_evidence.distil),
    *(lab_evidence.previews, lab_evidence.calibrate, lab_bench.bench, lab_bench.gpu),
    *(lab_bench.int8, lab_bench.peer),
):
    lab.command()(_command)


@lab.command("pretrain-demo")
def pretrain_demo(
    work: Annotated[
        Path, typer.Option(help="Folder of data and checkpoints.", callback=options.folder)
    ],
    family: Annotated[
        str, typer.Option(help="Which of the two demo models: flux or sana.")
    ] = "flux",
    out: Annotated[
        Path | None,
        typer.Option(help="The model's folder; default: assets.", callback=options.folder),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="For the transformer, per process.", callback=options.amount)
    ] = 80.0,
    vae_minutes: Annotated[
        float | None,
        typer.Option(
            help="For the VAE; default: 12, or none with --start-from.", callback=options.amount
        ),
    ] = None,
    judge_minutes: Annotated[
        float, typer.Option(help="For the judge, CPU time.", callback=options.amount)
    ] = 15.0,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Start from this model if --work is empty.", callback=options.existing_folder
        ),
    ] = None,
    seed: options.Seed = 7,
    pictures: Annotated[
        int, typer.Option(help="Number of training pictures to draw.", callback=options.one_or_more)
    ] = 16000,
    processes: Annotated[int, typer.Option(min=1, max=1024, help="One core each.")] = 2,
) -> None:
    """Train a demo model from scratch, and with the first one the judge of both; it can be stopped
    and resumed at any time."""
    from blockskip.lab.demo_world.judge_train import train_judge
    from blockskip.lab.demo_world.pretrain import FIRST, KINDS, pretrain

    if family not in KINDS:
        raise BadInput(f"There is no demo model of the family “{family}”.", "flux or sana.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    kind = KINDS[family]
    pretrain(
        work,
        out or ASSETS / kind.FOLDER,
        kind,
        minutes=minutes,
        vae_minutes=vae_minutes,
        seed=seed,
        count=pictures,
        ranks=processes,
        start_from=start_from,
    )
    if kind is FIRST:
        train_judge(work / "judge", minutes=judge_minutes)


@lab.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="Name or folder of the run.", metavar="RUN")],
    images: Annotated[
        int,
        typer.Option(min=0, max=1000, help="Pictures per prompt; 0: 8 on the demo model, else 4."),
    ] = 0,
    prompts: Annotated[
        int, typer.Option(min=1, max=25, help="Number of DreamBooth's 25 prompts to use.")
    ] = 25,
    dino: Annotated[str, typer.Option(help="DINO: a folder or a hub id; default: ViT-S/16.")] = "",
    clip: Annotated[str, typer.Option(help="CLIP: a folder or a hub id; default: ViT-B/32.")] = "",
    as_json: Json = False,
) -> None:
    """Evaluate a run. On the demo model: likeness, places obeyed and the bare class word, by its
    own judge. On others: DINO, CLIP-I and CLIP-T by DreamBooth's protocol; it can be stopped and
    resumed."""
    target = find_run(run)
    if presets.model_row(target.settings().model).demo:
        from blockskip.lab.evaluation.demo_judge import evaluate_run

        report = evaluate_run(target, images or 8)
        lines = [
            f"{name:16} likeness {row['identity']:6.3f}  {row['identity_95']}"
            + (f"  place obeyed {row['place_obeyed']:.2f}" if "place_obeyed" in row else "")
            for name, row in report.items()
            if isinstance(row, dict)
        ]
    else:
        from blockskip.lab.evaluation.dreambooth import evaluate_real
        from blockskip.lab.evaluation.embedders import CLIP, DINO

        log = aside(quiet=as_json)
        report = evaluate_real(target, images or 4, dino or DINO, clip or CLIP, prompts, log)
        lines = [
            f"{title:7} {report[key]:.4f}  {report[f'{key}_95']}"
            for key, title in {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}.items()
        ]
    print_result(as_json, report, [*lines, report["sheet"]])


@lab.command("evaluate-base")
def evaluate_base_(
    model: Annotated[
        Path, typer.Option(help="The model's folder.", callback=options.existing_folder)
    ] = ASSETS / "demo-model",
    num: Annotated[
        int, typer.Option(help="Number of captions.", callback=options.one_or_more)
    ] = 48,
    seed: options.Seed = 0,
    seen: Annotated[
        Path | None,
        typer.Option(help="captions.json of its training.", callback=options.existing_file),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="The picture to write (.webp or .png).")
    ] = None,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Evaluate the demo model itself on captions it was not trained on."""
    if sheet is not None:
        check_output(sheet, overwrite=force, endings=(".webp", ".png"))
    from blockskip.lab.evaluation.demo_judge import evaluate_base

    known = _captions(seen) if seen else []
    report = evaluate_base(model, num, seed, set(known), sheet)
    print_result(
        as_json,
        report,
        [f"{name:6} {report[name]}" for name in ("full", "half", "drawn")]
        + [f"VAE {report['vae_psnr_db']} dB", report["sheet"]],
    )


def _captions(path: Path) -> list[str]:
    try:
        return validated(list[str], json.loads(path.read_bytes()), str(path), error=BadFile)
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not a list of captions in JSON: {error}.") from error


def _multiple_of_16(side: int) -> int:
    if not 16 <= side <= 8192 or side % 16:
        raise typer.BadParameter(
            f"{side} is not possible: give a multiple of 16 up to 8192, such as 256."
        )
    return side


def _parse_pair(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4},[0-9]{1,4}", text):
        raise typer.BadParameter(f"{text} is not possible: give two numbers, such as 19,10.")
    return text


@lab.command()
def tabulate(
    model: Annotated[str, typer.Option(help="A full-size model of presets/models.toml.")],
    as_json: Json = False,
) -> None:
    """Compute a model's entry in presets/bytes.toml for planning, without loading the model."""
    import tomli_w

    from blockskip.lab.full_size.tabulate import tabulate as measure

    entry = measure(presets.model_row(model), aside(quiet=as_json))
    print_result(as_json, {model: entry}, [tomli_w.dumps({model: entry})])


@lab.command()
def simulate(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Option(help="A full-size model of presets/models.toml.")
    ] = "flux-dev",
    skip: options.Skip = "19,10",
    side: Annotated[
        int, typer.Option(help="Side of a training crop, pixels.", callback=_multiple_of_16)
    ] = 256,
    text: Annotated[int, typer.Option(min=1, max=65_536, help="Text tokens.")] = 512,
    precision: Annotated[Precision, typer.Option()] = "full",
    arithmetic: Annotated[Arithmetic, typer.Option()] = "weights",
    recomputed: Annotated[
        int,
        typer.Option(min=0, max=ALL_BLOCKS, help="Trained blocks with activation checkpointing."),
    ] = 0,
    targets: Annotated[Targets, typer.Option()] = "attention",
    middle: MiddleOption = "stays",
    stage: Annotated[
        Literal[*PLANNED, "all"] | None,  # type: ignore[valid-type]
        typer.Option(help="Default: train."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="GiB; simulate every stage of this budget's plan.", callback=options.positive
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute peak memory and FLOPs of every stage at a model's full size, without using as much
    memory."""
    if budget is not None:
        sources = {name: ctx.get_parameter_source(name) for name in _PLANNED}
        explicit = [name for name, src in sources.items() if src and src.name == "COMMANDLINE"]
        if explicit:
            raise typer.BadParameter(
                f"--{explicit[0]} is settled by --budget's plan: leave one out."
            )
        settings = planner.make_plan(model=model, budget_gib=budget).settings
    else:
        front, back = parse_span(presets.model_row(model), skip)
        settings = Settings.of(
            model=model,
            front=front,
            back=back,
            s_min_px=side,
            s_max_px=side,
            text_tokens=text,
            precision=precision,
            arithmetic=arithmetic,
            recomputed=ALL_BLOCKS if middle == "streamed" else recomputed,
            targets=targets,
            middle=middle,
        )
    from blockskip.lab.full_size.simulation_report import report  # imports torch
    from blockskip.memory.planning.plan_table import peaks_table

    stage = stage or (TRAIN if budget is None else "all")
    stages = PLANNED if stage == "all" else (stage,)
    peaks = report(settings, stages)
    if as_json:
        typer.echo(json.dumps(peaks, ensure_ascii=False))
    else:
        Console().print(peaks_table(peaks))


@lab.command()
def fullsize(
    work: Annotated[
        Path,
        typer.Option(help="Folder for the checkpoint (24 GB, twice).", callback=options.folder),
    ],
    part: Annotated[Literal["transformer", "text"], typer.Option()] = "transformer",
    blocks: Annotated[
        str, typer.Option(help="Double,single blocks.", callback=_parse_pair)
    ] = "19,38",
    heads: Annotated[int, typer.Option(min=1, max=1024, help="Attention heads: width / 128.")] = 24,
    skip: Annotated[
        str, typer.Option(help="Blocks skipped at the front,back.", callback=_parse_pair)
    ] = "19,10",
    draws: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Draws of a window (or captions).")
    ] = 16,
    precision: Annotated[Precision, typer.Option()] = "full",
    middle: MiddleOption = "stays",
    compare: Annotated[bool, typer.Option(help="Also run diffusers' group offloading.")] = True,
    as_json: Json = False,
) -> None:
    """Measure memory, bytes and seconds of full-size FLUX.1-dev with random weights here."""
    (double, single), (front, back) = (map(int, two.split(",")) for two in (blocks, skip))
    if part == "transformer" and front + back >= double + single:
        raise typer.BadParameter(f"--skip {skip} leaves none of --blocks {blocks} to train.")

    from blockskip.lab.full_size import fullsize as lab_fullsize
    from blockskip.lab.full_size.random_model import FLUX_DEV, T5_XXL

    if part == "text":
        report = lab_fullsize.fullsize_text(work, T5_XXL, draws, say=aside())
    else:
        size = {"num_layers": double, "num_single_layers": single, "num_attention_heads": heads}
        job = lab_fullsize.Job(
            work=work,
            shape=FLUX_DEV | size,
            skip=(front, back),
            draws=draws,
            batch=min(8, draws),
            precision=precision,
            middle=middle,
            compare=compare,
        )
        report = lab_fullsize.run_full_size(job, aside())
    print_result(as_json, report, [json.dumps(report, indent=1)])


@lab.command()
def release(
    out: Annotated[Path, typer.Option(help="Folder for the ZIP.", callback=options.folder)] = Path(
        "dist"
    ),
    as_json: Json = False,
) -> None:
    """Make the ZIP that people download, of the commit that is checked out."""
    from blockskip.lab import release as lab_release

    made = lab_release.make(out)
    answer = {**vars(made), "path": str(made.path)}
    words = (
        f"{made.path}: {made.num_files} files, {made.size / 2**20:.1f} MiB, SHA-256 {made.sha256}"
    )
    print_result(as_json, answer, [words])
