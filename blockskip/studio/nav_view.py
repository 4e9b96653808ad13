"""The header's navigation: the current step, and links to other trainings and a new one."""

from __future__ import annotations

from blockskip.studio import strings
from blockskip.studio.formatting import action_button


def navigation(current: str, num_trainings: int, can_start_new: bool) -> str:
    """Return the navigation as HTML.

    current: the current step, a key of STEPS_NAV, or "list". can_start_new: show the link to a new
    training.
    """
    names = list(strings.STEPS_NAV)
    current_index = names.index(current) if current in names else -1
    items = []
    for index, (name, label) in enumerate(strings.STEPS_NAV.items()):
        state = "done" if index < current_index else "now" if index == current_index else "next"
        marker = ' aria-current="step"' if name == current else ""
        items.append(f'<li class="{state}"{marker}><span>{index + 1}</span>{label}</li>')
    links = ""
    if num_trainings and current != "list":
        links += action_button("list", strings.LIST_COUNT.format(count=num_trainings))
    if can_start_new:
        links += action_button("new", strings.NEW)
    return (
        f'<div class="nav" data-cancel="{strings.NO}" data-save="{strings.PICTURE_SAVE}"><ol aria-label="{strings.NAV_LABEL}">{"".join(items)}</ol>'
        f'<p class="presses">{links}</p></div>'
    )
