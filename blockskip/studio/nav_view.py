"""The header's way through: where one is, and the doors to other trainings and a new one."""

from __future__ import annotations

from blockskip.studio import strings
from blockskip.studio.formatting import action_button


def navigation(where: str, trainings: int, away: bool) -> str:
    """where: the step one is at, a key of STEPS_NAV (or "list"). trainings: how many there are.
    away: not setting up a new one, so that there is a door to that."""
    names = list(strings.STEPS_NAV)
    here = names.index(where) if where in names else -1
    items = []
    for place, (name, words) in enumerate(strings.STEPS_NAV.items()):
        state = "done" if place < here else "now" if place == here else "next"
        current = ' aria-current="step"' if name == where else ""
        items.append(f'<li class="{state}"{current}><span>{place + 1}</span>{words}</li>')
    doors = ""
    if trainings and where != "list":
        doors += action_button("list", strings.LIST_COUNT.format(count=trainings))
    if away:
        doors += action_button("new", strings.NEW)
    return (
        f'<div class="nav" data-cancel="{strings.NO}"><ol aria-label="{strings.NAV_LABEL}">{"".join(items)}</ol>'
        f'<p class="presses">{doors}</p></div>'
    )
