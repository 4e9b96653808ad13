"""`blockskip lab bench`: side by side on this machine; `lab gpu`: what only a graphics card shows."""

from __future__ import annotations

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
from blockskip.memory.planning.preset_settings import parse_span


def bench(
    work: Annotated[Path, typer.Option(help="Where random weights are kept (3 GB; full: 24).")],
    size: Annotated[
        Literal["tiny", "small", "full"], typer.Option(help="small: 0.75 B parameters.")
    ] = "small",
    contenders: Annotated[
        str, typer.Option(help="Names, comma between them; empty: all but the rungs.")
    ] = "",
    rungs: Annotated[
        str, typer.Option(help="Ours as planned for these budgets in GiB, such as 4,8 (full size).")
    ] = "",
    side: Annotated[int, typer.Option(help="Plain LoRA's side, pixels; ours is half of it.")] = 512,
    text: Annotated[int, typer.Option(help="Text tokens.")] = 128,
    skip: options.Skip = "19,10",
    draws: Annotated[int, typer.Option(help="Draws of a residual window.")] = 16,
    baseline_draws: Annotated[int, typer.Option(help="Draws a round of those without one.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Every contender once in each.")] = 3,
    rows: Annotated[int, typer.Option(help="Draws at a time while a window is computed.")] = 16,
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option()] = "auto",
    device: options.Device = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: torch's choice.")] = 0,
    cap: Annotated[float, typer.Option(help="Hard limit on the card, GiB; 0: none.")] = 0.0,
    timeline: Annotated[
        str, typer.Option(help="Begins the names of profiles of a window and steps.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="File for the table (Markdown).")] = None,
    as_json: Json = False,
) -> None:
    """Plain LoRA, QLoRA, block swap and ours side by side here: seconds, memory, bytes. What only a card
    shows is another command: `bench --gpu NAME` is `gpu NAME`."""
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
    said = {"command": bench_report.command(plan), "machine": bench_report.machine()}
    report = said | lab_bench.run_bench(plan, aside())
    page = bench_report.markdown(report)
    if out is not None:
        files.write_text(out, page)
    print_result(as_json, report, [page])


def gpu(
    name: Annotated[str, typer.Argument(help="A line of gpu.md, such as caps.", metavar="NAME")],
    work: Annotated[Path, typer.Option(help="Where random weights are kept.")],
    rungs: Annotated[str, typer.Option(help="Budgets in GiB; empty: the line's own.")] = "",
    models: Annotated[str, typer.Option(help="Which, comma between them.")] = "",
    device: options.Device = "auto",
    share: Annotated[
        float, typer.Option(help="Of predict: of a card's published rate, as measured.")
    ] = 0.0,
    rounds: Annotated[int, typer.Option(min=1, help="Of speed: every contender once in each.")] = 3,
    tiny: Annotated[bool, typer.Option("--tiny", help="A dry run, small models.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page; default: gpu.md in --work.")] = None,
    as_json: Json = False,
) -> None:
    """What only a card shows: a line of assets/evidence/gpu.md, on this card."""
    from blockskip.lab.gpu import report as page
    from blockskip.lab.gpu.commands import GpuJob, measure
    from blockskip.memory.placement import pick_device

    if not tiny and name != "predict" and pick_device(device).type == "cpu":
        raise BadInput(
            "There is no graphics card to measure.", "Add --tiny for a dry run on small models."
        )
    plan = GpuJob(
        work=work,
        budgets=tuple(options.parse_numbers("--rungs", rungs, float) if rungs else ()),
        models=tuple(words(models)),
        device=device,
        share=share,
        rounds=rounds,
        tiny=tiny,
    )
    said = {"--rungs": rungs, "--models": models, "--share": share, "--tiny": tiny}
    said |= {"--rounds": rounds} if name in ("speed", "overlap") else {}
    asked = [f"{key} {value}" if value is not True else key for key, value in said.items() if value]
    said_as = command(" ".join(["lab bench --work DIR --gpu", name, *asked]))
    kept = out or work / "gpu.md"
    report = measure(name, plan, aside(), lambda part: page.record(kept, name, part, said_as, tiny))
    page.record(kept, name, report, said_as, tiny)
    print_result(as_json, report, [f"Written to {kept}."])


class LabGroup(TyperGroup):
    """`lab`, in which `bench … --gpu NAME …` is `gpu NAME …`."""

    # typer hides the base of Context that its own method takes
    def resolve_command(self, ctx: Context, args: list[str]) -> tuple:  # type: ignore[override]
        if args[0] == "bench" and any(word.partition("=")[0] == "--gpu" for word in args):
            args = ["gpu", *(w.removeprefix("--gpu=") for w in args[1:] if w != "--gpu")]
        return super().resolve_command(ctx, args)
