"""What the page shows now, computed from disk alone: a dict of widget updates per part of the page.

A tab sends the fingerprints of what it shows; only parts that changed are sent back. So a reload, a
second tab and a restarted studio all end up at the same picture. Many tabs that ask at once share
one look.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import gradio as gr

from blockskip import config, files, housekeeping, kept, painting, runs
from blockskip.events import UserError
from blockskip.lab import likeness
from blockskip.memory import monitor
from blockskip.runs import RESUMABLE, Run
from blockskip.studio import (
    actions,
    charts,
    choices,
    draft,
    list_view,
    model_view,
    nav_view,
    outcome,
    photo_view,
    plan_view,
    plans,
    result_view,
    run_view,
    shelf,
    texts,
    watch,
)
from blockskip.studio.plans import DEMO
from blockskip.studio.words import e, note, press

log = logging.getLogger(__name__)
SETUP_PARTS = ("photos", "models", "wording", "marks", "plan", "own", "own_words", "train", "busy")
RUN_PARTS = (
    "status",
    "spoken",
    "pause",
    "resume",
    "stop",
    "look",
    "messages",
    "notes",
    "results",
    "hero",
    "format",
    "lora",
    "make",
    "to_comfyui",
    "workflow",
    "card",
    "compare",
    "prompt",
    "paint",
    "paint_seed",
    "pictures",
    "more",
    "previews",
    "charts",
)
PARTS = ("setup", "run", "nav", "list", *SETUP_PARTS, *RUN_PARTS)
LIST = "*"
MAX_LISTED = 60
SHARED_S = 0.5  # ticks of several tabs within this time get the same look
HIDDEN = {"visible": False}
_download_lock = threading.Lock()
_look_lock = threading.Lock()
_looks: dict[str, tuple[float, dict]] = {}


def first_shown() -> str:
    """What a fresh tab shows: the running training; else the latest, unless photos are being
    chosen."""
    busy = watch.running()
    if busy is not None:
        return busy.name
    latest = runs.list_runs()[:1]
    return "" if draft.load().photos or not latest else latest[0].name


def frame(shown: str, tokens: str, fresh: bool = True) -> list:
    """Updates of all PARTS, then the new tokens.

    shown: name of the run on show, "" = setting up, "*" = the list. fresh: look now, not at what
    another tab was shown a moment ago.
    """
    parts = _look(shown, fresh)
    old = json.loads(tokens) if tokens else {}
    new = {name: files.fingerprint(parts.get(name, {}))[:8] for name in PARTS}
    updates = [
        gr.update(**parts.get(name, {})) if new[name] != old.get(name) else gr.skip()
        for name in PARTS
    ]
    return [*updates, json.dumps(new) if new != old else gr.skip()]


def _look(shown: str, fresh: bool) -> dict[str, dict]:
    with _look_lock:
        at, parts = _looks.get(shown, (0.0, {}))
        if fresh or time.monotonic() - at > SHARED_S:
            parts = _parts(shown)
            _looks.clear() if len(_looks) > 8 else None
            _looks[shown] = time.monotonic(), parts
        return parts


def _parts(shown: str) -> dict[str, dict]:
    listed = runs.list_runs()
    is_run = bool(shown) and shown != LIST
    parts = {
        "setup": {"visible": not shown},
        "run": {"visible": is_run},
        "list": {"visible": shown == LIST},
    }
    if shown == LIST:
        parts["list"] |= {
            "value": list_view.trainings([_listed(run) for run in listed[:MAX_LISTED]])
        }
    where = "list" if shown == LIST else "photos"
    if not shown:
        made, now = _setup_parts()
        parts |= made
        where = "budget" if now.photos else "photos"
    elif is_run:
        made, where = _run_parts(shown)
        parts |= made
    parts["nav"] = {"value": nav_view.nav(where, len(listed), bool(shown))}
    return parts


def _setup_parts() -> tuple[dict[str, dict], draft.Draft]:
    """The column where a training is put together."""
    describing = shelf.describing()
    now, given, busy = draft.load(), actions.answers(), watch.running()
    found, models = actions.planned(given, len(now.photos)), shelf.shelf()
    row = config.model_row(given["model"])
    settings = found.plan.settings if found.plan else config.Settings(model=row.name)
    trigger, kind = actions.trigger_word(given["name"]), actions.kind_word(given["kind"])
    own = now.own_photos and row.name == DEMO
    train = texts.TRAIN
    if found.plan and now.photos:
        train = texts.TRAIN_STEPS.format(steps=settings.steps)
    parts = {
        "photos": photo_view.photos(now, settings, shelf.can_describe(), describing),
        "models": model_view.models(models, row.name),
        "wording": _wording(trigger, kind or "pet"),
        "marks": _marks(),
        "plan": _plan(found, row),
        "own_words": _own_words(models),
        "busy": _busy(busy),
    }
    made = {name: {"value": value} for name, value in parts.items()}
    made["own"] = {"visible": own}
    made["train"] = {
        "interactive": busy is None,
        "value": train if busy is None else texts.TRAIN_BUSY,
    }
    return made, now


def _wording(trigger: str, kind: str) -> str:
    """How the pet is called in prompts."""
    if not trigger:
        return f'<p class="hint">{texts.WORDING_EMPTY}</p>'
    if trigger == kind:
        return f'<p class="hint warn">{texts.WORDING_SAME}</p>'
    return f'<p class="hint">{texts.WORDING.format(trigger=e(trigger), kind=e(kind))}</p>'


def _marks() -> str:
    now, (low, high) = monitor.usage(), plans.budget_range()
    return plan_view.marks(low, high, now.vram_total_gib, now.vram_used_gib, now.vram_free_gib)


def _plan(found: plans.Planned, row: config.ModelRow) -> str:
    if found.plan is None:
        return plan_view.refusal(found.error, found.least_gib)
    minutes = plan_view.expected_minutes(watch.finished(), found.plan.settings)
    return plan_view.picture(found.plan, row, minutes, housekeeping.room()["disk_gib"])


def _own_words(models: model_view.Shelf) -> str:
    """For photos of one's own while the demo model is chosen: which model would suit them."""
    real = [offer for offer in models.offers if not offer.demo]
    ready = next((offer for offer in real if offer.state == "ready"), None)
    better = ready or next(iter(real), None)
    if better is None:
        return f"<p>{texts.OWN_PHOTOS}</p>"
    words = texts.OWN_PHOTOS_READY if ready else texts.OWN_PHOTOS_MISSING
    button = press("model", texts.OWN_PHOTOS_USE.format(title=better.title), model=better.model)
    return f"<p>{texts.OWN_PHOTOS} {e(words.format(title=better.title))}</p>{button}"


