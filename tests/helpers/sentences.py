"""What plans and refusals told before reasons were data: each as data, in English, on the page."""

import json
from pathlib import Path

from blockskip.memory.planning.reason import Reason

FILE = Path(__file__).resolve().parent / "sentences.json"


def sentences() -> list[tuple[Reason, str, str]]:
    """(reason, English, what the studio's page shows) each; together they hold nearly every
    kind."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    return [(_reason(r["reason"]), r["english"], r.get("page", r["english"])) for r in rows]


def _reason(data):
    """{kind: values} as a Reason, a list as a tuple; anything else stays."""
    if isinstance(data, list):
        return tuple(map(_reason, data))
    if not isinstance(data, dict):
        return data
    [(kind, values)] = data.items()
    return Reason(kind, {name: _reason(value) for name, value in values.items()})
