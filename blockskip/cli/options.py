"""Options shared by several commands, with their validation.

Invalid options are rejected before any work starts (exit code 2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import Field, TypeAdapter, ValidationError

from blockskip.core import presets, settings
from blockskip.core.errors import BadInput
from blockskip.core.names import is_text, shown_name
from blockskip.core.output_files import check_folder
from blockskip.core.validation import first_problem
from blockskip.models.sources.availability import PictureModel

N = TypeVar("N", int, float)
_PATHS = "--work --report --sheet --seen --known --photos --adapters --costs --start-from".split()
_SKIP = re.compile(r"\d+\s*,\s*\d+|\d*\.?\d+")


def checked(schema: Any) -> Callable[[Any], Any]:
    """Return a callback that accepts None and values of a schema of core/settings.py.

    It raises BadParameter.
    """
    adapter = TypeAdapter(schema)

    def check(value: Any) -> Any:
        try:
            return None if value is None else adapter.validate_python(value)
        except ValidationError as problem:
            raise typer.BadParameter(f"{first_problem(problem)}.") from problem

    return check


def positive(value: float | None) -> float | None:
    """Accept GiB above 0 and None. Raises BadParameter."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not possible: give a number above 0.")
    return checked(settings.Gib)(value)


def non_negative(value: float | None) -> float | None:
    """Accept GiB from 0 and None. Raises BadParameter."""
    return value if value == 0 else positive(value)


def fraction(value: float | None) -> float | None:
    """Accept numbers from 0 to below 1 and None. Raises BadParameter."""
    if value is not None and not 0 <= value < 1:
        raise typer.BadParameter(f"{value:g} is not possible: give 0 or more, less than 1.")
    return value


def folder(path: Path | None) -> Path | None:
    """Accept a folder that can be made or written to, and None. Raises UserError."""
    if path is not None:
        check_folder(path)
    return path


def existing_folder(path: Path | None) -> Path | None:
    """Accept an existing folder and None. Raises BadParameter."""
    if path is not None and not exists(path, Path.is_dir):
        raise typer.BadParameter(f"“{path}” is not a folder.")
    return path


def existing_file(path: Path | None) -> Path | None:
    """Accept an existing file and None. Raises BadParameter."""
    if path is not None and not exists(path, Path.is_file):
        raise typer.BadParameter(f"“{path}” is not a file.")
    return path


def existing(path: Path | None) -> Path | None:
    """Accept an existing file or folder and None. Raises BadParameter."""
    if path is not None and not exists(path, Path.exists):
        raise typer.BadParameter(f"“{path}” does not exist.")
    return path


