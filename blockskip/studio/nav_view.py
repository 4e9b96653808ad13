"""The header's navigation: links to the steps that one may go to, to all trainings and a new one."""

from __future__ import annotations

from collections.abc import Mapping

from blockskip.studio import places, strings
from blockskip.studio.formatting import action_link, e


def navigation(
    current: str, num_trainings: int, can_start_new: bool, steps: Mapping[str, str]
) -> str:
    """Return the navigation as HTML.

    current: the current step, a key of STEPS_NAV, or "list". can_start_new: show the link to a new
    training. steps: the address of each step that one may go to.
    """
    names = list(strings.STEPS_NAV)
    current_index = names.index(current) if current in names else -1
    items = []
    for index, (name, label) in enumerate(strings.STEPS_NAV.items()):
        state = "done" if index < current_index else "now" if index == current_index else "next"
        marker = ' aria-current="step"' if name == current else ""
        words = f"<span>{index + 1}</span>{label}"
        if name in steps:
            words = f'<a href="{e(steps[name])}"{marker}>{words}</a>'
            marker = ""
        items.append(f'<li class="{state}"{marker}>{words}</li>')
    links = ""
    if num_trainings and current != "list":
        links += action_link(places.LIST, "list", strings.LIST_COUNT.format(count=num_trainings))
    if can_start_new:
        links += action_link(places.SETUP, "new", strings.NEW)
    title = strings.LIST if current == "list" else strings.NEW
    return (
        f'<div class="nav" data-cancel="{strings.NO}" data-save="{strings.PICTURE_SAVE}" '
        f'data-waits="{strings.TRAIN_WAITS}" data-title="{title} · {strings.APP}">'
        f'<ol aria-label="{strings.NAV_LABEL}">{"".join(items)}</ol>'
        f'<p class="presses">{links}</p></div>'
    )
