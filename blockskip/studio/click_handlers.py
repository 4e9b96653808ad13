"""Handlers of clicks inside the drawn parts of the page, by the name that a button sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blockskip.runs import image_requests
from blockskip.studio import actions, draft, model_catalog, result_actions


@dataclass(frozen=True)
class Navigation:
    """What a click does to the tab. view: its next view, None to stay. refills_form: reload the
    saved answers."""

    view: str | None = None
    refills_form: bool = False


STAY, REFILL = Navigation(), Navigation(refills_form=True)


def handle_click(view: str, payload: dict) -> Navigation:
    """Handle a click. Return where it leads.

    Clicks that only change the view are handled by the page itself (`navigate` in
    assets/studio.js): an answer that comes late would lead back to an older view.

    payload: `do` and the other data of the clicked button. An unknown `do` is ignored. Raises the
    handler's UserError.
    """
    handler = CLICK_HANDLERS.get(str(payload.get("do", "")))
    return handler(view, payload) if handler else STAY


def _text_field(payload: dict, key: str, longest: int = 2000) -> str:
    return str(payload.get(key) or "")[:longest]


def _staying(fn: Callable[[str, dict], object]) -> Callable[[str, dict], Navigation]:
    """Wrap fn to stay on the same view."""

    def stays(view: str, payload: dict) -> Navigation:
        fn(view, payload)
        return STAY

    return stays


def _photo(view: str, payload: dict) -> None:
    """Save the frame of one photo, and its caption if one was sent."""
    box = payload.get("box")
    edges = tuple(min(1.0, max(0.0, float(edge))) for edge in box) if box else None
    good = edges is None or (len(edges) == 4 and edges[0] < edges[2] and edges[1] < edges[3])
    caption = " ".join(_text_field(payload, "caption").split()) if "caption" in payload else None
    draft.edit_photo(_text_field(payload, "file"), caption, edges if good else None)


def _clear(view: str, payload: dict) -> Navigation:
    draft.clear()
    return REFILL


def _choose_model(view: str, payload: dict) -> Navigation:
    draft.save_answers(model=_text_field(payload, "model"))
    return REFILL


def _use_comfyui(view: str, payload: dict) -> Navigation:
    model_catalog.use_comfyui(_text_field(payload, "folder") or _text_field(payload, "value"))
    return REFILL


def _budget(view: str, payload: dict) -> Navigation:
    draft.save_answers(budget=float(payload["budget"]))
    return REFILL


def _train_again(view: str, payload: dict) -> Navigation:
    actions.copy_to_draft(_text_field(payload, "run"))
    return Navigation("", refills_form=True)


CLICK_HANDLERS: dict[str, Callable[[str, dict], Navigation]] = {
    "here": lambda view, payload: REFILL,
    "list": lambda view, payload: STAY,
    "new": lambda view, payload: REFILL,
    "open": lambda view, payload: STAY,
    "again": _train_again,
    "rename": _staying(
        lambda view, payload: result_actions.rename(
            _text_field(payload, "run"), _text_field(payload, "value")
        )
    ),
    "delete": _staying(lambda view, payload: result_actions.delete(_text_field(payload, "run"))),
    "remove": _staying(lambda view, payload: draft.remove(_text_field(payload, "file"))),
    "clear": _clear,
    "photo": _staying(_photo),
    "mark_all": _staying(lambda view, payload: draft.mark_all()),
    "unmark_all": _staying(lambda view, payload: draft.unmark_all()),
    "describe": _staying(lambda view, payload: model_catalog.describe_photos()),
    "model": _choose_model,
    "use_comfyui": _use_comfyui,
    "fetch": _staying(lambda view, payload: model_catalog.fetch(_text_field(payload, "model"))),
    "fetch_stop": _staying(
        lambda view, payload: model_catalog.fetch_stop(_text_field(payload, "model"))
    ),
    "token": _staying(
        lambda view, payload: model_catalog.try_token(
            _text_field(payload, "model"), _text_field(payload, "value", 400)
        )
    ),
    "clean": _staying(lambda view, payload: model_catalog.clean()),
    "move_data": _staying(
        lambda view, payload: model_catalog.move_data(_text_field(payload, "value"))
    ),
    "budget": _budget,
    "keep": _staying(lambda view, payload: result_actions.choose_step(view, int(payload["step"]))),
    "paint_delete": _staying(
        lambda view, payload: image_requests.delete(
            actions.find_run(view), _text_field(payload, "id")
        )
    ),
    "paint_stop": _staying(lambda view, payload: image_requests.cancel(actions.find_run(view))),
}
