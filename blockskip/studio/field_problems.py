"""What keeps a training from beginning, field by field, so that the page can show all of it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.models import sources
from blockskip.studio import actions, draft, held_out, inputs, plans, strings
from blockskip.studio.formatting import in_words
from blockskip.studio.plan_strings import refusal_text


@dataclass(frozen=True)
class Problem:
    """field: elem_id of the widget that it belongs to, in the page's order. text: what is wrong and
    what to do."""

    field: str
    text: str


def find(answers: Mapping[str, Any], anyway: bool | None) -> list[Problem]:
    """Return the problems of the answers and of the draft's photos, [] if training may begin."""
    saved, found = draft.load(), []
    if not saved.photos:
        found.append(Problem("drop", f"{strings.NO_PHOTOS} {strings.NO_PHOTOS_REMEDY}"))
    trigger, kind = actions.trigger_word(answers["name"]), actions.class_word(answers["kind"])
    if not kind:
        found.append(Problem("kind", f"{strings.NO_KIND} {strings.NO_KIND_REMEDY}"))
    if not trigger:
        found.append(Problem("name", f"{strings.NO_NAME} {strings.NO_NAME_REMEDY}"))
    elif trigger == kind:
        found.append(Problem("name", strings.WORDING_SAME))
    wrong = [Problem(key, text) for key in answers if (text := _unusable(key, answers[key]))]
    if wrong:
        return found + wrong
    known = dict(answers) | {"model": answers["model"] or actions.suitable_model()}
    row = presets.model_row(known["model"])
    try:
        sources.find_model(row)
    except UserError:
        title = strings.MODEL_MISSING.format(title=row.title)
        found.append(Problem("models", f"{title} {strings.MODEL_MISSING_REMEDY}"))
    planned = actions.plan_for_answers(known, held_out.num_trained(saved, known))
    if isinstance(planned, plans.NoPlan):
        found.append(Problem("budget", " ".join(refusal_text(planned.error))))
    if row.demo and saved.own_photos and not anyway:
        found.append(Problem("own", f"{strings.OWN_PHOTOS_TITLE} {strings.OWN_PHOTOS_REMEDY}"))
    return found


def _unusable(key: str, value: Any) -> str:
    """Return why a value cannot be used, "" if it can."""
    try:
        inputs.checked_answers({key: value})
    except UserError as error:
        return in_words(error)
    return ""
