"""Commands `blockskip lab bench` (methods side by side on this machine), `lab gpu` (measurements
that need a graphics card) and `lab peer` (diffusers' script beside ours)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Context
from typer.core import TyperGroup

from blockskip.cli import options
from blockskip.cli.lab_evidence import aside, words
from blockskip.core import files, presets
from blockskip.core.errors import BadInput, command
from blockskip.core.output import Json, print_result
from blockskip.core.output_files import check_output
from blockskip.memory.planning.preset_settings import parse_span


def bench(
    work: Annotated[
        Path,
        typer.Option(help="Folder of random weights (3 GB; full: 24).", callback=options.folder),
    ],
    size: Annotated[
        Literal["tiny", "small", "full"], typer.Option(help="small: 0.75 B parameters.")
    ] = "small",
    contenders: Annotated[
        str, typer.Option(help="Names, separated by commas; empty: all but the rungs.")
    ] = "",
    rungs: Annotated[
        str, typer.Option(help="Also ours as planned for budgets in GiB, such as 4,8 (full size).")
    ] = "",
    side: Annotated[
        int, typer.Option(min=16, max=8192, help="Plain LoRA's side, pixels; ours uses half.")
    ] = 512,
    text: Annotated[int, typer.Option(min=1, max=65_536, help="Text tokens.")] = 128,
    skip: options.Skip = "19,10",
    draws: Annotated[
        int, typer.Option(help="Draws of a residual window.", callback=options.one_or_more)
    ] = 16,
    baseline_draws: Annotated[
        int, typer.Option(help="Draws per round without a window.", callback=options.one_or_more)
    ] = 3,
    rounds: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Each contender runs once per round.")
    ] = 3,
    rows: Annotated[
        int,
        typer.Option(help="Micro-batch while a window is computed.", callback=options.one_or_more),
    ] = 16,
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option()] = "auto",
    device: options.Device = "auto",
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="CPU threads; 0: torch's choice.")
    ] = 0,
    cap: Annotated[
        float,
        typer.Option(help="Hard limit on the card, GiB; 0: none.", callback=options.non_negative),
    ] = 0.0,
    timeline: Annotated[
        str, typer.Option(help="Name prefix for profiles of a window and steps.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="File for the table (Markdown).")] = None,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Compare plain LoRA, QLoRA, block swap and ours on this machine: seconds, memory, bytes.
    `bench --gpu NAME` runs `gpu NAME` instead, the measurements that need a card, and
    `bench --peer PATH` runs `peer PATH`, diffusers' script beside ours."""
    if out is not None:
        check_output(out, made_here=begins_with("# Side by side"), overwrite=force)
    from blockskip.lab.bench import bench as lab_bench  # imports torch
    from blockskip.lab.bench import report as bench_report
    from blockskip.lab.bench.contenders import Plan  # imports torch

    plan = Plan(
        work=work,
        size=size,
        contenders=tuple(words(contenders)),
        rungs=tuple(options.parse_numbers("--rungs", rungs, float) if rungs else ()),
        side_px=side,
        text_tokens=text,
        skip=parse_span(presets.model_row("flux-dev"), skip),
        draws=draws,
        baseline_draws=baseline_draws,
        rounds=rounds,
        rows=rows,
        dtype=dtype,
        device=device,
        threads=threads,
        cap_gib=cap,
        timeline=timeline,
    )
    header = {"command": bench_report.command(plan), "machine": bench_report.machine()}
    report = header | lab_bench.run_bench(plan, aside())
    page = bench_report.markdown(report)
    if out is not None:
        files.write_text(out, page)
    print_result(as_json, report, [page])


def begins_with(head: str) -> Callable[[Path], bool]:
    """Return a function that tells whether a file begins with this text."""
    return lambda path: path.read_bytes()[: len(head)] == head.encode()


def _has_marker(path: Path) -> bool:
    from blockskip.lab.measuring.pages import MARKER

    return MARKER in path.read_text(encoding="utf-8")


