"""All trainings: open, rename, use again, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockskip.studio import pictures, strings
from blockskip.studio.formatting import action_button, clock, e, size


@dataclass(frozen=True)
class RunSummary:
    """One training of the list. picture: address of a small picture of it, "" = none."""

    run: str
    pet: str
    state: str
    step: int
    steps: int
    model: str
    started: str
    bytes: int
    picture: str


def trainings(listed: Sequence[RunSummary]) -> str:
    """A card a training, newest first."""
    if not listed:
        return f'<section class="card"><h2>{strings.LIST_TITLE}</h2><p class="hint">{strings.LIST_EMPTY}</p></section>'
    rows = "".join(map(_row, listed))
    return (
        f'<section class="card"><div class="title"><h2>{strings.LIST_TITLE}</h2></div>'
        f'<ul class="trainings">{rows}</ul></section>'
    )


def _row(one: RunSummary) -> str:
    facts = strings.LIST_FACTS.format(
        state=strings.STATES[one.state],
        step=one.step,
        steps=one.steps,
        model=one.model,
        size=size(one.bytes),
        started=clock(one.started),
    )
    image = f'<img src="{one.picture}" alt="">' if one.picture else '<span class="blank"></span>'
    buttons = action_button("open", strings.LIST_OPEN, "primary", run=one.run)
    buttons += action_button("again", strings.LIST_AGAIN, run=one.run)
    if one.state != "running":
        buttons += action_button(
            "rename", strings.LIST_RENAME, run=one.run, ask=strings.LIST_RENAME_ASK, value=one.pet
        )
        ask = strings.LIST_DELETE_ASK.format(name=one.pet, size=size(one.bytes))
        buttons += action_button("delete", strings.LIST_DELETE, "danger", run=one.run, confirm=ask)
    return (
        f'<li>{image}<div><h3>{e(one.pet)}</h3><p class="hint">{e(facts)}</p>'
        f'<p class="presses">{buttons}</p></div></li>'
    )


def newest_picture(run: str, previews: Sequence[str], photos: Sequence[str]) -> str:
    """The address of a picture that shows what a training is about; file names are relative."""
    if previews:
        return pictures.url("previews", run, previews[-1])
    return pictures.url("photos", run, photos[0]) if photos else ""
