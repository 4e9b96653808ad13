"""The page: panels put together, and every event wired to what it does.

No gr.State and no unload event anywhere (a tab would hold a connection open for good). What a tab
shows comes from disk through `screen.page_updates`, asked for once a second and after every press.
"""

from __future__ import annotations

import html
import json
import logging
from pathlib import Path
from typing import Any

import gradio as gr

from blockskip.studio import actions, click_handlers, draft, panels, result_actions, screen, strings
from blockskip.studio.actions import user_errors

log = logging.getLogger(__name__)
FORM_FIELDS = ("kind", "name", "model", "budget", "steps", "seed", "rank", "speed")
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
UNQUEUED = PRIVATE | {"queue": False}
# through the queue: Gradio shows an error of what does not go through it to nobody
QUEUED = PRIVATE | {"concurrency_limit": None}
QUEUED_MINIMAL = QUEUED | {"show_progress": "minimal"}
CLICKABLE_PARTS = (
    "nav list photos models plan own_words busy hero compare pictures".split()
)  # with presses


def build() -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title=strings.APP, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        ui = panels.hidden() | panels.header() | panels.setup() | panels.run_view()
        seen = [ui[name] for name in screen.PARTS] + [ui["tokens"]]
        asked = [ui["shown"], ui["tokens"]]
        refreshed = {"fn": refresh, "inputs": asked, "outputs": seen, **UNQUEUED}
        filled = [ui[name] for name in (*FORM_FIELDS, "sent")]
        page.load(open_page, None, [ui["shown"], *seen, *filled], **UNQUEUED)
        gr.Timer(1).tick(tick, asked, seen, **UNQUEUED)
        ui["shown"].change(**refreshed)
        for name in CLICKABLE_PARTS:
            # “multiple”, or a press is lost while another one in the same part is answered
            pressed = ui[name].click(
                user_errors(on_click),
                ui["shown"],
                [ui["shown"], *filled],
                trigger_mode="multiple",
                **QUEUED,
            )
            pressed.then(**refreshed)
        _serve_programs(ui, filled)  # first: Gradio numbers what has a name that is taken
        _wire_setup(ui, filled, refreshed)
        _wire_run(ui, refreshed)
    return page


def _serve_programs(ui: panels.Widgets, filled: list) -> None:
    """The endpoints for programs: no press leads to them, and their errors carry the kind."""
    shown = ui["shown"]
    asked = {"train": [ui["files"], *filled[:-1], ui["anyway"]]}
    asked |= dict.fromkeys(("pause", "resume", "stop"), [shown])
    for name, inputs in asked.items():
        gr.on([], user_errors(getattr(actions, name), programs=True), inputs, shown, api_name=name)
    for fn in (actions.status, actions.plan, result_actions.export):
        gr.api(user_errors(fn, programs=True), api_name=fn.__name__, concurrency_limit=None)


def _wire_setup(ui: panels.Widgets, filled: list, refreshed: dict) -> None:
    """Photos, answers, Train."""
    ui["files"].upload(user_errors(add_photos), ui["files"], ui["files"], **QUEUED_MINIMAL).then(
        **refreshed
    )
    ui["demo"].click(user_errors(load_demo), None, filled, **QUEUED_MINIMAL).then(**refreshed)
    changes = [ui[n].input for n in ("kind", "name", "steps", "seed", "rank", "speed")]
    changes += [ui["name"].blur, ui["kind"].blur, ui["budget"].release, ui["budget"].input]
    for (
        change
    ) in changes:  # not .change: it fires once before the page is filled, with nothing in it
        change(
            user_errors(save_answers), filled, ui["sent"], trigger_mode="always_last", **QUEUED
        ).then(**refreshed)
    ui["train"].click(
        user_errors(actions.train),
        [ui["files"], *filled[:-1], ui["anyway"]],
        ui["shown"],
        **PRIVATE,
    )


