"""Pages of evidence: words written by hand, and below them what a command made of its measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from blockskip.core import files

MARKER = "<!-- from here on made by the command -->"


def write_below_marker(path: Path, title: str, made: str) -> None:
    """Put `made` below what a hand wrote on the page, which begins with its title and is kept."""
    words = f"# {title}\n\n"
    if path.exists():
        words = path.read_text(encoding="utf-8").split(MARKER)[0]
    files.write_text(path, f"{words}{MARKER}\n\n{made}")


def markdown_table(head: str, body: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table; numbers as they are said to people, None as a dash. head: names, a | between."""
    names = head.split("|")
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(map(_cell, line)) + " |" for line in body]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if value is None or value == -1:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
