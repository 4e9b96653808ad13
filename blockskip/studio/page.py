"""The page: its panels, and the wiring of every event to its handler.

There is no gr.State and no unload event, because they would keep one connection per tab open. What
a tab shows comes from disk through `screen.page_updates`, once a second and after every click.

On a busy machine answers come late and out of order. A tab therefore numbers its requests for
updates and waits for one answer before it sends the next (`request` in assets/places.js). What it shows is
said by its address (places.py). The address is changed by its own clicks, and by the server only
where the click asked for that (`led`).
"""

from __future__ import annotations

import functools
import html
import json
import logging
from typing import Any

import gradio as gr

from blockskip.core.errors import BadInput
from blockskip.core.validation import shortened, validated
from blockskip.studio import (
    actions,
    blocks,
    click_handlers,
    draft,
    field_problems,
    panels,
    places,
    result_actions,
    screen,
    strings,
)
from blockskip.studio.actions import user_errors
from blockskip.studio.blocks import StudioBlocks
from blockskip.studio.inputs import Upload, checked_answers

log = logging.getLogger(__name__)
FORM_FIELDS = ("kind", "name", "model", "budget", "steps", "seed", "rank", "speed")
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
UNQUEUED = PRIVATE | {"queue": False}
# queued: Gradio does not show the errors of unqueued events
QUEUED = PRIVATE | {"concurrency_limit": None}
QUEUED_MINIMAL = QUEUED | {"show_progress": "minimal"}
TABS = 64  # of which it is remembered what they saved
_saved: dict[str, dict] = {}  # by tab, the one heard last at the end
CLICKABLE_PARTS = (
    *("nav", "list", "photos", "describe", "models", "marks", "plan", "own_words", "busy"),
    *("messages", "delete", "hero", "compare", "pictures"),
)


def build() -> StudioBlocks:
    """Return the whole page, in every language."""
    return blocks.in_every_language(_build)


def _build() -> StudioBlocks:
    with StudioBlocks(
        title=strings.APP, analytics_enabled=False, delete_cache=(3600, 86400)
    ) as page:
        ui = panels.hidden() | panels.header() | panels.setup() | panels.run_view()
        view_outputs = [ui[name] for name in (*screen.PARTS, "tokens", "answered")]
        view_inputs = [ui[name] for name in ("shown", "tokens", "answered")]
        # “multiple”: an answer that never comes must not be the last
        asked = UNQUEUED | {"inputs": view_inputs, "trigger_mode": "multiple"}
        asked["js"] = "() => blockskip.request(true)"
        refreshed = {"fn": refresh, "outputs": view_outputs, **asked}
        filled = [ui[name] for name in (*FORM_FIELDS, "sent")]
        page.load(open_page, outputs=[ui["shown"], *view_outputs, *filled], **asked)
        ticking = asked | {"js": "() => blockskip.request(false)"}
        ui["tick"].click(tick, outputs=view_outputs, **ticking)
        ui["answered"].change(None, js="() => blockskip.answer()", **PRIVATE)
        shown = ui["shown"]
        shown.change(None, shown, shown, js="view => blockskip.settle(view)", **PRIVATE)
        shown.change(**refreshed)
        ui["nav"].click(None, shown, shown, js="view => blockskip.settle(view)", **PRIVATE)
        for name in CLICKABLE_PARTS:
            # “multiple”: otherwise a click is lost while another in the same part is being handled
            pressed = ui[name].click(
                user_errors(on_click),
                [ui["shown"], ui["sent"]],
                [ui["led"], *filled],
                trigger_mode="multiple",
                **QUEUED,
            )
            pressed.then(**refreshed)
            _lead(ui, pressed, "part")
        _serve_programs(ui, filled)  # first, because Gradio renames endpoints whose name is taken
        _wire_setup(ui, filled, refreshed)
        _wire_run(ui, refreshed)
    return page


def _lead(ui: panels.Widgets, pressed: Any, kind: str) -> None:
    """Let the tab go where the answer to a press leads, unless it has gone elsewhere meanwhile.

    kind: of the press, as assets/places.js names it.
    """
    names = [ui["shown"], ui["led"]]
    pressed.success(None, ui["led"], names, js=f"to => blockskip.lead('{kind}', to)", **PRIVATE)


