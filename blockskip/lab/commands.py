"""Commands of `blockskip lab` that need many words; thin, like cli.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console

from blockskip import config
from blockskip.memory import planner

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def simulate(
    model: Annotated[str, typer.Option(help="A big row of presets/models.toml.")] = "flux-dev",
    skip: Annotated[str, typer.Option(help="Blocks front,back.")] = "19,10",
    side: Annotated[int, typer.Option(help="Side of a training crop, pixels.")] = 256,
    text: Annotated[int, typer.Option(help="Text tokens.")] = 512,
    precision: Annotated[str, typer.Option(help="bf16 | int8 | nf4")] = "bf16",
    checkpointing: Annotated[bool, typer.Option("--checkpointing")] = False,
    targets: Annotated[str, typer.Option(help=" | ".join(config.TARGETS))] = "attention",
    middle: Annotated[str, typer.Option(help=" | ".join(config.MIDDLE))] = "stays",
    stage: Annotated[str, typer.Option(help="text, latents, … or all")] = "train",
    budget: Annotated[float, typer.Option(help="Simulate this budget's plan instead.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Peak memory and FLOPs of every stage at a model's full size, without the memory."""
    from blockskip.lab.simulate import report
    from blockskip.memory.show import peaks_table
    from blockskip.memory.tables import STAGES, WEIGHT_BYTES, Choice

    _one_of("--precision", precision, WEIGHT_BYTES)
    _one_of("--targets", targets, config.TARGETS)
    _one_of("--middle", middle, config.MIDDLE)
    _one_of("--stage", stage, [*STAGES, "all"])
    choice = planner.make_plan(model=model, budget_gib=budget).choice if budget else None
    if choice is None:
        front, back = planner.parse_span(config.model_row(model), skip)
        choice = Choice(
            model=model,
            front=front,
            back=back,
            side_px=side,
            text_tokens=text,
            precision=precision,
            checkpointing=checkpointing or middle == "streamed",
            targets=targets,
            middle=middle,
        )
    stages = STAGES if stage == "all" or budget else (stage,)
    found = report(choice, stages)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        Console().print(peaks_table(found))


def _one_of(option: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise typer.BadParameter(f"{option} is one of {', '.join(known)}")
