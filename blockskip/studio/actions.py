"""What the buttons and the API do. No widget in here: values in, a run's name out, or a
`UserError`."""

from __future__ import annotations

import functools
import html
import logging
import re
import tempfile
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

from blockskip import config, files, housekeeping, photos, runs
from blockskip.config import Settings
from blockskip.events import UserError
from blockskip.memory import monitor, planner
from blockskip.runs import Run
from blockskip.studio import draft, texts, views, watch

log = logging.getLogger(__name__)
_train_lock = threading.Lock()
DEMO = "demo"
DEFAULT_BUDGET = 8.0


def log_path() -> Path:
    return runs.data_dir() / "studio.log"


def told(fn: Callable) -> Callable:
    """Problems become one message in plain words; what nobody expected is written to the log."""

    @functools.wraps(fn)
    def wrapper(*args: object, **kwargs: object) -> object:
        import gradio as gr

        try:
            return fn(*args, **kwargs)
        except UserError as error:
            raise gr.Error(
                html.escape(f"{error.title} {error.remedy}".strip()),
                duration=12,
                print_exception=False,
            ) from error
        except Exception as error:
            log.exception("%s failed", fn.__name__)
            text = texts.GENERAL_ERROR.format(log=log_path())
            raise gr.Error(html.escape(text), print_exception=False) from error

    return wrapper


def trigger_word(name: str) -> str:
    """The word that calls the pet: the name's letters without accents, "Größe 2" → "grosse"."""
    plain = unicodedata.normalize("NFKD", (name or "").casefold())
    return re.sub(r"[^a-z]", "", plain)[:24]


def kind_word(kind: str | None) -> str:
    """The kind of animal as it stands in captions: one line, lower case."""
    return " ".join(re.sub(r"[^\w '-]", " ", (kind or "").lower()).split())[:40]


def default_budget() -> float:
    """The largest rung that fits into what the card has free now; 8 GB without a card."""
    free = monitor.usage().vram_free_gib
    if free < 0:
        return DEFAULT_BUDGET
    rungs = [rung.gib for rung in config.rungs()]
    return max((gib for gib in rungs if gib <= free + 0.3), default=rungs[0])


def choose(
    kind: str,
    name: str,
    model: str,
    budget: float | None,
    steps: float | None,
    seed: float | None,
    rank: float | None,
) -> Settings:
    """Settings from the answers on the page. Raises UserError for what is missing or cannot
    work."""
    trigger, class_name = trigger_word(name), kind_word(kind)
    if not class_name:
        raise UserError(texts.NO_KIND, texts.NO_KIND_REMEDY)
    if not trigger:
        raise UserError(texts.NO_NAME, texts.NO_NAME_REMEDY)
    if trigger == class_name:
        raise UserError(texts.WORDING_SAME, texts.NO_NAME_REMEDY)
    steps = int(steps or config.training_preset(model)["steps"])
    return planner.choose_settings(
        model=model,
        trigger=trigger,
        class_name=class_name,
        budget_gib=float(budget or default_budget()),
        steps=steps,
        seed=int(seed or 0),
        rank=int(rank) if rank else None,
        preview_every=max(1, steps // 4),
        **housekeeping.room(),
    )


def train(
    uploads: list[str] | None,
    kind: str,
    name: str,
    model: str,
    budget: float | None,
    steps: float | None,
    seed: float | None,
    rank: float | None,
    anyway: bool,
) -> str:
    """Make a run from the photos of the draft (or, over the API, from `uploads`) and start it.

    Returns the run's name. Raises UserError when something is missing or a training is running.
    """
    with _train_lock:
        _refuse_when_busy()
        settings = choose(kind, name, model, budget, steps, seed, rank)
        drawn = not uploads and not draft.load().own_photos
        if model == DEMO and not drawn and not anyway:
            raise UserError(texts.OWN_PHOTOS_TITLE, texts.OWN_PHOTOS_REMEDY)
        run = _create_from_uploads(settings, uploads) if uploads else _create_from_draft(settings)
        run.write_info(
            run.info() | {"studio": {"pet": " ".join(name.split())[:40], "drawn": drawn}}
        )
        watch.start(run)
        if not uploads:
            draft.clear()
        return run.name


def stop(run: str) -> str:
    """Stop a training; what was learnt so far is kept and can be gone on with."""
    find(run).command("stop")
    return run


def pause(run: str) -> str:
    """Pause a training and free the graphics memory."""
    find(run).command("pause")
    return run


def look(run: str) -> str:
    """Ask a training for preview pictures now."""
    find(run).command("preview")
    return run


def resume(run: str) -> str:
    """Go on with a training that was paused, stopped or cut off."""
    with _train_lock:
        _refuse_when_busy()
        watch.start(find(run))
        return run


def status(run: str = "") -> dict:
    """State of a training (of the latest one if none is named): run, state, stage, step, steps,
    loss …"""
    latest = runs.list_runs()[:1]
    if not run and not latest:
        return {"run": "", "state": "none"}
    story = watch.watch(find(run) if run else latest[0])
    exported = story.exported
    return {
        "run": story.run.name,
        "state": story.state,
        "stage": story.stage,
        "step": story.step,
        "steps": story.steps,
        "percent": views.percent(story),
        "loss": story.losses.get(story.step, -1.0),
        "exported": str(story.run.folder / exported.path) if exported else "",
    }


def find(name: str) -> Run:
    """A run by its name; paths are not accepted here. Raises UserError when there is none."""
    found = next((run for run in runs.list_runs() if run.name == name), None)
    if found is None:
        raise UserError(texts.NO_RUN, texts.NO_RUN_REMEDY)
    return found


def load_demo() -> dict:
    """Put the demo pet's photos into the draft, and its kind and name into the answers."""
    from blockskip.cli import demo_pet

    folder, kind = demo_pet()
    draft.clear()
    draft.add([folder], demo=True)
    draft.answer(kind=kind, name=texts.DEMO_NAME)
    return draft.load().answers


def again(run: str) -> dict:
    """Put a run's photos and answers back into the draft, to train once more. Returns the
    answers."""
    old = find(run)
    settings, extra = old.settings(), old.info().get("studio", {})
    draft.clear()
    draft.add([old.photos_dir], demo=bool(extra.get("drawn")))
    draft.answer(
        kind=settings.class_name,
        name=extra.get("pet") or settings.trigger.capitalize(),
        budget=settings.budget_gib,
        steps=settings.steps,
        rank=settings.rank,
        seed=settings.seed,
    )
    return draft.load().answers


def _refuse_when_busy() -> None:
    busy = watch.running()
    if busy is not None:
        raise UserError(f"“{busy.name}” is being trained.", texts.BUSY_REMEDY)


def _create_from_draft(settings: Settings) -> Run:
    chosen = draft.load()
    if not chosen.photos:
        raise UserError(texts.NO_PHOTOS, texts.NO_PHOTOS_REMEDY)
    return runs.create(settings, chosen.paths)


def _create_from_uploads(settings: Settings, uploads: list[str]) -> Run:
    good, bad = photos.read_photos([Path(path) for path in uploads], settings.subject_caption)
    if not good:
        raise UserError("; ".join(f"{r.name}: {r.reason}" for r in bad), texts.NO_PHOTOS_REMEDY)
    with tempfile.TemporaryDirectory(dir=runs.data_dir()) as folder:
        clean = []
        for photo in good:
            clean.append(Path(folder) / f"{files.fingerprint(photo.sha)}.png")
            photos.reencode(photo.path, clean[-1])
        return runs.create(settings, clean)
