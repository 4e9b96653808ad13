"""Trainings that ended while this studio looked on, for notifications in the browser.

Each tab tells what it has not seen yet (`news` in assets/notices.js), if its user allowed that.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from blockskip.core.errors import UserError
from blockskip.runs.problem import reading
from blockskip.runs.run import Run
from blockskip.studio import run_preferences, run_state, strings
from blockskip.studio.formatting import json_attribute

MOST = 8  # that are remembered
_lock = threading.Lock()
_running: dict[str, Run] = {}
_ended: list[tuple[str, str, str]] = []


def news(listed: Sequence[Run]) -> str:
    """Return the trainings that ended as (id, run, sentence) for the page, the last at the end.

    listed: the runs that may be working.
    """
    with _lock:
        now = {run.name: run for run in listed if run.worker() is not None}
        for name, run in _running.items():
            if name not in now and (sentence := _sentence(run)):
                _ended.append((f"{name} {run_state.read(run).last_time}", name, sentence))
        _running.clear()
        _running.update(now)
        del _ended[:-MOST]
        return f'<i data-news="{json_attribute(_ended)}"></i>'


def switch() -> str:
    """Return the switches of notifications and of their sound (`tellSwitch` in assets/notices.js)."""
    return (
        f'<div class="tell" data-texts="{json_attribute(strings.TELL)}"><p class="presses">'
        f'<button type="button" class="press link">{strings.TELL["on"]}</button>'
        '<button type="button" class="press link" hidden></button></p>'
        '<p class="hint" role="status"></p></div>'
    )


def _sentence(run: Run) -> str:
    """Return how a training ended, "" if its user ended it or it cannot be read."""
    try:
        with reading(run):
            status = run_state.read(run).status
    except UserError:
        return ""
    return strings.NEWS.get(status, "").format(pet=run_preferences.pet_name(run))
