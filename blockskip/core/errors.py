"""Errors meant for people: what happened, to which file or setting, and what to do."""

from __future__ import annotations

import os


class UserError(Exception):
    """A problem the user can solve.

    title: one plain sentence naming the file or setting. remedy: what to do about it.
    """

    def __init__(self, title: str, remedy: str = "") -> None:
        super().__init__(f"{title} {remedy}".strip())
        self.title = title
        self.remedy = remedy


def command(words: str = "") -> str:
    """A command of this program as people can type it where the program lies: the launchers
    install no program called blockskip."""
    # cmd would take launch.bat alone, PowerShell would not
    start = r".\launch.bat" if os.name == "nt" else "./launch.sh"
    return f"{start} {words}".strip()
