"""Options that several commands take, each written once, and what may be said.

What cannot be meant is wrong usage (exit code 2), and said before anything is looked at.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from blockskip.core import presets, settings

N = TypeVar("N", int, float)
_SKIP = re.compile(r"\d+\s*,\s*\d+|\d*\.?\d+")


def positive(value: float | None) -> float | None:
    """Lets finite numbers above 0 and None pass. Raises BadParameter."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not possible: give a number above 0.")
    return value


def non_negative(value: float | None) -> float | None:
    """Lets finite numbers from 0 on and None pass. Raises BadParameter."""
    return value if value == 0 else positive(value)


def fraction(value: float | None) -> float | None:
    """Lets numbers from 0 to below 1 and None pass. Raises BadParameter."""
    if value is not None and not 0 <= value < 1:
        raise typer.BadParameter(f"{value:g} is not possible: give 0 or more, less than 1.")
    return value


def parse_numbers(option: str, text: str, kind: type[N]) -> list[N]:
    """Those that stand between commas, all above 0. Raises BadParameter, also when there is none."""
    try:
        found = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or not all(0 < number < math.inf for number in found):
        raise typer.BadParameter(
            f"{option} {text}: give numbers above 0, with commas between them."
        )
    return found


def parse_skip(text: str) -> str:
    """Lets "", a ratio and two numbers of blocks pass. Raises BadParameter."""
    if text and not _SKIP.fullmatch(text.strip()):
        raise typer.BadParameter(
            f"{text} is not understood: give a ratio (0.5), or how many blocks at the front and the "
            "back (19,10)."
        )
    return text.strip()


def of_model(precision: str | None, model: str) -> str | None:
    """--precision as settings have it. Raises BadParameter for bf16 where the model's own is another,
    UserError for an unknown model."""
    row = presets.model_row(model)
    if precision == "bf16" and row.dtype != "bfloat16":
        raise typer.BadParameter(
            f"--precision bf16: {row.title} is {row.dtype}. Use full, int8 or nf4."
        )
    return "full" if precision == "bf16" else precision


Photos = Annotated[
    list[Path] | None, typer.Argument(help="Photos of your pet, or folders of them.")
]
Trigger = Annotated[str, typer.Option(help="The word that will mean your pet.")]
ClassName = Annotated[str | None, typer.Option("--class", help="What it is: cat, dog …")]
Model = Annotated[str, typer.Option(help="A row of presets/models.toml.")]
Budget = Annotated[float, typer.Option(help="Graphics memory it may use, GiB.", callback=positive)]
Ram = Annotated[
    float | None, typer.Option(help="RAM, GiB; left out: this PC's.", callback=positive)
]
Disk = Annotated[
    float | None,
    typer.Option(
        help="Free on the disk, GiB; 0: enough; left out: this PC's.", callback=non_negative
    ),
]
Skip = Annotated[
    str, typer.Option(help="Ratio (0.5) or blocks front,back (19,10).", callback=parse_skip)
]
Precision = Annotated[
    Literal["bf16", "int8", "nf4", "full"] | None,
    typer.Option(help="Of the model's blocks; full: as it is (FLUX: bf16). Left out: what fits."),
]
Patches = Annotated[settings.Patches | None, typer.Option(help="How large crops are, in order.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Draws together. Left out: what fits.")]
Rank = Annotated[int | None, typer.Option(min=1, help="LoRA rank.")]
Targets = Annotated[settings.Targets | None, typer.Option(help="Which layers the LoRA is for.")]
LearningRate = Annotated[float | None, typer.Option(help="Learning rate.", callback=positive)]
Prior = Annotated[
    float | None,
    typer.Option(help="Share of draws that keep the bare class word free.", callback=fraction),
]
PreviewEvery = Annotated[int | None, typer.Option(min=0, help="Steps; 0 = first and last.")]
PreviewImages = Annotated[int | None, typer.Option(min=1, help="Pictures a prompt.")]
PreviewSpeed = Annotated[
    settings.PreviewSpeed | None,
    typer.Option(help="Of sample pictures; exact: every block works in every step."),
]
Device = Annotated[settings.Device, typer.Option(help="auto: the best there is.")]
