"""Evidence pages: a hand-written part, and below it the part that a command generates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from blockskip.core import files

MARKER = "<!-- from here on made by the command -->"


def write_below_marker(path: Path, title: str, generated: str) -> None:
    """Replace the generated part of a page, keeping the hand-written part above the marker. A new
    page gets the title."""
    written = f"# {title}\n\n"
    if path.exists():
        written = path.read_text(encoding="utf-8").split(MARKER)[0]
    files.write_text(path, f"{written}{MARKER}\n\n{generated}")


def markdown_table(head: str, body: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, with floats rounded to 3 digits and None as a dash. head: column
    names separated by |."""
    names = head.split("|")
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(map(_cell, line)) + " |" for line in body]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if value is None or value == -1:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