def _serve_programs(ui: panels.Widgets, filled: list) -> None:
    """Add the API endpoints. No click triggers them, and their errors name the kind."""
    shown = ui["shown"]
    endpoints: dict = {train: [ui["files"], *filled[:-1], ui["anyway"]]}
    endpoints |= dict.fromkeys((actions.pause, actions.resume, actions.stop), [shown])
    for fn, inputs in endpoints.items():  # not as fields: their errors would not name the kind
        answer = user_errors(fn, programs=True)
        gr.on([], answer, inputs, shown, api_name=fn.__name__, preprocess=False)
    for fn in (actions.status, actions.plan, result_actions.export):
        gr.api(user_errors(fn, programs=True), api_name=fn.__name__, concurrency_limit=None)


def _wire_setup(ui: panels.Widgets, filled: list, refreshed: dict) -> None:
    """Wire answers and Train. Photos arrive by a route of their own (photo_uploads.py)."""
    ui["demo"].click(user_errors(load_demo), None, filled, **QUEUED_MINIMAL).then(**refreshed)
    changes = [ui[n].input for n in ("kind", "name", "steps", "seed", "rank", "speed")]
    changes += [ui["name"].blur, ui["kind"].blur, ui["budget"].release, ui["budget"].input]
    # not .change, which also fires once before the page is filled, with empty values
    for change in changes:
        change(
            user_errors(save_answers), filled, ui["sent"], trigger_mode="always_last", **QUEUED
        ).then(**refreshed)
    pressed = ui["train"].click(
        user_errors(press_train),
        [ui["files"], *filled[:-1], ui["anyway"]],
        [ui["led"], ui["problems"]],
        **PRIVATE,
    )
    pressed.success(None, ui["problems"], None, js="all => blockskip.mark(all)", **PRIVATE)
    _lead(ui, pressed, "train")
    pressed.then(None, js="() => blockskip.pressed('train')", **PRIVATE)


def _wire_run(ui: panels.Widgets, refreshed: dict) -> None:
    """Wire the controls of a run and of its results. The timer shows what came of a command."""
    shown = ui["shown"]
    for name in ("pause", "resume", "stop"):
        ui[name].click(user_errors(getattr(actions, name)), shown, None, **PRIVATE).then(
            **refreshed
        )
    ui["as_planned"].click(
        user_errors(click_handlers.resume_as_planned), shown, None, **PRIVATE
    ).then(**refreshed)
    ui["look"].click(user_errors(actions.request_previews), shown, None, **QUEUED).then(**refreshed)
    image_inputs = [shown, ui["prompt"], ui["paint_seed"], ui["strength"]]
    ui["paint"].click(
        user_errors(result_actions.request_images), image_inputs, None, **QUEUED
    ).then(**refreshed)
    ui["prompt"].submit(
        user_errors(result_actions.request_images), image_inputs, None, **QUEUED
    ).then(**refreshed)
    format_event = user_errors(result_actions.choose_format), [shown, ui["format"]], None
    ui["format"].input(*format_event, **QUEUED).then(**refreshed)
    ui["make"].click(*format_event, **QUEUED).then(**refreshed)
    ui["to_comfyui"].click(user_errors(result_actions.copy_to_comfyui), shown, None, **QUEUED).then(
        **refreshed
    )
    ui["extend"].click(user_errors(actions.extend), [shown, ui["more"]], None, **QUEUED).then(
        **refreshed
    )
    filled = [ui[name] for name in (*FORM_FIELDS, "sent")]
    pressed = ui["again"].click(user_errors(train_again), shown, [ui["led"], *filled], **QUEUED)
    _lead(ui, pressed, "again")


@functools.wraps(actions.train)
def train(uploads: list[dict] | None, *answers: Any, **named: Any) -> str:
    """Train on uploaded files, which Gradio has checked to be uploads."""
    given = validated(list[Upload] | None, uploads, "uploads")
    return actions.train([file.path for file in given or ()], *answers, **named)


def press_train(uploads: list[str] | None, *answers: Any) -> list[str]:
    """Train. Return the run's name, or NO_VIEW and the problems of the fields as JSON."""
    *given, anyway = answers
    found = field_problems.find(dict(zip(FORM_FIELDS, given, strict=True)), anyway)
    if found and not uploads:
        return [places.NO_VIEW, json.dumps([[problem.field, problem.text] for problem in found])]
    return [actions.train(uploads, *answers), "[]"]


