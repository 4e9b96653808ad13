"""What the buttons and the API do with the draft and with trainings. No widget in here: values in, a
run's name out, or a `UserError`."""

from __future__ import annotations

import functools
import html
import logging
import math
import re
import tempfile
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from blockskip.core import files, presets
from blockskip.core.errors import (
    BadInput,
    BadPhoto,
    ModelMissing,
    NotFound,
    Unexpected,
    UserError,
    WrongState,
)
from blockskip.core.paths import data_dir
from blockskip.core.settings import PREVIEW_SPEEDS, ExecutionPlan, PreviewSpeed, Settings
from blockskip.data import captions, photos
from blockskip.memory.planning.planner import Plan
from blockskip.models import sources
from blockskip.runs.run import Run, create_run, list_runs
from blockskip.studio import draft, plans, run_preferences, run_state, run_view, strings
from blockskip.studio.plans import DEMO_MODEL

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
_train_lock = threading.Lock()


def log_path() -> Path:
    return data_dir() / "studio.log"


def user_errors(fn: Callable[P, T], programs: bool = False) -> Callable[P, T]:
    """Problems become one message in plain words; what nobody expected is written to the log.

    programs: of those that the API answers, the message's title is the kind (core/errors.py); on the
    page it stays Gradio's own.
    """

    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        import gradio as gr

        try:
            return fn(*args, **kwargs)
        except UserError as error:
            raise gr.Error(
                html.escape(f"{error.title} {error.remedy}".strip()),
                title=error.kind if programs else "Error",
                duration=12,
                print_exception=False,
            ) from error
        except Exception as error:
            log.exception("%s failed", fn.__name__)
            text = strings.GENERAL_ERROR.format(log=log_path())
            kind = Unexpected.__name__ if programs else "Error"
            raise gr.Error(html.escape(text), title=kind, print_exception=False) from error

    return wrapper


def trigger_word(name: str | None) -> str:
    """The word that calls the pet: the name's letters without accents, "Größe 2" → "grosse"."""
    plain = unicodedata.normalize("NFKD", (name or "").casefold())
    return re.sub(r"[^a-z]", "", plain)[:24]


def class_word(kind: str | None) -> str:
    """The kind of animal as it stands in captions: one line, lower case."""
    return " ".join(re.sub(r"[^\w '-]", " ", (kind or "").lower()).split())[:40]


def current_answers() -> dict:
    """The answers kept, with the studio's own choice where one is needed."""
    kept: dict = {"kind": "cat", "name": "", "speed": ExecutionPlan.preview_speed}
    kept |= dict.fromkeys(("budget", "steps", "rank", "seed"))
    given = draft.load().answers
    kept |= {key: value for key, value in given.items() if _is_valid_answer(key, value)}
    kept["model"] = kept.get("model") or suitable_model()
    kept["budget"] = kept["budget"] or plans.default_budget()
    return kept


def _is_valid_answer(key: str, value: object) -> bool:
    """Whether an answer means something; one kept by another version, or by hand, may not."""
    match key:
        case "kind" | "name":
            return isinstance(value, str)
        case "model":
            return isinstance(value, str) and value in presets.model_rows()
        case "budget" | "steps" | "rank" | "seed":
            return isinstance(value, int | float) and math.isfinite(value)
        case "speed":
            return value in tuple(PREVIEW_SPEEDS)
    return False


def suitable_model() -> str:
    """For the user's own photos a model of real pictures that is here; else the demo model."""
    if draft.load().own_photos:
        ready = [o.model for o in sources.list_models() if o.state == "ready" and not o.demo]
        if ready:
            return ready[0]
    return DEMO_MODEL


def plan_for_answers(given: dict, photos_count: int) -> Plan | plans.NoPlan:
    """The plan for answers, whether or not the pet has a name by now."""
    kind = class_word(given["kind"]) or "pet"
    return plans.plan_for(given, trigger_word(given["name"]) or "pet", kind, photos_count)


def settings_for_answers(given: dict, photos_count: int) -> Settings:
    """Settings from the answers. Raises UserError for what is missing or cannot work."""
    trigger, class_name = trigger_word(given["name"]), class_word(given["kind"])
    if not class_name:
        raise BadInput(strings.NO_KIND, strings.NO_KIND_REMEDY)
    if not trigger:
        raise BadInput(strings.NO_NAME, strings.NO_NAME_REMEDY)
    if trigger == class_name:
        raise BadInput(strings.WORDING_SAME, strings.NO_NAME_REMEDY)
    found = plans.plan_for(given, trigger, class_name, photos_count)
    if isinstance(found, plans.NoPlan):
        raise found.error
    return found.settings


def train(
    uploads: list[str] | None,
    kind: str,
    name: str,
    model: str,
    budget: float | None,
    steps: float | None,
    seed: float | None,
    rank: float | None,
    speed: PreviewSpeed,
    anyway: bool,
) -> str:
    """Make a run from the photos of the draft (or, over the API, from `uploads`) and start it.

    model: a row of presets/models.toml, "" = the studio's choice. budget: GB of graphics memory.
    steps, seed, rank: nothing = the studio's choice. speed: of sample pictures. anyway: the demo
    model on photos of one's own. Returns the run's name. Raises UserError when something is missing or a training is running.
    """
    with _train_lock:
        _require_idle()
        now, own = draft.load(), bool(uploads) or draft.load().own_photos
        given: dict = {"kind": kind, "name": name, "model": model or suitable_model()}
        given |= {"budget": budget, "steps": steps, "seed": seed, "rank": rank, "speed": speed}
        settings = settings_for_answers(given, len(uploads or now.photos))
        if not uploads and not now.photos:
            raise BadPhoto(strings.NO_PHOTOS, strings.NO_PHOTOS_REMEDY)
        if presets.model_row(settings.model).demo and own and not anyway:
            raise BadInput(strings.OWN_PHOTOS_TITLE, strings.OWN_PHOTOS_REMEDY)
        _require_model(settings.model)
        if uploads:
            run = _create_from_uploads(settings, uploads)
        else:
            run = create_run(
                settings, draft.write_photo_files(lambda text: training_caption(text, settings))
            )
        run_preferences.save(run, pet=" ".join(name.split())[:40], drawn=not own)
        run_state.start(run)
        if not uploads:
            draft.clear()
        return run.name


