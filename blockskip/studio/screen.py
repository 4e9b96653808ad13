"""What the page shows now, computed from disk alone: a dict of widget updates per part of the page.

A tab sends the fingerprints of what it shows; only parts that changed are sent back. So a reload, a
second tab and a restarted studio all end up at the same picture.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from pathlib import Path

import gradio as gr

from blockskip import files, runs
from blockskip.events import UserError
from blockskip.runs import RESUMABLE, Run
from blockskip.studio import charts, draft, texts, views, watch
from blockskip.studio.actions import DEMO

log = logging.getLogger(__name__)
PARTS = (
    "setup",
    "run",
    "chooser",
    "new",
    "photos",
    "own",
    "train",
    "busy",
    "status",
    "spoken",
    "pause",
    "resume",
    "stop",
    "look",
    "messages",
    "results",
    "lora",
    "workflow",
    "again",
    "notes",
    "previews",
    "charts",
)
MAX_LISTED = 30
_download_lock = threading.Lock()
HIDDEN = {"visible": False}


def first_shown() -> str:
    """The run a fresh tab shows: the running one; else the latest, unless photos are being
    chosen."""
    busy = watch.running()
    if busy is not None:
        return busy.name
    latest = runs.list_runs()[:1]
    return "" if draft.load().photos or not latest else latest[0].name


def frame(shown: str, tokens: str) -> list:
    """Updates of all PARTS, then the new tokens. shown: name of the run on show, "" = setting
    up."""
    parts = _setup_parts(shown) | (_run_parts(shown) if shown else {})
    old = json.loads(tokens) if tokens else {}
    new = {name: files.fingerprint(parts.get(name, {})) for name in PARTS}
    updates = [
        gr.update(**parts.get(name, {})) if new[name] != old.get(name) else gr.skip()
        for name in PARTS
    ]
    return [*updates, json.dumps(new) if new != old else gr.skip()]


def _setup_parts(shown: str) -> dict[str, dict]:
    """The frame around everything, and the column where a training is put together."""
    listed = runs.list_runs()[:MAX_LISTED]
    busy = next((run for run in listed if run.worker() is not None), None)
    choices = [(_label(run), run.name) for run in listed]
    if shown and shown not in [run.name for run in listed]:
        choices.append((shown, shown))
    parts = {
        "setup": {"visible": not shown},
        "run": {"visible": bool(shown)},
        "chooser": {"choices": choices, "value": shown or None, "visible": bool(choices)},
        "new": {"visible": bool(shown)},
    }
    if not shown:
        now = draft.load()
        own = now.own_photos
        parts |= {
            "photos": {"value": views.photos(now)},
            "own": {"visible": own},
            "train": {
                "interactive": busy is None,
                "value": texts.TRAIN if busy is None else texts.TRAIN_BUSY,
            },
            "busy": {
                "value": ""
                if busy is None
                else f'<p class="hint center">{texts.TRAIN_BUSY_ABOUT}</p>'
            },
        }
    return parts


def _run_parts(shown: str) -> dict[str, dict]:
    """Everything about the run on show; one that cannot be read says so instead."""
    run = next((run for run in runs.list_runs() if run.name == shown), None)
    try:
        if run is None:
            raise UserError(texts.NO_RUN, texts.NO_RUN_REMEDY)
        return _parts_of(run)
    except (UserError, OSError) as error:
        title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
        return {
            "messages": {"value": views.note(title, remedy, "error")},
            "status": {"value": ""},
            **{
                name: HIDDEN
                for name in (
                    "pause",
                    "resume",
                    "stop",
                    "look",
                    "lora",
                    "workflow",
                    "again",
                    "results",
                    "notes",
                    "previews",
                    "charts",
                )
            },
        }


def _parts_of(run: Run) -> dict[str, dict]:
    info, settings = run.info(), run.settings()
    story = watch.watch(run)
    name = pet_name(run, info)
    photo_files = sorted(p.name for p in run.photos_dir.iterdir() if p.suffix != ".txt")
    waiting, working = watch.pending(run), story.state == "running"
    results, messages = views.results(story, settings, name), views.messages(story)
    notes = views.notes(story)
    lora = _download(run, story.exported.path) if results else None
    workflow = _workflow(run) if results and settings.model != DEMO else None
    return {
        "status": {"value": views.status(story, settings, name, info["started"], len(photo_files))},
        "spoken": {"value": views.spoken(story, name)},
        "pause": {"visible": working, "interactive": not waiting},
        "stop": {"visible": working, "interactive": not waiting},
        "look": {"visible": working, "interactive": not waiting and story.step > 0},
        "resume": {"visible": story.state in RESUMABLE},
        "messages": {"value": messages, "visible": bool(messages)},
        "notes": {"value": notes, "visible": bool(notes)},
        "results": {"value": results, "visible": bool(results)},
        "lora": {
            "visible": lora is not None,
            "value": lora,
            "variant": "primary" if story.state == "done" else "secondary",
        },
        "workflow": {"visible": workflow is not None, "value": workflow},
        "again": {"visible": not working},
        "previews": {"value": views.previews(story, settings, photo_files), "visible": True},
        "charts": {
            "visible": True,
            "value": '<div class="charts">'
            + charts.loss_chart(story.losses, story.steps)
            + charts.memory_chart(story.memory, settings.budget_gib)
            + "</div>",
        },
    }


def pet_name(run: Run, info: dict) -> str:
    """What the user called the pet; a run of the terminal has only its trigger word."""
    return info.get("studio", {}).get("pet") or run.settings().trigger.capitalize()


def _label(run: Run) -> str:
    try:
        info = run.info()
        state = texts.STATES[watch.watch(run).state].lower()
        return f"{pet_name(run, info)} · {views.clock(info['started'])} · {state}"
    except (UserError, OSError, KeyError):
        return run.name


def _workflow(run: Run) -> str | None:
    found = sorted(run.exports_dir.glob("*.json"))
    return _download(run, found[0].relative_to(run.folder).as_posix()) if found else None


def _download(run: Run, relative: str) -> str | None:
    """A path that Gradio may hand out: a second name for the file in its own folder, not a second
    copy."""
    source = run.folder / relative
    target = Path(os.environ["GRADIO_TEMP_DIR"]) / "downloads" / run.name / source.name
    try:
        with _download_lock:
            if not target.exists() or target.stat().st_mtime_ns != source.stat().st_mtime_ns:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                _link(source, target)
        return str(target)
    except OSError as error:
        log.warning("%s cannot be offered for download: %s", source, error)
        return None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
