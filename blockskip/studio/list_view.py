"""The list of all trainings, with buttons to open, rename, reuse and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockskip.runs.problem import UNREADABLE
from blockskip.studio import pictures, places, strings
from blockskip.studio.formatting import action_button, action_link, clock, e, size


@dataclass(frozen=True)
class RunSummary:
    """One training of the list. picture: URL of a small picture, "" = none. problem: why it cannot
    be read or failed, "" = neither."""

    run: str
    pet: str
    state: str
    step: int
    steps: int
    model: str
    started: str
    bytes: int
    picture: str
    problem: str = ""


def unreadable(run: str, problem: str, bytes: int) -> RunSummary:
    """Return the summary of a training that cannot be read: its folder's name and the reason."""
    return RunSummary(run, run, UNREADABLE, 0, 0, "", "", bytes, "", problem)


def trainings(listed: Sequence[RunSummary]) -> str:
    """Return one card per training, newest first."""
    if not listed:
        return f'<section class="card"><h2>{strings.LIST_TITLE}</h2><p class="hint">{strings.LIST_EMPTY}</p></section>'
    rows = "".join(map(_row, listed))
    return (
        f'<section class="card"><div class="title"><h2>{strings.LIST_TITLE}</h2></div>'
        f'<ul class="trainings">{rows}</ul></section>'
    )


def _row(summary: RunSummary) -> str:
    words = strings.LIST_FACTS if summary.state != UNREADABLE else strings.LIST_UNREADABLE
    facts = words.format(
        state=strings.STATES[summary.state],
        step=summary.step,
        steps=summary.steps,
        model=summary.model,
        size=size(summary.bytes),
        started=clock(summary.started),
    )
    image = (
        f'<img src="{summary.picture}" alt="">'
        if summary.picture
        else '<span class="blank"></span>'
    )
    address = places.training(summary.run)
    buttons = action_link(address, "open", strings.LIST_OPEN, "primary", run=summary.run)
    if summary.state != UNREADABLE:
        buttons += action_button("again", strings.LIST_AGAIN, run=summary.run)
    if summary.state not in ("running", UNREADABLE):
        buttons += action_button(
            "rename",
            strings.LIST_RENAME,
            run=summary.run,
            ask=strings.LIST_RENAME_ASK,
            value=summary.pet,
        )
    if summary.state != "running":
        buttons += delete_button(summary.run, summary.pet, summary.bytes)
    problem = f'<p class="hint warn">{e(summary.problem)}</p>' if summary.problem else ""
    return (
        f'<li>{image}<div><h3>{e(summary.pet)}</h3><p class="hint">{e(facts)}</p>{problem}'
        f'<p class="presses">{buttons}</p></div></li>'
    )


def delete_button(run: str, pet: str, num_bytes: int, words: str = "") -> str:
    """Return a button that deletes a training once that is confirmed."""
    ask = strings.LIST_DELETE_ASK.format(name=pet, size=size(num_bytes))
    return action_button("delete", words or strings.LIST_DELETE, "danger", run=run, confirm=ask)


def newest_picture(run: str, previews: Sequence[str], photos: Sequence[str]) -> str:
    """Return the URL of the newest preview, else of the first photo, else ""."""
    if previews:
        return pictures.url("previews", run, previews[-1])
    return pictures.url("photos", run, photos[0]) if photos else ""