def training_caption(text: str, settings: Settings) -> str:
    """What is said of a photo, with the pet's name in it: “lying on a sofa” → “a photo of momo cat,
    lying on a sofa”; a caption that has the name stays as it is."""
    if settings.trigger in re.findall(r"\w+", text.lower()):
        return text
    return captions.add_subject(text, settings.trigger, settings.class_name)


def stop(run: str) -> str:
    """Stop a training; what was learnt so far is kept and can be gone on with."""
    find_run(run).send_command("stop")
    return run


def pause(run: str) -> str:
    """Pause a training and free the graphics memory."""
    find_run(run).send_command("pause")
    return run


def resume(run: str) -> str:
    """Go on with a training that was paused, stopped, cut off or failed."""
    with _train_lock:
        _require_idle()
        run_state.start(find_run(run))
    return run


def request_previews(run: str) -> str:
    """Sample pictures now, between two steps."""
    find_run(run).send_command("preview")
    return run


def extend(run: str, steps: int) -> str:
    """Let a training that is over learn until `steps` steps in all."""
    with _train_lock:
        _require_idle()
        found = find_run(run)
        done = run_state.read(found).step
        if not steps or int(steps) <= done:
            raise BadInput(strings.EXTEND_LESS.format(steps=done), strings.EXTEND_LESS_REMEDY)
        found.set_total_steps(int(steps))
        run_state.start(found)
    return run


def status(run: str = "") -> dict:
    """How a training goes: run, state, stage, step, steps, percent, loss, exported. "" = the
    newest."""
    latest = list_runs()[:1]
    if not run and not latest:
        return {"run": "", "state": "none"}
    state = run_state.read(find_run(run) if run else latest[0])
    exported = state.exported
    return {
        "run": state.run.name,
        "state": state.status,
        "stage": state.stage,
        "step": state.step,
        "steps": state.steps,
        "percent": run_view.percent(state),
        "loss": state.loss,
        "exported": str(state.run.folder / exported.path) if exported else "",
    }


def plan(model: str = DEMO_MODEL, budget: float = 8.0, photos: int = 5, steps: int = 0) -> dict:
    """What a training would take, stage by stage, without doing it; what `plan --json` says.

    budget: GB of graphics memory. photos: how many. steps: 0 = the studio's choice.
    """
    given: dict = {"model": model, "budget": budget, "steps": steps}
    given |= dict.fromkeys(("rank", "seed", "speed"))
    found = plans.plan_for(given, "pet", "pet", photos)
    if isinstance(found, plans.NoPlan):
        raise found.error
    return found.to_dict()


def find_run(name: str) -> Run:
    """A run by its name; paths are not accepted here. Raises UserError when there is none."""
    found = next((run for run in list_runs() if run.name == name), None)
    if found is None:
        raise NotFound(strings.NO_RUN, strings.NO_RUN_REMEDY)
    return found


def load_demo() -> None:
    """Put the demo pet's photos into the draft, and its kind and name into the answers."""
    from blockskip.data.demo_photos import demo_pet

    folder, kind = demo_pet()
    draft.clear()
    draft.add([folder], demo=True)
    draft.save_answers(kind=kind, name=strings.DEMO_NAME, model=DEMO_MODEL)


def copy_to_draft(run: str) -> None:
    """Put a run's photos and answers back into the draft, to train once more."""
    old = find_run(run)
    settings = old.settings()
    draft.clear()
    draft.add([old.photos_dir], demo=bool(run_preferences.load(old).get("drawn")))
    draft.save_answers(
        kind=settings.class_name,
        name=run_preferences.pet_name(old),
        model=settings.model,
        budget=settings.budget_gib,
        steps=settings.steps,
        rank=settings.rank,
        seed=settings.seed,
        speed=settings.plan.preview_speed,
    )


def _require_idle() -> None:
    busy = run_state.running()
    if busy is not None:
        raise WrongState(
            f"“{run_preferences.pet_name(busy)}” is being trained.", strings.BUSY_REMEDY
        )


def _require_model(model: str) -> None:
    row = presets.model_row(model)
    try:
        sources.find_model(row)
    except UserError as error:
        title = strings.MODEL_MISSING.format(title=row.title)
        raise ModelMissing(title, strings.MODEL_MISSING_REMEDY) from error


def _create_from_uploads(settings: Settings, uploads: list[str]) -> Run:
    good, bad = photos.read_photos([Path(path) for path in uploads], settings.subject_caption)
    if not good:
        raise BadPhoto("; ".join(f"{r.name}: {r.reason}" for r in bad), strings.NO_PHOTOS_REMEDY)
    with tempfile.TemporaryDirectory(dir=data_dir()) as folder:
        clean = []
        for photo in good:
            clean.append(Path(folder) / f"{files.fingerprint(photo.sha)}.png")
            photos.reencode(photo.path, clean[-1])
        return create_run(settings, clean)
