"""Addresses of the page's places: what stands after “#” in the browser's address bar.

It is never sent to the server, so that an address kept as a bookmark holds no key (access.py). The
page reads and writes the same addresses in assets/places.js.
"""

from __future__ import annotations

from urllib.parse import quote

SETUP_VIEW, LIST_VIEW = "", "*"
NO_VIEW = "?"  # of a tab whose address names no place; of an answer that leads nowhere
SETUP = "#/setup"
BUDGET = "#/setup/budget"
LIST = "#/trainings"


def training(run: str, part: str = "") -> str:
    """Return the address of a training. part: "" | results."""
    name = quote(run, safe="!'()*", errors="replace")
    return f"#/training/{name}" + (f"/{part}" if part else "")
