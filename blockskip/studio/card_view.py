"""Who holds the card's memory, beside the budget's marks, and the presses that free it."""

from __future__ import annotations

import datetime

from blockskip.core import idle_worker
from blockskip.memory import card_programs
from blockskip.memory.planning.planner import Plan
from blockskip.studio import plans, strings
from blockskip.studio.formatting import action_button, clock, e
from blockskip.studio.plan_strings import gain_text, gb

_said: list[str] = []  # the answer to the last press


def programs(planned: Plan | plans.NoPlan) -> str:
    """Return the programs on the card, with a button if ComfyUI could free some of it."""
    on_card = card_programs.card_programs()
    parts = [f'<p class="hint">{e(_names(on_card.names))}</p>'] if on_card.names else []
    if on_card.comfyui:
        size = gb(on_card.freeable_gib)
        words = [strings.PLAN_COMFYUI.format(size=size)]
        if isinstance(planned, Plan) and planned.when_freed:
            words.append(gain_text(planned.when_freed))
        button = action_button("free_comfyui", strings.PLAN_COMFYUI_FREE.format(size=size))
        parts.append(f"<p>{e(' '.join(words))}</p>{button}")
    elif _said:
        parts.append(f'<p role="status">{e(_said[-1])}</p>')
    return f'<div class="plan-holders">{"".join(parts)}</div>' if parts else ""


def open_model() -> str:
    """Return until when a model is kept open for the next training, with a button that closes it; ""
    if none is."""
    idle = next(iter(idle_worker.waiting_now()), None)
    if idle is None:
        return ""
    until = datetime.datetime.fromtimestamp(idle.until).astimezone().isoformat()
    words = strings.MODEL_OPEN.format(until=clock(until))
    if idle.held_gib > 0:
        words += strings.MODEL_OPEN_HOLDS.format(size=gb(idle.held_gib))
    button = action_button("close_model", strings.MODEL_CLOSE)
    return f'<div class="plan-holders open-model"><p class="hint">{e(words)}</p>{button}</div>'


def free_comfyui() -> None:
    """Ask ComfyUI to free its models. Raises UserError if it does not."""
    _said.clear()
    freed = card_programs.free_comfyui()
    if freed > 0:
        _said.append(strings.PLAN_COMFYUI_FREED.format(size=gb(freed)))


def _names(names: dict[str, float]) -> str:
    if all(gib < 0 for gib in names.values()):
        return strings.PLAN_HELD_UNTOLD.format(programs=", ".join(names))
    words = (
        strings.PLAN_HELD_SIZE.format(name=name, size=gb(gib)) if gib >= 0 else name
        for name, gib in names.items()
    )
    return strings.PLAN_HELD_BY.format(programs=", ".join(words))
