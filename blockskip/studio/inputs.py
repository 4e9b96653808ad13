"""Schemas of what the page, its clicks and programs send. `validated` (core/validation.py) turns
what does not fit into one sentence that names the value.

Numbers of programs and fields are JSON numbers; those of clicks come as text.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from blockskip.core.settings import Gib, Line, PreviewSpeed, Rank, Seed, Text, ZeroOrMore
from blockskip.core.validation import Invalid, validated

MAX_PHOTOS = 100_000
MAX_TEXT = 2000  # characters of anything typed on the page


def _json_number(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Invalid("it should be a number")
    return value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise Invalid("it should be a number")
    return value


def _on_one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def _no_null(path: str) -> str:
    if "\0" in path:
        raise Invalid("it is no path")
    return path


JsonNumber = BeforeValidator(_json_number)
ClickNumber = BeforeValidator(_no_truth)
Words = Annotated[Line, BeforeValidator(_on_one_line)]
UploadPath = Annotated[Text, AfterValidator(_no_null)]
Steps = Annotated[ZeroOrMore, JsonNumber]  # 0: the studio's choice, or the last
Strength = Annotated[float, JsonNumber, Field(ge=0, le=2, allow_inf_nan=False)]
Photos = Annotated[int, JsonNumber, Field(ge=0, le=100_000)]
Typed = Annotated[Text, Field(max_length=2000)]
Edge = Annotated[float, Field(allow_inf_nan=False)]
ANSWERS: dict[str, Any] = {
    "kind": Words | None,
    "name": Words | None,
    "model": Line | None,
    "budget": Annotated[Gib | None, JsonNumber],
    "steps": Annotated[ZeroOrMore | None, JsonNumber],
    "seed": Annotated[Seed | None, JsonNumber],
    "rank": Annotated[Rank | None, JsonNumber],
    "speed": PreviewSpeed | None,
}


@dataclass
class Upload:
    """A file as Gradio hands it over."""

    path: UploadPath


@dataclass(kw_only=True)
class Click:
    """What a button inside a drawn part sends beside its `do`."""

    run: Typed = ""
    file: Typed = ""
    model: Typed = ""
    folder: Typed = ""
    id: Typed = ""
    value: Typed = ""
    caption: Typed | None = None
    files: tuple[Typed, ...] = ()
    box: tuple[Edge, Edge, Edge, Edge] | None = None
    frame_kept: bool = False
    budget: Annotated[Gib | None, ClickNumber] = None
    step: Annotated[ZeroOrMore | None, ClickNumber] = None


def checked_answers(answers: dict[str, Any]) -> dict[str, Any]:
    """Return answers by name. Raises BadInput that names the first invalid one."""
    return {key: validated(ANSWERS[key], value, key) for key, value in answers.items()}
