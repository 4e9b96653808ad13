"""`blockskip lab bench`: side by side on this machine, or what only a graphics card shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from blockskip.cli import options
from blockskip.cli.lab_evidence import words
from blockskip.core import files, presets
from blockskip.core.errors import BadInput, command
from blockskip.core.output import Json, say
from blockskip.memory.planning import planner

if TYPE_CHECKING:
    from blockskip.lab.bench.contenders import Plan


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
    gpu: Annotated[
        str, typer.Option(help="Instead: what only a card shows, a line of gpu.md.", metavar="NAME")
    ] = "",
    models: Annotated[str, typer.Option(help="With --gpu: which, comma between them.")] = "",
    share: Annotated[
        float, typer.Option(help="With --gpu predict: of a card's published rate, as measured.")
    ] = 0.0,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="With --gpu: a dry run, small models.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Plain LoRA, QLoRA, block swap and ours side by side here: seconds, memory, bytes. With --gpu a
    line of assets/evidence/gpu.md, on this card; --rungs are its budgets then, --out its page."""
    if gpu:
        _on_card(gpu, work, rungs, models, device, share, rounds, tiny, out, as_json)
        return
    from blockskip.lab.bench.contenders import Plan  # imports torch

    plan = Plan(
        work=work,
        size=size,
        contenders=tuple(words(contenders)),
        rungs=tuple(options.numbers("--rungs", rungs, float) if rungs else ()),
        side_px=side,
        text_tokens=text,
        skip=planner.parse_span(presets.model_row("flux-dev"), skip),
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
    _side_by_side(plan, out, as_json)


def _side_by_side(plan: Plan, out: Path | None, as_json: bool) -> None:
    from blockskip.lab.bench import bench as lab_bench  # imports torch
    from blockskip.lab.bench import report as bench_report

    aside = Console(stderr=True).print
    said = {"command": bench_report.command(plan), "machine": bench_report.machine()}
    report = said | lab_bench.bench(plan, lambda line: aside(line, highlight=False))
    page = bench_report.markdown(report)
    if out is not None:
        files.write_text(out, page)
    say(as_json, report, [page])


def _on_card(
    name: str,
    work: Path,
    rungs: str,
    models: str,
    device: str,
    share: float,
    rounds: int,
    tiny: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    from blockskip.lab.gpu import report as page
    from blockskip.lab.gpu.commands import Visit, visit
    from blockskip.memory.placement import pick_device

    if not tiny and name != "predict" and pick_device(device).type == "cpu":
        raise BadInput(
            "There is no graphics card to measure.", "Add --tiny for a dry run on small models."
        )
    plan = Visit(
        work=work,
        budgets=tuple(options.numbers("--rungs", rungs, float) if rungs else ()),
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
    aside, kept = Console(stderr=True).print, out or work / "gpu.md"

    def keep(report: dict) -> None:
        page.record(kept, name, report, said_as, tiny)

    report = visit(name, plan, lambda line: aside(line, highlight=False), keep)
    keep(report)
    say(as_json, report, [f"Written to {kept}."])