def _busy(busy: Run | None) -> str:
    if busy is None:
        return ""
    watch_it = press("open", texts.TRAIN_BUSY_OPEN, "link", run=busy.name)
    return f'<p class="hint center">{texts.TRAIN_BUSY_ABOUT} {watch_it}</p>'


def _listed(run: Run) -> list_view.Listed:
    try:
        info, settings, story = run.info(), run.settings(), watch.watch(run)
        previews = [
            image.path.removeprefix("previews/") for _, image in sorted(story.images.items())
        ]
        newest = [p for p in previews if p.endswith("/00.png")]
        return list_view.Listed(
            run.name,
            choices.pet_name(run),
            story.state,
            story.step,
            settings.steps,
            config.model_row(settings.model).title,
            info["started"],
            watch.size_bytes(run),
            list_view.newest_picture(run.name, newest, _photo_files(run)),
        )
    except (UserError, OSError, KeyError):
        return list_view.Listed(run.name, run.name, "failed", 0, 0, "", "", 0, "")


def _photo_files(run: Run) -> list[str]:
    return sorted(p.name for p in run.photos_dir.iterdir() if p.suffix not in (".txt", ".json"))


def _run_parts(shown: str) -> tuple[dict[str, dict], str]:
    """Everything about the run on show; one that cannot be read says so instead."""
    run = next((run for run in runs.list_runs() if run.name == shown), None)
    try:
        if run is None:
            raise UserError(texts.NO_RUN, texts.NO_RUN_REMEDY)
        return _parts_of(run)
    except (UserError, OSError) as error:
        title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
        gone = {name: HIDDEN for name in RUN_PARTS if name not in ("status", "spoken", "messages")}
        said = {"value": note(title, remedy, "error"), "visible": True}
        return {"messages": said, "status": {"value": ""}} | gone, "train"


