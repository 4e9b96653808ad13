"""Widget updates of the setup column, where a training is prepared; see screen.py."""

from __future__ import annotations

from blockskip.core import presets
from blockskip.core.settings import Settings
from blockskip.memory import monitor
from blockskip.memory.planning.planner import Plan
from blockskip.memory.planning.request import free_vram_gib
from blockskip.runs import storage
from blockskip.runs.expected_time import ExpectedTime, expected_time, finished_runs
from blockskip.runs.run import Run
from blockskip.studio import (
    actions,
    card_view,
    describe,
    describe_view,
    draft,
    held_out,
    measuring,
    model_catalog,
    model_view,
    pet_search,
    photo_view,
    places,
    plan_view,
    plans,
    removed_photos,
    run_preferences,
    run_state,
    strings,
)
from blockskip.studio.formatting import action_button, action_link, duration, e, note

PARTS = ("photos", "describe", "models", "wording", "marks", "plan", "own_words", "train", "busy")


def parts() -> tuple[dict[str, dict], draft.Draft]:
    """Return the updates of PARTS, and the draft that they show."""
    captions = describe.state()  # first, because it adds captions to the draft
    saved, answers, busy = draft.load(), actions.current_answers(), run_state.running()
    row, unseen = presets.model_row(answers["model"]), held_out.find(saved, answers)
    count, models = len(saved.photos) - len(unseen.files), model_catalog.snapshot()
    planned = actions.plan_for_answers(answers, count)
    settings = planned.settings if isinstance(planned, Plan) else Settings(model=row.name)
    trigger, kind = actions.trigger_word(answers["name"]), actions.class_word(answers["kind"])
    search, saved = pet_search.update(saved, row.name, kind or "pet")
    expected = None
    if isinstance(planned, Plan):
        expected = expected_time(planned.settings, finished_runs())
    parts = {
        "photos": photo_view.photos(
            saved, settings, captions.ready, search, answers["name"], unseen
        )
        + removed_photos.bar(),
        "describe": describe_view.captions(saved, captions),
        "models": model_view.models(models, row.name),
        "wording": _wording(trigger, kind or "pet"),
        "marks": plan_view.budget_sizes(answers["budget"])
        + _marks()
        + card_view.programs(planned)
        + card_view.open_model(),
        "plan": _plan(planned, row, expected),
        "own_words": _own_photos_hint(models) if saved.own_photos and row.demo else "",
        "busy": _busy(busy),
    }
    updates: dict[str, dict] = {name: {"value": value} for name, value in parts.items()}
    tells = isinstance(planned, Plan) and bool(saved.photos or busy)
    updates["train"] = {"value": _train(settings, busy, expected) if tells else strings.TRAIN}
    return updates, saved


def _train(settings: Settings, busy: Run | None, expected: ExpectedTime | None) -> str:
    """Return the words on the button: the steps, and the time if it is this computer's."""
    words = strings.TRAIN_STEPS if busy is None else strings.TRAIN_QUEUE
    train = words.format(steps=settings.steps)
    if expected is None or expected.basis == "common":
        return train
    return strings.TRAIN_TIME.format(train=train, time=duration(60 * expected.minutes))


def _wording(trigger: str, kind: str) -> str:
    """Return a line that shows how prompts name the pet."""
    if not trigger:
        return f'<p class="hint">{strings.WORDING_EMPTY}</p>'
    if trigger == kind:
        return f'<p class="hint warn">{strings.WORDING_SAME}</p>'
    return f'<p class="hint">{strings.WORDING.format(trigger=e(trigger), kind=e(kind))}</p>'


def _marks() -> str:
    usage, (low, high) = monitor.usage(), plans.budget_range()
    free = free_vram_gib()
    return plan_view.budget_marks(
        low, high, usage.vram_total_gib, usage.vram_total_gib - free, free
    )


def _plan(
    planned: Plan | plans.NoPlan, row: presets.ModelRow, expected: ExpectedTime | None
) -> str:
    if isinstance(planned, plans.NoPlan):
        return plan_view.refusal(planned.error, planned.smallest_gib)
    no_card = not row.demo and monitor.usage().vram_total_gib < 0
    warning = note(strings.NO_CARD, strings.NO_CARD_REMEDY, "warning") if no_card else ""
    return warning + plan_view.plan_figure(
        planned,
        row,
        expected,
        float(int(storage.available_memory()["disk_gib"])),
        measuring.state(),
    )


def _own_photos_hint(models: model_view.ModelCatalog) -> str:
    """Return the hint shown with own photos and the demo model: which model would suit them."""
    real = [offer for offer in models.list_models if not offer.demo]
    ready = next((offer for offer in real if offer.state == "ready"), None)
    suits = next((offer for offer in real if offer.model == models.recommended), None)
    better = ready or suits or next(iter(real), None)
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
    address = places.training(busy.name)
    watch_it = action_link(address, "open", strings.TRAIN_BUSY_OPEN, "link", run=busy.name)
    words = strings.TRAIN_BUSY_ABOUT.format(name=e(run_preferences.pet_name(busy)))
    return f'<p class="hint center">{words} {watch_it}</p>'
