"""The ways to keep several pictures as one (contact_sheets.py): saved as a file, or shared."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from blockskip.studio import strings

URL = "/blockskip/sheet"
Kind = Literal["pair", "steps", "own"]


def buttons(kind: Kind, run: str, step: int = 0, prompt: int = 0) -> str:
    """Return the two ways. kind: one prompt before and after | all steps | own pictures. step,
    prompt: of a pair; the prompt's place in the settings."""
    url = f"{URL}/{quote(run, safe='')}?kind={kind}&amp;step={step}&amp;prompt={prompt}"
    share = (
        f'<button type="button" class="press link" data-share="{strings.SHEET_SHARED}">'
        f"{strings.SHEET_SHARE}</button>"
    )
    save = f'<a class="press" href="{url}" download>{strings.SHEET_SAVE}</a>'
    return f'<p class="presses sheet">{save}{share}</p>'
