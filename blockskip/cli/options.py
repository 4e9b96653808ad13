"""Options shared by several commands, with their validation.

Invalid options are rejected before any work starts (exit code 2).
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
    """Accept finite numbers above 0 and None. Raises BadParameter."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not possible: give a number above 0.")
    return value


def non_negative(value: float | None) -> float | None:
    """Accept finite numbers from 0 and None. Raises BadParameter."""
    return value if value == 0 else positive(value)


def fraction(value: float | None) -> float | None:
    """Accept numbers from 0 to below 1 and None. Raises BadParameter."""
    if value is not None and not 0 <= value < 1:
        raise typer.BadParameter(f"{value:g} is not possible: give 0 or more, less than 1.")
    return value


def parse_numbers(option: str, text: str, kind: type[N]) -> list[N]:
    """Parse comma-separated numbers above 0. Raises BadParameter, also for an empty list."""
    try:
        numbers = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise typer.BadParameter(
            f"{option} {text}: give numbers above 0, with commas between them."
        )
    return numbers


def parse_skip(text: str) -> str:
    """Accept "", a ratio, or two numbers of blocks. Raises BadParameter."""
    if text and not _SKIP.fullmatch(text.strip()):
        raise typer.BadParameter(
            f"{text} is not understood: give a ratio (0.5), or the number of blocks at the front "
            "and the back (19,10)."
        )
    return text.strip()


def of_model(precision: str | None, model: str) -> str | None:
    """Convert --precision to its value in the settings.

    Raises BadParameter for bf16 if the model has another type, UserError for an unknown model.
    """
    row = presets.model_row(model)
    if precision == "bf16" and row.dtype != "bfloat16":
        raise typer.BadParameter(
            f"--precision bf16: {row.title} is {row.dtype}. Use full, int8 or nf4."
        )
    return "full" if precision == "bf16" else precision


Photos = Annotated[
    list[Path] | None, typer.Argument(help="Photos of your pet, or folders of them.")
]
Trigger = Annotated[str, typer.Option(help="The word that stands for your pet.")]
ClassName = Annotated[str | None, typer.Option("--class", help="The kind of animal: cat, dog …")]
Model = Annotated[str, typer.Option(help="A row of presets/models.toml.")]
Budget = Annotated[float, typer.Option(help="Graphics memory it may use, GiB.", callback=positive)]
Ram = Annotated[float | None, typer.Option(help="RAM, GiB; default: this PC's.", callback=positive)]
Disk = Annotated[
    float | None,
    typer.Option(
        help="Free disk space, GiB; 0: unlimited; default: this PC's.", callback=non_negative
    ),
]
Skip = Annotated[
    str, typer.Option(help="Ratio (0.5) or blocks front,back (19,10).", callback=parse_skip)
]
Precision = Annotated[
    Literal["bf16", "int8", "nf4", "full"] | None,
    typer.Option(help="Of frozen blocks; full: unchanged (FLUX: bf16). Default: what fits."),
]
Patches = Annotated[settings.Patches | None, typer.Option(help="Schedule of crop sizes.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Draws per batch. Default: what fits.")]
Rank = Annotated[int | None, typer.Option(min=1, help="LoRA rank.")]
Targets = Annotated[settings.Targets | None, typer.Option(help="Layers that get a LoRA.")]
LearningRate = Annotated[float | None, typer.Option(help="Learning rate.", callback=positive)]
Prior = Annotated[
    float | None,
    typer.Option(help="Share of prior-preservation draws.", callback=fraction),
]
PreviewEvery = Annotated[
    int | None, typer.Option(min=0, help="Steps between previews; 0: first and last only.")
]
PreviewImages = Annotated[int | None, typer.Option(min=1, help="Pictures per prompt.")]
PreviewSpeed = Annotated[
    settings.PreviewSpeed | None,
    typer.Option(help="Of sample pictures; exact: compute every block in every step."),
]
Device = Annotated[settings.Device, typer.Option(help="auto: the best device available.")]
