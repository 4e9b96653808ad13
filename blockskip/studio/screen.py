"""Widget updates for each part of the page, computed from disk alone.

A tab sends the fingerprints of what it shows, and only changed parts are sent back. A reload, a
second tab and a restarted studio therefore all show the same. Tabs that ask at the same time share
one computation.
"""

from __future__ import annotations

import re
import threading
import time

import gradio as gr

from blockskip.core import files
from blockskip.runs.run import list_runs
from blockskip.studio import (
    actions,
    card_view,
    draft,
    list_view,
    nav_view,
    news,
    places,
    queue_screen,
    run_screen,
    run_state,
    setup_screen,
    strings,
)

PARTS = ("nav", "news", "list", *setup_screen.PARTS, *run_screen.PARTS)
LIST_VIEW = places.LIST_VIEW
MAX_LISTED = 60
TOKEN = 6  # characters of a part's fingerprint: they are sent once a second
CACHE_S = 0.5  # ticks of several tabs within this time share the same parts
_cache_lock = threading.Lock()
_parts_cache: dict[tuple[str, str], tuple[float, dict]] = {}


def initial_view() -> str:
    """Return the view of a new tab without an address: the running training, else setup, else the latest training.

    Setup is shown if the draft has photos, or if there is no training yet.
    """
    busy = run_state.running()
    if busy is not None:
        return busy.name
    latest = actions.latest_run()
    return "" if draft.load().photos or latest is None else latest.name


def page_updates(view: str, tokens: str, fresh: bool = True) -> list:
    """Return the updates of all PARTS, followed by the tokens of now.

    view: name of the run shown, "" = setup, "*" = the list. tokens: the fingerprints of PARTS
    that the tab has, one after the other. fresh: bypass the cache that tabs share.
    """
    parts = _cached_parts(view, fresh)
    old = dict(zip(PARTS, re.findall(f".{{{TOKEN}}}", tokens), strict=False))
    new = {name: files.fingerprint(parts.get(name, {}))[:TOKEN] for name in PARTS}
    updates = [
        gr.update(**parts.get(name, {})) if new[name] != old.get(name) else gr.skip()
        for name in PARTS
    ]
    # always: Gradio keeps a component for good that is sent a value after an update or a skip
    return [*updates, "".join(new.values())]


def _cached_parts(view: str, fresh: bool) -> dict[str, dict]:
    with _cache_lock:
        shown = strings.tag(), view
        at, parts = _parts_cache.get(shown, (0.0, {}))
        if fresh or time.monotonic() - at > CACHE_S:
            parts = _parts(view)
            _parts_cache.clear() if len(_parts_cache) > 8 else None
            _parts_cache[shown] = time.monotonic(), parts
        return parts


def _parts(view: str) -> dict[str, dict]:
    listed = list_runs()
    run_state.forget_deleted(listed)
    is_run = bool(view) and view != LIST_VIEW
    parts: dict[str, dict] = {}
    if view == LIST_VIEW:
        parts["list"] = {
            "value": queue_screen.queue()
            + card_view.open_model()
            + list_view.trainings([run_screen.run_summary(run) for run in listed[:MAX_LISTED]])
        }
    step = "list" if view == LIST_VIEW else "photos"
    if not view:
        setup, saved = setup_screen.parts()
        parts |= setup
        step = "budget" if saved.photos else "photos"
    elif is_run:
        run, step = run_screen.parts(view)
        parts |= run
    links = _step_links(view if is_run else "", step)
    parts["news"] = {"value": news.news(listed[:MAX_LISTED])}
    parts["nav"] = {"value": nav_view.navigation(step, len(listed), bool(view), links)}
    return parts


def _step_links(run: str, step: str) -> dict[str, str]:
    """Return the address of each step that one may go to. run: the one shown, "" = none, which
    leads to the one that trains."""
    links = {"photos": places.SETUP, "budget": places.BUDGET}
    trained = run or (busy.name if (busy := run_state.running()) else "")
    if trained:
        links["train"] = places.training(trained)
    if step == "results":
        links["results"] = places.training(run, "results")
    return links
