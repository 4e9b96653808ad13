"""What the column shows where a training is put together; see screen.py."""

from __future__ import annotations

from blockskip.core import presets
from blockskip.core.settings import Settings
from blockskip.memory import monitor
from blockskip.memory.planning.planner import Plan
from blockskip.runs import storage
from blockskip.runs.run import Run
from blockskip.studio import (
    actions,
    draft,
    model_catalog,
    model_view,
    photo_view,
    plan_view,
    plans,
    run_state,
    strings,
)
from blockskip.studio.formatting import action_button, e, note

PARTS = ("photos", "models", "wording", "marks", "plan", "own", "own_words", "train", "busy")


def parts() -> tuple[dict[str, dict], draft.Draft]:
    """The column where a training is put together."""
    describing = model_catalog.describing()
    now, given, busy = draft.load(), actions.current_answers(), run_state.running()
    found, models = actions.plan_for_answers(given, len(now.photos)), model_catalog.snapshot()
    row = presets.model_row(given["model"])
    settings = found.settings if isinstance(found, Plan) else Settings(model=row.name)
    trigger, kind = actions.trigger_word(given["name"]), actions.class_word(given["kind"])
    own = now.own_photos and row.demo
    train = strings.TRAIN
    if isinstance(found, Plan) and now.photos:
        train = strings.TRAIN_STEPS.format(steps=settings.steps)
    parts = {
        "photos": photo_view.photos(now, settings, model_catalog.can_describe(), describing),
        "models": model_view.models(models, row.name),
        "wording": _wording(trigger, kind or "pet"),
        "marks": _marks(),
        "plan": _plan(found, row),
        "own_words": _own_photos_hint(models),
        "busy": _busy(busy),
    }
    made: dict[str, dict] = {name: {"value": value} for name, value in parts.items()}
    made["own"] = {"visible": own}
    made["train"] = {
        "interactive": busy is None,
        "value": train if busy is None else strings.TRAIN_BUSY,
    }
    return made, now


def _wording(trigger: str, kind: str) -> str:
    """How the pet is called in prompts."""
    if not trigger:
        return f'<p class="hint">{strings.WORDING_EMPTY}</p>'
    if trigger == kind:
        return f'<p class="hint warn">{strings.WORDING_SAME}</p>'
    return f'<p class="hint">{strings.WORDING.format(trigger=e(trigger), kind=e(kind))}</p>'


def _marks() -> str:
    now, (low, high) = monitor.usage(), plans.budget_range()
    return plan_view.budget_marks(
        low, high, now.vram_total_gib, now.vram_used_gib, now.vram_free_gib
    )


def _plan(found: Plan | plans.NoPlan, row: presets.ModelRow) -> str:
    if isinstance(found, plans.NoPlan):
        return plan_view.refusal(found.error, found.smallest_gib)
    minutes = plan_view.expected_minutes(run_state.finished_runs(), found.settings)
    no_card = not row.demo and monitor.usage().vram_total_gib < 0
    warning = note(strings.NO_CARD, strings.NO_CARD_REMEDY, "warning") if no_card else ""
    return warning + plan_view.plan_figure(
        found, row, minutes, float(int(storage.available_memory()["disk_gib"]))
    )


def _own_photos_hint(models: model_view.ModelCatalog) -> str:
    """For photos of one's own while the demo model is chosen: which model would suit them."""
    real = [offer for offer in models.list_models if not offer.demo]
    ready = next((offer for offer in real if offer.state == "ready"), None)
    better = ready or next(iter(real), None)
    if better is None:
        return f"<p>{strings.OWN_PHOTOS}</p>"
    words = strings.OWN_PHOTOS_READY if ready else strings.OWN_PHOTOS_MISSING
    button = action_button(
        "model", strings.OWN_PHOTOS_USE.format(title=better.title), model=better.model
    )
    return f"<p>{strings.OWN_PHOTOS} {e(words.format(title=better.title))}</p>{button}"


def _busy(busy: Run | None) -> str:
    if busy is None:
        return ""
    watch_it = action_button("open", strings.TRAIN_BUSY_OPEN, "link", run=busy.name)
    return f'<p class="hint center">{strings.TRAIN_BUSY_ABOUT} {watch_it}</p>'
