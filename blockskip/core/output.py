"""The output of a command: lines for people, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from blockskip.core.names import shown_name

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def print_result(as_json: bool, data: dict, lines: Iterable[str]) -> None:
    """Print a command's result as one JSON object or as lines for people."""
    typer.echo(
        json.dumps(data, ensure_ascii=False) if as_json else "\n".join(map(shown_name, lines))
    )
