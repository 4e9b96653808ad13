"""Actions of the buttons and the API on the draft and on trainings.

There are no widgets here. Functions take values, and return a run's name or raise `UserError`.
"""

from __future__ import annotations

import functools
import html
import logging
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import StrictBool

from blockskip.core import presets
from blockskip.core.errors import (
    BadInput,
    BadPhoto,
    ModelMissing,
    NotFound,
    Unexpected,
    UserError,
)
from blockskip.core.paths import data_dir
from blockskip.core.settings import ExecutionPlan, PreviewSpeed, Settings, Text
from blockskip.core.shortage import shortage
from blockskip.core.validation import validated
from blockskip.memory.planning.planner import Plan
from blockskip.models import sources
from blockskip.runs import run_queue
from blockskip.runs.expected_time import expected_dict
from blockskip.runs.problem import UNREADABLE, reading, state_and_problem
from blockskip.runs.run import Run, list_runs
from blockskip.runs.start_gate import starting
from blockskip.studio import (
    draft,
    held_out,
    inputs,
    model_catalog,
    new_run,
    pet_search,
    plans,
    removed_photos,
    run_preferences,
    run_state,
    run_view,
    strings,
)
from blockskip.studio.formatting import in_words, without_commands
from blockskip.studio.measuring import press
from blockskip.studio.plans import DEMO_MODEL

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


def log_path() -> Path:
    return data_dir() / "studio.log"


def user_errors(fn: Callable[P, T], programs: bool = False) -> Callable[P, T]:
    """Wrap fn, which answers a press, so that an error becomes one gr.Error in plain words.
    Unexpected errors are logged. A press comes before a measurement of this computer's speed.

    programs: for API endpoints, the title is the error's kind (core/errors.py). On the page it is
    Gradio's own.
    """

    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        press()
        try:
            return fn(*args, **kwargs)
        except UserError as error:
            raise _shown(error, programs) from error
        except Exception as error:
            log.exception("%s failed", fn.__name__)
            short = shortage(error) or Unexpected(strings.GENERAL_ERROR.format(log=log_path()))
            raise _shown(short, programs) from error

    return wrapper


def _shown(error: UserError, programs: bool) -> Exception:
    import gradio as gr

    words = (
        f"{error.title} {error.remedy}".strip() if programs else without_commands(in_words(error))
    )
    return gr.Error(
        html.escape(words),
        title=error.kind if programs else "Error",
        duration=12,
        print_exception=False,
    )


def trigger_word(name: str | None) -> str:
    """Return the trigger word: the name's letters without accents, "Größe 2" → "grosse"."""
    plain = unicodedata.normalize("NFKD", (name or "").casefold())
    return re.sub(r"[^a-z]", "", plain)[:24]


def class_word(kind: str | None) -> str:
    """Return the kind of animal as captions write it: one line, lower case."""
    return " ".join(re.sub(r"[^\w '-]", " ", (kind or "").lower()).split())[:40]


def current_answers() -> dict:
    """Return the saved answers, with the studio's own choice where one is needed."""
    answers: dict = {"kind": "cat", "name": "", "speed": ExecutionPlan.preview_speed}
    answers |= dict.fromkeys(("budget", "steps", "rank", "seed"))
    saved = draft.load().answers
    known = {key: value for key, value in saved.items() if key in inputs.ANSWERS}
    answers |= {key: value for key, value in known.items() if _is_valid_answer(key, value)}
    answers["model"] = answers.get("model") or suitable_model()
    answers["budget"] = answers["budget"] or plans.default_budget()
    return answers


def _is_valid_answer(key: str, value: object) -> bool:
    """Return whether an answer is valid. One saved by another version, or by hand, may not be."""
    try:
        inputs.checked_answers({key: value})
    except UserError:
        return False
    return value in presets.model_rows() if key == "model" else value is not None


def suitable_model() -> str:
    """Return an available model of real pictures for the user's own photos, else the demo model."""
    ready = model_catalog.ready_models() if draft.load().own_photos else []
    return next(iter(ready), DEMO_MODEL)


def plan_for_answers(answers: dict, photos_count: int) -> Plan | plans.NoPlan:
    """Return the plan for the answers, even if the pet has no name yet."""
    kind = class_word(answers["kind"]) or "pet"
    return plans.plan_for(answers, trigger_word(answers["name"]) or "pet", kind, photos_count)


def settings_for_answers(answers: dict, photos_count: int) -> Settings:
    """Return settings for the answers. Raises UserError if one is missing or nothing fits."""
    trigger, class_name = trigger_word(answers["name"]), class_word(answers["kind"])
    if not class_name:
        raise BadInput(strings.NO_KIND, strings.NO_KIND_REMEDY)
    if not trigger:
        raise BadInput(strings.NO_NAME, strings.NO_NAME_REMEDY)
    if trigger == class_name:
        raise BadInput(strings.WORDING_SAME, strings.NO_NAME_REMEDY)
    planned = plans.plan_for(answers, trigger, class_name, photos_count)
    if isinstance(planned, plans.NoPlan):
        raise planned.error
    return planned.settings