def _wire_run(ui: panels.Widgets, refreshed: dict) -> None:
    """Pause, resume, stop: they ask, and the clock shows what came of it. Then what was learnt."""
    shown = ui["shown"]
    for name in ("pause", "resume", "stop"):
        ui[name].click(user_errors(getattr(actions, name)), shown, shown, **PRIVATE).then(
            **refreshed
        )
    ui["look"].click(user_errors(actions.request_previews), shown, None, **QUEUED).then(**refreshed)
    painted = [shown, ui["prompt"], ui["paint_seed"], ui["strength"]]
    ui["paint"].click(user_errors(result_actions.request_images), painted, None, **QUEUED).then(
        **refreshed
    )
    ui["prompt"].submit(user_errors(result_actions.request_images), painted, None, **QUEUED).then(
        **refreshed
    )
    formatted = user_errors(result_actions.choose_format), [shown, ui["format"]], None
    ui["format"].input(*formatted, **QUEUED).then(**refreshed)
    ui["make"].click(*formatted, **QUEUED).then(**refreshed)
    ui["to_comfyui"].click(user_errors(result_actions.copy_to_comfyui), shown, None, **QUEUED).then(
        **refreshed
    )
    ui["extend"].click(user_errors(actions.extend), [shown, ui["more"]], None, **QUEUED).then(
        **refreshed
    )
    filled = [ui[name] for name in (*FORM_FIELDS, "sent")]
    ui["again"].click(user_errors(train_again), shown, [shown, *filled], **QUEUED)


def open_page() -> list:
    """All of the page for a fresh tab: the run or the draft it shows, and the answers kept."""
    try:
        shown = screen.initial_view()
        return [shown, *screen.page_updates(shown, ""), *form_values()]
    except Exception:
        log.exception("the page could not be opened")
        text = html.escape(strings.GENERAL_ERROR.format(log=actions.log_path()))
        raise gr.Error(text, print_exception=False) from None


def refresh(view: str, tokens: str) -> list:
    """What changed since the tab last asked. A failure is logged; the page keeps what it shows."""
    return _page_updates(view, tokens, fresh=True)


def tick(view: str, tokens: str) -> list:
    """The same, once a second, shared by all tabs that ask at the same time."""
    return _page_updates(view, tokens, fresh=False)


def _page_updates(view: str, tokens: str, fresh: bool) -> list:
    try:
        return screen.page_updates(view or "", tokens or "", fresh)
    except Exception:
        log.exception("the page could not be refreshed")
        return [gr.skip()] * (len(screen.PARTS) + 1)


def on_click(view: str, event: gr.EventData) -> list:
    """A press inside a drawn part: what it does, and where it leads."""
    led = click_handlers.handle_click(view or "", dict(event._data or {}))
    if led is None:
        return [gr.skip(), *_form_unchanged()]
    return [led.view, *(form_values() if led.refills_form else _form_unchanged())]


def add_photos(uploads: list[str] | None) -> None:
    """Take uploaded photos into the draft; the uploaded originals are deleted at once."""
    paths = [Path(path) for path in uploads or []]
    try:
        draft.add(paths)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def load_demo() -> list:
    """The demo pet, and its answers."""
    actions.load_demo()
    return form_values()


def save_answers(*values: Any) -> str:
    """Keep the answers that changed in this tab since it last told them: another tab may have
    changed the others, and what comes late must not undo what was pressed meanwhile."""
    *now, sent = values
    given = dict(zip(FORM_FIELDS, now, strict=True))
    before = json.loads(sent) if sent else {}
    changed = {name: value for name, value in given.items() if value != before.get(name)}
    if changed:
        draft.save_answers(**changed)
    return json.dumps(given)


def train_again(run: str) -> list:
    """Back to setting up, with a run's photos and answers."""
    actions.copy_to_draft(run)
    return ["", *form_values()]


def form_values() -> list:
    """Values of the ANSWERS widgets and of what the tab has told; what was never answered gets its default or stays empty. The
    model stays open until it is chosen: photos of one's own may suggest another."""
    given = actions.current_answers() | {"model": draft.load().answers.get("model", "")}
    values = {name: given[name] for name in FORM_FIELDS}
    return [*values.values(), json.dumps(values)]


def _form_unchanged() -> list:
    return [gr.skip()] * (len(FORM_FIELDS) + 1)
