"""The queue: the trainings that wait for a graphics card, and buttons to change their order."""

from __future__ import annotations

from collections.abc import Sequence

from blockskip.studio import places, strings
from blockskip.studio.formatting import action_button, action_link, e


def place_note(run: str, ahead: int, behind: int, held: bool) -> str:
    """Return a waiting training's place as a message with buttons. ahead, behind: how many wait
    before and after it."""
    words = strings.WAITS_HELD if held else strings.WAITS.format(count=ahead)
    if ahead < 2 and not held:
        words = strings.WAITS_ONE if ahead else strings.WAITS_NEXT
    go = action_button("queue_go", strings.QUEUE_GO, "primary") if held else ""
    presses = go + _buttons(run, ahead, behind)
    return f'<div class="note info">{e(words)}<p class="presses">{presses}</p></div>'


def queue(waiting: Sequence[tuple[str, str, str]], held: bool) -> str:
    """Return the waiting trainings in order, "" without any. waiting: (run, pet, facts) of each."""
    if not waiting:
        return ""
    last = len(waiting) - 1
    rows = "".join(
        f'<li><div><h3>{e(pet)}</h3><p class="hint">{e(facts)}</p>'
        f'<p class="presses">{_open(run)}{_buttons(run, i, last - i)}</p></div></li>'
        for i, (run, pet, facts) in enumerate(waiting)
    )
    about = strings.QUEUE_HELD if held else strings.QUEUE_ABOUT
    press = (
        action_button("queue_go", strings.QUEUE_GO, "primary")
        if held
        else action_button("queue_hold", strings.QUEUE_HOLD)
    )
    return (
        f'<section class="card"><div class="title"><h2>{strings.QUEUE_TITLE}</h2></div>'
        f'<p class="hint{" warn" if held else ""}">{about}</p>'
        f'<ol class="trainings line">{rows}</ol><p class="presses">{press}</p></section>'
    )


def _open(run: str) -> str:
    return action_link(places.training(run), "open", strings.LIST_OPEN, run=run)


def _buttons(run: str, ahead: int, behind: int) -> str:
    moves = action_button("queue_move", strings.QUEUE_UP, run=run, value="-1") if ahead else ""
    moves += action_button("queue_move", strings.QUEUE_DOWN, run=run, value="1") if behind else ""
    return moves + action_button("queue_remove", strings.QUEUE_REMOVE, run=run)
