"""Sentences of plans and refusals: each as data, in English, and as shown on the page."""

import json
from pathlib import Path

from blockskip.memory.planning.reason import Reason

FILE = Path(__file__).resolve().parent / "sentences.json"


def sentences() -> list[tuple[Reason, str, str]]:
    """Return (reason, English, the studio page's text) for nearly every kind of reason."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    return [(_reason(r["reason"]), r["english"], r.get("page", r["english"])) for r in rows]


def _reason(data):
    """Convert {kind: values} to a Reason and a list to a tuple; keep anything else."""
    if isinstance(data, list):
        return tuple(map(_reason, data))
    if not isinstance(data, dict):
        return data
    [(kind, values)] = data.items()
    return Reason(kind, {name: _reason(value) for name, value in values.items()})