def train(
    uploads: list[str] | None,
    kind: str | None,
    name: str | None,
    model: str | None,
    budget: float | None,
    steps: float | None,
    seed: float | None,
    rank: float | None,
    speed: PreviewSpeed | None,
    anyway: bool | None,
) -> str:
    """Create a run from the draft's photos (API: from `uploads`), and start it, or put it in the
    queue while another one trains. Return its name.

    model: a row of presets/models.toml, "" = the studio's choice. budget: GiB. steps, seed, rank:
    None = the studio's choice. anyway: train the demo model on the user's own photos. Raises
    UserError if an answer, the photos or the model cannot be used.
    """
    answers: dict = {"kind": kind, "name": name, "model": model, "budget": budget}
    answers |= {"steps": steps, "seed": seed, "rank": rank, "speed": speed}
    answers = inputs.checked_answers(answers)
    anyway = validated(StrictBool | None, anyway, "anyway")
    uploads = validated(list[inputs.UploadPath] | None, uploads, "uploads")
    settings, _ = _settings_to_train(answers, uploads, anyway)
    if not uploads:
        pet_search.finish(draft.load(), settings.model, settings.class_name)
    with starting():
        settings, own = _settings_to_train(answers, uploads, anyway)
        run = new_run.from_uploads(settings, uploads) if uploads else new_run.from_draft(settings)
        run_preferences.save(run, pet=" ".join((name or "").split())[:40], drawn=not own)
        run_queue.begin(run, run_state.start)
        if not uploads:
            draft.clear()
            removed_photos.forget()
        return run.name


def _settings_to_train(
    answers: dict, uploads: list[str] | None, anyway: bool | None
) -> tuple[Settings, bool]:
    """Return the settings of a training that may begin now, and whether the photos are the user's.
    Raises UserError as `train` does."""
    saved, own = draft.load(), bool(uploads) or draft.load().own_photos
    answers = answers | {"model": answers["model"] or suitable_model()}
    count = len(uploads) if uploads else held_out.num_trained(saved, answers)
    settings = settings_for_answers(answers, count)
    if not uploads and not saved.photos:
        raise BadPhoto(strings.NO_PHOTOS, strings.NO_PHOTOS_REMEDY)
    if presets.model_row(settings.model).demo and own and not anyway:
        raise BadInput(strings.OWN_PHOTOS_TITLE, strings.OWN_PHOTOS_REMEDY)
    _require_model(settings.model)
    return settings, own


def stop(run: str) -> str:
    """Stop a training. It keeps what was learnt and can be resumed."""
    asked = find_run(run)
    asked.send_command("stop")
    run_state.ask(asked, "stop")
    return run


def pause(run: str) -> str:
    """Pause a training and free the graphics memory. Others that wait are held."""
    asked = find_run(run)
    run_queue.pause(asked)
    run_state.ask(asked, "pause")
    return run


def resume(run: str) -> str:
    """Resume a training that was paused, stopped, interrupted or failed, before all that wait."""
    run_queue.begin(find_run(run), run_state.start)
    return run


def request_previews(run: str) -> str:
    """Request sample pictures after the current step."""
    find_run(run).send_command("preview")
    return run


def extend(run: str, steps: int) -> str:
    """Continue a finished training up to `steps` steps in total.

    Raises UserError if that is not more than it has.
    """
    with starting():
        extended = find_run(run)
        done = run_state.read(extended).step
        total = validated(inputs.Steps, steps or 0, "steps")
        if total <= done:
            raise BadInput(strings.EXTEND_LESS.format(steps=done), strings.EXTEND_LESS_REMEDY)
        extended.set_total_steps(total)
        run_queue.begin(extended, run_state.start)
    return run


def status(run: str = "") -> dict:
    """Return run, state, stage, step, steps, percent, loss and exported of a training.

    run: its name, "" = the newest.
    """
    shown = latest_run() if run in ("", None) else find_run(run)
    if shown is None:
        return {"run": "", "state": "none"}
    with reading(shown):
        state = run_state.read(shown)
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
    """Return what a training would need, stage by stage, as `plan --json` prints it.

    budget: GiB of graphics memory. photos: how many. steps: 0 = the studio's choice. Raises
    UserError if nothing fits.
    """
    answers = inputs.checked_answers({"model": model, "budget": budget, "steps": steps})
    answers |= dict.fromkeys(("rank", "seed", "speed"))
    answers["model"] = answers["model"] or ""
    count = validated(inputs.Photos, photos, "photos")
    planned = plans.plan_for(answers, "pet", "pet", count)
    if isinstance(planned, plans.NoPlan):
        raise planned.error
    return planned.to_dict() | expected_dict(planned.settings)


def latest_run() -> Run | None:
    """Return the newest readable run, the newest if none is readable, or None."""
    runs = list_runs()
    return next((run for run in runs if state_and_problem(run)[0] != UNREADABLE), (*runs, None)[0])


def find_run(name: str) -> Run:
    """Return the run of that name; paths are not accepted. Raises NotFound if there is none."""
    name = validated(Text, name, "run")
    run = next((run for run in list_runs() if run.name == name), None)
    if run is None:
        raise NotFound(strings.NO_RUN, strings.NO_RUN_REMEDY)
    return run


def load_demo() -> None:
    """Put the demo pet's photos in the draft, and its kind and name in the answers."""
    from blockskip.data.demo_photos import demo_pet

    folder, kind = demo_pet()
    draft.clear()
    draft.add([folder], demo=True)
    draft.save_answers(kind=kind, name=strings.DEMO_NAME, model=DEMO_MODEL)


def copy_to_draft(run: str) -> None:
    """Put a run's photos and answers back in the draft, to train again."""
    new_run.to_draft(find_run(run))


def _require_model(model: str) -> None:
    row = presets.model_row(model)
    try:
        sources.find_model(row)
    except UserError as error:
        title = strings.MODEL_MISSING.format(title=row.title)
        raise ModelMissing(title, strings.MODEL_MISSING_REMEDY) from error
