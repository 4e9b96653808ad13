"""The page: panels put together, and every event wired to what it does.

No gr.State and no unload event anywhere (a tab would hold a connection open for good). What a tab
shows comes from disk through `screen.frame`, asked for once a second and after every press.
"""

from __future__ import annotations

import html
import logging
from pathlib import Path

import gradio as gr

from blockskip import config
from blockskip.events import UserError
from blockskip.memory import monitor
from blockskip.studio import actions, draft, panels, screen, texts, views
from blockskip.studio.actions import told

log = logging.getLogger(__name__)
ANSWERS = ("kind", "name", "model", "budget", "steps", "seed", "rank")
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
PLAIN = {"show_progress": "minimal", "api_visibility": "private", "concurrency_limit": None}


def build() -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title=texts.APP, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        ui = panels.hidden() | panels.header() | panels.setup() | panels.run_view()
        _wire_screen(page, ui)
        _wire_setup(ui)
        _wire_run(ui)
        gr.api(told(actions.status), api_name="status", concurrency_limit=None)
    return page


def _wire_screen(page: gr.Blocks, ui: panels.Widgets) -> None:
    """Opening the page, the clock, the list of trainings."""
    parts = [ui[name] for name in screen.PARTS] + [ui["tokens"]]
    answers = [ui[name] for name in (*ANSWERS, "wording", "plan", "card")]
    page.load(open_page, None, [ui["shown"], *parts, *answers], **QUIET)
    gr.Timer(1).tick(refresh, [ui["shown"], ui["tokens"]], parts, **QUIET)
    ui["shown"].change(refresh, [ui["shown"], ui["tokens"]], parts, **QUIET)
    ui["chooser"].input(lambda run: run or "", ui["chooser"], ui["shown"], **QUIET)
    ui["new"].click(lambda: "", None, ui["shown"], **QUIET)


def _wire_setup(ui: panels.Widgets) -> None:
    """Photos, answers, Train."""
    inputs = [ui[name] for name in ANSWERS]
    filled = [*inputs, ui["wording"], ui["plan"]]
    refreshed = {
        "fn": refresh,
        "inputs": [ui["shown"], ui["tokens"]],
        "outputs": [ui[name] for name in screen.PARTS] + [ui["tokens"]],
        **QUIET,
    }
    ui["files"].upload(told(add_photos), ui["files"], ui["files"], **PLAIN).then(**refreshed)
    ui["photos"].click(told(press_photo), None, None, **QUIET).then(**refreshed)
    ui["demo"].click(told(lambda: fill(actions.load_demo())), None, filled, **PLAIN).then(
        **refreshed
    )
    changes = [ui[name].input for name in ANSWERS] + [ui["name"].blur, ui["kind"].blur]
    for (
        change
    ) in changes:  # not .change: it fires once before the page is filled, with nothing in it
        change(
            told(answer), inputs, [ui["wording"], ui["plan"]], trigger_mode="always_last", **QUIET
        )
    ui["train"].click(
        told(actions.train),
        [ui["files"], *inputs, ui["anyway"]],
        ui["shown"],
        api_name="train",
        show_progress="hidden",
    )


def _wire_run(ui: panels.Widgets) -> None:
    """Pause, resume, stop: they ask, and the clock shows what came of it."""
    refreshed = {
        "fn": refresh,
        "inputs": [ui["shown"], ui["tokens"]],
        "outputs": [ui[name] for name in screen.PARTS] + [ui["tokens"]],
        **QUIET,
    }
    for name in ("pause", "resume", "stop"):
        ui[name].click(
            told(getattr(actions, name)),
            ui["shown"],
            ui["shown"],
            api_name=name,
            show_progress="hidden",
        ).then(**refreshed)
    ui["look"].click(told(actions.look), ui["shown"], ui["shown"], **QUIET).then(**refreshed)
    ui["again"].click(
        told(again),
        ui["shown"],
        [ui["shown"], *[ui[name] for name in ANSWERS], ui["wording"], ui["plan"]],
        **PLAIN,
    )


def open_page() -> list:
    """All of the page for a fresh tab: the run or the draft it shows, and the answers kept."""
    try:
        shown = screen.first_shown()
        kept = fill(draft.load().answers)
        return [shown, *screen.frame(shown, ""), *kept, _card()]
    except Exception:
        log.exception("the page could not be opened")
        text = html.escape(texts.GENERAL_ERROR.format(log=actions.log_path()))
        raise gr.Error(text, print_exception=False) from None


def refresh(shown: str, tokens: str) -> list:
    """What changed since the tab last asked. A failure is logged; the page keeps what it shows."""
    try:
        return screen.frame(shown or "", tokens or "")
    except Exception:
        log.exception("the page could not be refreshed")
        return [gr.skip()] * (len(screen.PARTS) + 1)


def add_photos(uploads: list[str] | None) -> None:
    """Take uploaded photos into the draft; the uploaded originals are deleted at once."""
    paths = [Path(path) for path in uploads or []]
    try:
        draft.add(paths)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def press_photo(event: gr.EventData) -> None:
    """Remove one photo, or all of them."""
    if event._data.get("clear"):
        draft.clear()
    else:
        draft.remove(str(event._data.get("remove", "")))


def answer(*values: object) -> list[str]:
    """Keep the answers and say what they mean."""
    answers = dict(zip(ANSWERS, values, strict=True))
    draft.answer(**answers)
    return _meaning(answers)


def again(run: str) -> list:
    """Back to setting up, with a run's photos and answers."""
    return ["", *fill(actions.again(run))]


def fill(kept: dict) -> list:
    """Values of the ANSWERS widgets and what they mean; what was never answered gets its
    default."""
    preset = config.training_preset(actions.DEMO)
    rungs = [rung.gib for rung in config.rungs()]
    answers = {
        "kind": "cat",
        "name": "",
        "budget": actions.default_budget(),
        "steps": preset["steps"],
        "seed": 0,
        "rank": preset["rank"],
    }
    answers |= {key: value for key, value in kept.items() if key in answers and value is not None}
    answers["model"] = actions.DEMO  # the only one offered so far
    if answers["budget"] not in rungs:
        answers["budget"] = min(rungs, key=lambda gib: abs(gib - float(answers["budget"])))
    return [*[answers[name] for name in ANSWERS], *_meaning(answers)]


def _meaning(answers: dict) -> list[str]:
    """The lines under the questions: the prompt's wording, and what the budget does."""
    trigger, kind = actions.trigger_word(answers["name"]), actions.kind_word(answers["kind"])
    total = config.model_row(answers["model"]).num_blocks
    try:
        settings = actions.choose(**answers | {"kind": kind or "pet", "name": trigger or "pet"})
    except UserError as error:
        settings = error
    return [views.wording(trigger, kind or "pet"), views.plan(settings, total)]


def _card() -> str:
    now = monitor.usage()
    text = (
        texts.MEMORY_NO_CARD
        if now.vram_total_gib < 0
        else texts.MEMORY_CARD.format(total=now.vram_total_gib, free=now.vram_free_gib)
    )
    return f'<p class="hint">{text}</p>'
