"""The page: panels put together, and every event wired to what it does.

No gr.State and no unload event anywhere (a tab would hold a connection open for good). What a tab
shows comes from disk through `screen.frame`, asked for once a second and after every press.
"""

from __future__ import annotations

import html
import json
import logging
from pathlib import Path
from typing import Any

import gradio as gr

from blockskip.studio import actions, click_handlers, draft, panels, result_actions, screen, strings
from blockskip.studio.actions import told

log = logging.getLogger(__name__)
ANSWERS = ("kind", "name", "model", "budget", "steps", "seed", "rank", "speed")
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
QUIET = PRIVATE | {"queue": False}
# through the queue: Gradio shows an error of what does not go through it to nobody
PRESSED = PRIVATE | {"concurrency_limit": None}
PLAIN = PRESSED | {"show_progress": "minimal"}
DRAWN = "nav list photos models plan own_words busy hero compare pictures".split()  # with presses


def build() -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title=strings.APP, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        ui = panels.hidden() | panels.header() | panels.setup() | panels.run_view()
        seen = [ui[name] for name in screen.PARTS] + [ui["tokens"]]
        asked = [ui["shown"], ui["tokens"]]
        refreshed = {"fn": refresh, "inputs": asked, "outputs": seen, **QUIET}
        filled = [ui[name] for name in (*ANSWERS, "sent")]
        page.load(open_page, None, [ui["shown"], *seen, *filled], **QUIET)
        gr.Timer(1).tick(tick, asked, seen, **QUIET)
        ui["shown"].change(**refreshed)
        for name in DRAWN:
            # “multiple”, or a press is lost while another one in the same part is answered
            pressed = ui[name].click(
                told(press), ui["shown"], [ui["shown"], *filled], trigger_mode="multiple", **PRESSED
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
        gr.on([], told(getattr(actions, name), programs=True), inputs, shown, api_name=name)
    for fn in (actions.status, actions.plan, result_actions.export):
        gr.api(told(fn, programs=True), api_name=fn.__name__, concurrency_limit=None)


def _wire_setup(ui: panels.Widgets, filled: list, refreshed: dict) -> None:
    """Photos, answers, Train."""
    ui["files"].upload(told(add_photos), ui["files"], ui["files"], **PLAIN).then(**refreshed)
    ui["demo"].click(told(load_demo), None, filled, **PLAIN).then(**refreshed)
    changes = [ui[n].input for n in ("kind", "name", "steps", "seed", "rank", "speed")]
    changes += [ui["name"].blur, ui["kind"].blur, ui["budget"].release, ui["budget"].input]
    for (
        change
    ) in changes:  # not .change: it fires once before the page is filled, with nothing in it
        change(told(answer), filled, ui["sent"], trigger_mode="always_last", **PRESSED).then(
            **refreshed
        )
    ui["train"].click(
        told(actions.train),
        [ui["files"], *filled[:-1], ui["anyway"]],
        ui["shown"],
        **PRIVATE,
    )


def _wire_run(ui: panels.Widgets, refreshed: dict) -> None:
    """Pause, resume, stop: they ask, and the clock shows what came of it. Then what was learnt."""
    shown = ui["shown"]
    for name in ("pause", "resume", "stop"):
        ui[name].click(told(getattr(actions, name)), shown, shown, **PRIVATE).then(**refreshed)
    ui["look"].click(told(actions.look), shown, None, **PRESSED).then(**refreshed)
    painted = [shown, ui["prompt"], ui["paint_seed"], ui["strength"]]
    ui["paint"].click(told(result_actions.paint), painted, None, **PRESSED).then(**refreshed)
    ui["prompt"].submit(told(result_actions.paint), painted, None, **PRESSED).then(**refreshed)
    formatted = told(result_actions.choose_format), [shown, ui["format"]], None
    ui["format"].input(*formatted, **PRESSED).then(**refreshed)
    ui["make"].click(*formatted, **PRESSED).then(**refreshed)
    ui["to_comfyui"].click(told(result_actions.to_comfyui), shown, None, **PRESSED).then(
        **refreshed
    )
    ui["extend"].click(told(actions.extend), [shown, ui["more"]], None, **PRESSED).then(**refreshed)
    filled = [ui[name] for name in (*ANSWERS, "sent")]
    ui["again"].click(told(again), shown, [shown, *filled], **PRESSED)


def open_page() -> list:
    """All of the page for a fresh tab: the run or the draft it shows, and the answers kept."""
    try:
        shown = screen.first_shown()
        return [shown, *screen.frame(shown, ""), *fill()]
    except Exception:
        log.exception("the page could not be opened")
        text = html.escape(strings.GENERAL_ERROR.format(log=actions.log_path()))
        raise gr.Error(text, print_exception=False) from None


def refresh(shown: str, tokens: str) -> list:
    """What changed since the tab last asked. A failure is logged; the page keeps what it shows."""
    return _frame(shown, tokens, fresh=True)


def tick(shown: str, tokens: str) -> list:
    """The same, once a second, shared by all tabs that ask at the same time."""
    return _frame(shown, tokens, fresh=False)


def _frame(shown: str, tokens: str, fresh: bool) -> list:
    try:
        return screen.frame(shown or "", tokens or "", fresh)
    except Exception:
        log.exception("the page could not be refreshed")
        return [gr.skip()] * (len(screen.PARTS) + 1)


def press(shown: str, event: gr.EventData) -> list:
    """A press inside a drawn part: what it does, and where it leads."""
    led = click_handlers.press(shown or "", dict(event._data or {}))
    if led is None:
        return [gr.skip(), *_untouched()]
    return [led.shown, *(fill() if led.fills else _untouched())]


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
    return fill()


def answer(*values: Any) -> str:
    """Keep the answers that changed in this tab since it last told them: another tab may have
    changed the others, and what comes late must not undo what was pressed meanwhile."""
    *now, sent = values
    given = dict(zip(ANSWERS, now, strict=True))
    before = json.loads(sent) if sent else {}
    changed = {name: value for name, value in given.items() if value != before.get(name)}
    if changed:
        draft.answer(**changed)
    return json.dumps(given)


def again(run: str) -> list:
    """Back to setting up, with a run's photos and answers."""
    actions.again(run)
    return ["", *fill()]


def fill() -> list:
    """Values of the ANSWERS widgets and of what the tab has told; what was never answered gets its default or stays empty. The
    model stays open until it is chosen: photos of one's own may suggest another."""
    given = actions.answers() | {"model": draft.load().answers.get("model", "")}
    values = {name: given[name] for name in ANSWERS}
    return [*values.values(), json.dumps(values)]


def _untouched() -> list:
    return [gr.skip()] * (len(ANSWERS) + 1)