def open_page(view: str, tokens: str, number: str) -> list:
    """Return all values for a new tab: the view, its parts and the saved answers.

    view: of the tab's address, NO_VIEW without one.
    """
    try:
        shown = screen.initial_view() if view == places.NO_VIEW else view or ""
        return [shown, *screen.page_updates(shown, ""), number, *form_values()]
    except Exception:
        log.exception("the page could not be opened")
        text = html.escape(strings.GENERAL_ERROR.format(log=actions.log_path()))
        raise gr.Error(text, print_exception=False) from None


def refresh(view: str, tokens: str, number: str) -> list:
    """Return what changed since the tab's last request. On a failure, log it and change nothing.

    number: of the request, returned with its answer; "" = a request that needs no answer.
    """
    return _page_updates(view, tokens, number, fresh=True)


def tick(view: str, tokens: str, number: str) -> list:
    """Return the same. assets/places.js asks once a second, unless an answer is on its way. It is
    computed once for tabs that ask at the same time."""
    return _page_updates(view, tokens, number, fresh=False)


def _page_updates(view: str, tokens: str, number: str, fresh: bool) -> list:
    unchanged = [gr.skip()] * (len(screen.PARTS) + 1)
    if not number:
        return [*unchanged, gr.skip()]
    try:
        return [*screen.page_updates(view or "", tokens or "", fresh), number]
    except Exception:
        log.exception("the page could not be refreshed")
        return [*unchanged[:-1], tokens, number]


def on_click(view: str, sent: str, event: gr.EventData, request: gr.Request | None = None) -> list:
    """Handle a click inside a drawn part. Return the view that it leads to, if to any, and changed
    form values."""
    navigation = click_handlers.handle_click(view or "", event._data)
    next_view = gr.skip() if navigation.view is None else navigation.view
    if not navigation.refills_form:
        return [next_view, *[gr.skip()] * (len(FORM_FIELDS) + 1)]
    return [next_view, *form_values(sent, _saved_by(request))]


def load_demo() -> list:
    """Load the demo pet and return its answers."""
    actions.load_demo()
    return form_values()


def save_answers(request: gr.Request | None, *values: Any) -> str:
    """Save the answers that changed in this tab since it last sent them; return those now sent.

    Another tab may have changed the others, and a late request must not undo a newer click.
    """
    *now, sent = values
    answers = dict(zip(FORM_FIELDS, now, strict=True))
    before = _sent_answers(sent)
    changed = {name: value for name, value in answers.items() if value != before.get(name)}
    if changed:
        draft.save_answers(**checked_answers(changed))
        _saved_by(request).update(changed)
    return json.dumps(answers)


def _saved_by(request: gr.Request | None) -> dict:
    """Return the answers that a tab saved itself, to be changed; those of the latest tabs are kept."""
    session = request.session_hash if request else None
    if session is None:
        return {}
    saved = _saved[session] = _saved.pop(session, {})
    while len(_saved) > TABS:
        _saved.pop(next(iter(_saved)))
    return saved


def _sent_answers(sent: str | None) -> dict:
    try:
        return validated(dict, json.loads(sent) if sent else {}, "sent")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"sent = {shortened(sent)} is not what this page sent.") from error


def train_again(run: str) -> list:
    """Return to setup with a run's photos and answers."""
    actions.copy_to_draft(run)
    return ["", *form_values()]


def form_values(sent: str = "", saved: dict | None = None) -> list:
    """Return the values of the FORM_FIELDS widgets, then the same as JSON for `sent`.

    sent: JSON of the answers that the tab has already. They are not returned again, since the user
    may have typed another one meanwhile. saved: answers that the tab saved itself, which it has
    too, even if it did not when it asked; what it gets instead is taken out. Unanswered fields get their default or stay empty. The
    model stays empty until it is chosen, because the user's own photos may suggest another one.
    """
    answers = actions.current_answers() | {"model": draft.load().answers.get("model", "")}
    values, old = {name: answers[name] for name in FORM_FIELDS}, _sent_answers(sent)
    saved = {} if saved is None else saved
    changed = []
    for name, value in values.items():
        known = any(name in had and had[name] == value for had in (old, saved))
        changed.append(gr.skip() if known else value)
        if not known:
            saved.pop(name, None)
    return [*changed, json.dumps(values)]