def exists(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Return what `kind` tells about a path, False if it cannot be asked."""
    try:
        return kind(path)
    except OSError:  # the name is too long, or a parent folder is not accessible
        return False


def check_arguments(words: Sequence[str]) -> None:
    """Raise BadInput for arguments that are not text, and for empty names and paths."""
    for before, word in zip(("", *words), words, strict=False):
        if not word and (not before.startswith("--") or before in _PATHS):
            raise BadInput("An empty name is not possible.", "Leave it out, or write one.")
        if "\0" in word or not is_text(word):
            raise BadInput(
                f"“{shown_name(word)}” is not possible: it is not UTF-8 text.",
                "Rename the file, or name the folder that it is in.",
            )


def parse_numbers(option: str, text: str, kind: type[N], zero: bool = False) -> list[N]:
    """Parse comma-separated numbers above 0, or with `zero` from 0. Raises BadParameter, also for
    an empty list."""
    try:
        numbers = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(
        0 < number < math.inf or (zero and number == 0) for number in numbers
    ):
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


def parse_hold_out(text: str) -> str:
    """Accept auto and a number of photos. Raises BadParameter."""
    if text != "auto" and not re.fullmatch(r"\d{1,3}", text):
        raise typer.BadParameter(f"{text} is not understood: give auto, 0, or how many photos.")
    return text


def parse_word(text: str | None) -> str | None:
    """Accept a word of captions, or None. Raises BadParameter."""
    return checked(settings.Word)(text)


def parse_words(text: str) -> str:
    """Accept words on one line, also none. Raises BadParameter."""
    return checked(settings.Line)(text)


amount = checked(Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)])
one_or_more = checked(settings.OneOrMore)
zero_or_more = checked(settings.ZeroOrMore)
RunName = Annotated[str, typer.Argument(help="Name or folder of the run.", metavar="RUN")]
Photos = Annotated[
    list[Path] | None, typer.Argument(help="Photos of your pet, or folders of them.")
]
Trigger = Annotated[
    str, typer.Option(help="The word that stands for your pet.", callback=parse_word)
]
ClassName = Annotated[
    str | None, typer.Option("--class", help="The kind of animal: cat, dog …", callback=parse_word)
]
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
Arithmetic = Annotated[
    settings.Arithmetic | None,
    typer.Option(
        help="Of int8 weights: unpacked (weights), or multiplied in 8 bits (int8). Default: the quicker."
    ),
]
Compile = Annotated[
    settings.Compile | None,
    typer.Option(
        "--compile", help="Compile blocks where that gains time (NVIDIA card, triton), or never."
    ),
]
Patches = Annotated[settings.Patches | None, typer.Option(help="Schedule of crop sizes.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps.", callback=one_or_more)]
Processes = Annotated[
    int,
    typer.Option(
        help="Processes that share each step, one on each card. Gains time with a large --batch only.",
        callback=one_or_more,
    ),
]
Batch = Annotated[
    int | None, typer.Option(help="Draws per batch. Default: what fits.", callback=one_or_more)
]
Rank = Annotated[int | None, typer.Option(help="LoRA rank.", callback=checked(settings.Rank))]
Targets = Annotated[settings.Targets | None, typer.Option(help="Layers that get a LoRA.")]
LearningRate = Annotated[
    float | None, typer.Option(help="Learning rate.", callback=checked(settings.LearningRate))
]
Prior = Annotated[
    float | None,
    typer.Option(help="Share of prior-preservation draws.", callback=fraction),
]
PreviewEvery = Annotated[
    int | None,
    typer.Option(
        help="Steps between previews; 0: first and last only.",
        callback=checked(settings.ZeroOrMore),
    ),
]
PreviewImages = Annotated[
    int | None, typer.Option(help="Pictures per prompt.", callback=checked(settings.Images))
]
PreviewSpeed = Annotated[
    settings.PreviewSpeed | None,
    typer.Option(help="Of sample pictures; exact: compute every block in every step."),
]
Pictures = Annotated[
    PictureModel,
    typer.Option(
        help="Made on the trained model, or on its distilled sibling; auto: if it is here."
    ),
]
Adapter = Annotated[
    Literal["auto", "none"],
    typer.Option(help="The model's training adapter, if it has one; none: train without."),
]
HoldOut = Annotated[
    str,
    typer.Option(
        help="Photos that training does not see, to measure likeness with: auto (a fifth of 6 or "
        "more, if the likeness judge is here), 0, or how many.",
        callback=parse_hold_out,
    ),
]
Device = Annotated[settings.Device, typer.Option(help="auto: the best device available.")]
TotalSteps = Annotated[
    int | None, typer.Option(help="New total number of steps.", callback=one_or_more)
]
Seed = Annotated[
    int, typer.Option(help="Seed of all random numbers.", callback=checked(settings.Seed))
]
Frames = Annotated[
    Literal["auto", "none"],
    typer.Option(help="Frames around the pet where a photo has none: found if the finder is here."),
]
Caption = Annotated[
    str, typer.Option(help="Caption of photos without a .txt.", callback=parse_words)
]
SamplingSteps = Annotated[
    int,
    typer.Option(
        help="Sampling steps; 0 = the model's.",
        callback=checked(Annotated[int, Field(ge=0, le=1000)]),
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        help="Factor of the LoRA.",
        callback=checked(Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]),
    ),
]
Port = Annotated[
    int,
    typer.Option(
        help="0 = the usual port, or the next free one.",
        callback=checked(Annotated[int, Field(ge=0, le=65_535)]),
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]