def _parts_of(run: Run) -> tuple[dict[str, dict], str]:
    info, settings, story = run.info(), run.settings(), watch.watch(run)
    name, photo_files = choices.pet_name(run), _photo_files(run)
    waiting, working = watch.pending(run), story.state == "running"
    messages, notes = run_view.messages(story), run_view.notes(story)
    parts = {
        "status": {
            "value": run_view.status(story, settings, name, info["started"], len(photo_files))
        },
        "spoken": {"value": run_view.spoken(story, name)},
        "pause": {"visible": working, "interactive": not waiting},
        "stop": {"visible": working, "interactive": not waiting},
        "look": {"visible": working, "interactive": not waiting and story.step > 0},
        "resume": {"visible": story.state in RESUMABLE},
        "messages": {"value": messages, "visible": bool(messages)},
        "notes": {"value": notes, "visible": bool(notes)},
        "previews": {"value": run_view.previews(story, settings, photo_files), "visible": True},
        "charts": {
            "visible": True,
            "value": '<div class="charts">'
            + charts.loss_chart(story.losses, story.steps)
            + charts.memory_charts(story.memory, story.now, settings.budget_gib, story.active_s)
            + "</div>",
        },
        "results": HIDDEN,
    }
    if story.exported is None or working:
        return parts, "train"
    return parts | _result_parts(run, story, settings, name, len(photo_files)), "results"


def _result_parts(
    run: Run, story: watch.Story, settings: config.Settings, name: str, num_photos: int
) -> dict[str, dict]:
    last = story.exported.step
    step, format = outcome.kept_step(run, last), outcome.file_format(run)
    row, judged = config.model_row(settings.model), likeness.read(run)
    if judged is None:
        outcome.measure(run)
    lora = _download(run, outcome.file_of(run, format, step, last))
    making, wrong = outcome.making(run, format, step), outcome.problem(run, format, step)
    said = f"{wrong.title} {wrong.remedy}" if wrong else outcome.said(run)
    workflow = None if settings.model == DEMO else _workflow(run)
    words = texts.DOWNLOAD if step == last else texts.DOWNLOAD_STEP.format(step=step)
    known = outcome.comfyui_known() and settings.model != DEMO and format == "comfyui"
    return {
        "results": {"visible": True},
        "hero": {"value": result_view.hero(story, settings, name, said)},
        "format": {"value": format},
        "lora": {"visible": lora is not None, "value": lora, "label": words},
        "make": {
            "visible": lora is None,
            "interactive": not making,
            "value": texts.PREPARING if making else texts.MAKE,
        },
        "to_comfyui": {"visible": known and lora is not None},
        "workflow": {"visible": workflow is not None, "value": workflow},
        "card": {"value": result_view.card(row, outcome.model_card(run, step, num_photos, judged))},
        "compare": {
            "value": result_view.compare(story, settings, step, _steps(run, story), judged)
        },
        "prompt": {"value": settings.subject_caption},
        "paint": {"interactive": watch.running() is None},
        "paint_seed": {"value": None},
        "pictures": {"value": result_view.own_pictures(painting.list(run), run.name)},
        "more": {"value": settings.steps + max(10, settings.steps // 2)},
    }


def _steps(run: Run, story: watch.Story) -> list[int]:
    """Steps that have both pictures and a LoRA; of old runs only the last."""
    shown = {step for step, _ in story.images}
    return [step for step in kept.steps_kept(run) if step in shown and step > 0]


def _workflow(run: Run) -> str | None:
    found = sorted(run.exports_dir.glob("*.workflow.json"))
    return _download(run, found[0]) if found else None


def _download(run: Run, source: Path) -> str | None:
    """A path that Gradio may hand out: a second name for the file in its own folder, not a second
    copy. None while there is no such file."""
    target = Path(os.environ["GRADIO_TEMP_DIR"]) / "downloads" / run.name / source.name
    try:
        with _download_lock:
            if not target.exists() or target.stat().st_mtime_ns != source.stat().st_mtime_ns:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                _link(source, target)
        return str(target)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be offered for download: %s", source, error)
        return None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
