"""A language for tests, each of whose texts stands between ⟦ and ⟧: what is shown outside of them is
written in the code, where no translation reaches it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from blockskip.memory.planning.wording import TEMPLATES
from blockskip.studio import strings
from blockskip.studio.strings import english, german

TAG = "eo"  # a tag that browsers know and the studio does not
UNMARKED = ("DECIMAL", "PET_KINDS", "APP")  # not sentences


def add() -> None:
    """Add it to the studio's languages."""
    texts = {name: _marked(text) for name, text in vars(english).items() if name.isupper()}
    texts |= {name: getattr(english, name) for name in UNMARKED}
    texts["TAG"] = TAG
    plans = {name: text for name, text in TEMPLATES.items() if isinstance(text, str)}
    texts["PLAN_TEMPLATES"] = _marked(plans | {"fits_card": ""} | english.PLAN_TEMPLATES)
    texts["PROGRAM_TEXTS"] = {text: _marked(text) for text in german.PROGRAM_TEXTS}
    strings.LANGUAGES[TAG] = SimpleNamespace(**texts)  # type: ignore[assignment]


def _marked(text: Any) -> Any:
    if isinstance(text, dict):
        return {key: _marked(value) for key, value in text.items()}
    if isinstance(text, tuple):
        return tuple(map(_marked, text))
    return f"⟦{text}⟧"
