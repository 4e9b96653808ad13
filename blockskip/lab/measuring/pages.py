"""Pages of evidence: words written by hand, and below them what a command made of its measurements."""

from __future__ import annotations

from pathlib import Path

from blockskip.core import files

MARK = "<!-- from here on made by the command -->"


def write_below(path: Path, title: str, made: str) -> None:
    """Put `made` below what a hand wrote on the page, which begins with its title and is kept."""
    words = f"# {title}\n\n"
    if path.exists():
        words = path.read_text(encoding="utf-8").split(MARK)[0]
    files.write_text(path, f"{words}{MARK}\n\n{made}")