def gpu(
    name: Annotated[str, typer.Argument(help="A line of gpu.md, such as caps.", metavar="NAME")],
    work: Annotated[
        Path,
        typer.Option(
            help="Folder of random weights; for demo that of `lab pretrain-demo`.",
            callback=options.folder,
        ),
    ],
    rungs: Annotated[
        str, typer.Option(help="Budgets in GiB, for speed caps (0: none); empty: the line's own.")
    ] = "",
    models: Annotated[
        str, typer.Option(help="Models, separated by commas; for demo: flux or sana.")
    ] = "",
    device: options.Device = "auto",
    share: Annotated[
        float,
        typer.Option(
            help="For predict: measured share of a card's published rate.",
            callback=options.fraction,
        ),
    ] = 0.0,
    measured: Annotated[
        bool,
        typer.Option(
            "--measured", help="For predict: also this computer, as `doctor --measure` found it."
        ),
    ] = False,
    rounds: Annotated[
        int,
        typer.Option(min=1, max=1_000_000, help="For speed: each contender runs once per round."),
    ] = 3,
    contenders: Annotated[
        str, typer.Option(help="For speed: names, separated by commas; empty: all.")
    ] = "",
    minutes: Annotated[
        float, typer.Option(help="For demo: on the card, this time.", callback=options.positive)
    ] = 10.0,
    total: Annotated[
        float,
        typer.Option(
            help="For demo: of the whole pretraining, in minutes of a core.",
            callback=options.positive,
        ),
    ] = 1500.0,
    times: Annotated[
        int, typer.Option(min=1, max=1024, help="For demo: pictures a step, times a core's.")
    ] = 8,
    tiny: Annotated[bool, typer.Option("--tiny", help="Dry run with small models.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page; default: gpu.md in --work.")] = None,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Measure a line of assets/evidence/gpu.md, which needs a graphics card. `demo` pretrains the demo
    model there for some minutes."""
    if out is not None:
        check_output(out, made_here=_has_marker, overwrite=force, endings=(".md",))
    from blockskip.lab.gpu import report as page
    from blockskip.lab.gpu.commands import GpuJob, measure
    from blockskip.memory.placement import pick_device

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if not tiny and name != "predict" and pick_device(device).type == "cpu":
        raise BadInput(
            "There is no graphics card to measure.", "Add --tiny for a dry run on small models."
        )
    plan = GpuJob(
        work=work,
        budgets=tuple(
            options.parse_numbers("--rungs", rungs, float, name == "speed") if rungs else ()
        ),
        models=tuple(words(models)),
        device=device,
        share=share,
        measured=measured,
        rounds=rounds,
        contenders=tuple(words(contenders)),
        minutes=minutes,
        total=total,
        times=times,
        tiny=tiny,
    )
    values = {"--rungs": rungs, "--models": models, "--contenders": contenders, "--share": share}
    values |= {"--measured": measured, "--tiny": tiny}
    values |= {"--rounds": rounds} if name in ("speed", "overlap") else {}
    if name == "demo":
        values |= {"--minutes": minutes, "--total": total, "--times": times}
    flags = [key if value is True else f"{key} {value}" for key, value in values.items() if value]
    typed = command(" ".join(["lab bench --work DIR --gpu", name, *flags]))
    path = out or work / "gpu.md"
    report = measure(name, plan, aside(), lambda part: page.record(path, name, part, typed, tiny))
    page.record(path, name, report, typed, tiny)
    print_result(as_json, report, [f"Written to {path}."])


def int8(
    heads: Annotated[int, typer.Option(min=1, max=1024, help="Attention heads: width / 128.")] = 24,
    double: Annotated[int, typer.Option(min=1, max=1000, help="Double-stream blocks.")] = 1,
    single: Annotated[int, typer.Option(min=1, max=1000, help="Single-stream blocks.")] = 1,
    times: Annotated[
        float, typer.Option(help="How much larger outliers are.", callback=options.positive)
    ] = 20.0,
    as_json: Json = False,
) -> None:
    """Measure how exact products in 8 bits are, on random blocks of FLUX.1 with outliers."""
    from blockskip.lab.full_size.int8_errors import Job, measure

    report = measure(Job(heads=heads, double=double, single=single, times=times), aside())
    print_result(as_json, report, [json.dumps(report, indent=1)])


def peer(
    script: Annotated[
        Path,
        typer.Argument(
            help="diffusers' train_dreambooth_lora_flux.py.",
            metavar="PATH",
            callback=options.existing_file,
        ),
    ],
    work: Annotated[Path, typer.Option(help="A new folder for runs.", callback=options.folder)],
    python: Annotated[
        str, typer.Option(help="Interpreter that has what the script imports; default: ours.")
    ] = "",
    pet: Annotated[int, typer.Option(min=0, max=1, help="Which demo pet.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1_000_000)] = 300,
    seed: options.Seed = 0,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Each runs once per round.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="File for the page (Markdown), and JSON.")
    ] = None,
    force: options.Force = False,
    as_json: Json = False,
) -> None:
    """Train the demo pet with diffusers' script and with ours, side by side. Fetches nothing."""
    if out is not None:
        check_output(out, made_here=begins_with("# A peer"), overwrite=force, endings=(".md",))
        check_output(out.with_suffix(".json"), made_here=begins_with("{"), overwrite=force)
    from blockskip.lab.bench import peer_report
    from blockskip.lab.bench.peer import PeerPlan, run_peer
    from blockskip.lab.bench.report import machine

    plan = PeerPlan(
        script=script,
        work=work,
        python=python or sys.executable,
        pet=pet,
        steps=steps,
        seed=seed,
        rounds=rounds,
        threads=threads,
    )
    typed = f"lab bench --work DIR --peer PATH --python FILE --steps {steps} --rounds {rounds}"
    typed += f" --threads {threads} --pet {pet} --seed {seed}"
    report = {"command": command(typed), "machine": machine()} | run_peer(plan, aside())
    page = peer_report.markdown(report)
    if out is not None:
        files.write_json(out.with_suffix(".json"), report)
        files.write_text(out, page)
    print_result(as_json, report, [page])


class LabGroup(TyperGroup):
    """The `lab` command group, which runs `bench … --gpu NAME …` as `gpu NAME …`, and likewise
    `bench … --peer PATH …`."""

    # typer does not export the base class of Context that its method takes
    def resolve_command(self, ctx: Context, args: list[str]) -> tuple:  # type: ignore[override]
        for other in ("gpu", "peer"):
            flag = f"--{other}"
            if args[0] == "bench" and any(word.partition("=")[0] == flag for word in args):
                args = [other, *(w.removeprefix(f"{flag}=") for w in args[1:] if w != flag)]
        return super().resolve_command(ctx, args)
