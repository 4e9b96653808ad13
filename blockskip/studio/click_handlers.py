"""Presses inside the drawn parts of the page: their name → what is done, and where it leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blockskip.runs import image_requests
from blockskip.studio import actions, draft, model_catalog, result_actions


@dataclass(frozen=True)
class Leads:
    """shown: what the tab shows next. fills: the answers' widgets are filled anew."""

    shown: str
    fills: bool = False


def press(shown: str, said: dict) -> Leads | None:
    """said: `do` and what else the pressed button carries. None: the tab stays where it is.

    Raises UserError. What no button of ours says is not done.
    """
    what = PRESSES.get(str(said.get("do", "")))
    return what(shown, said) if what else None


def _text(said: dict, key: str, longest: int = 2000) -> str:
    return str(said.get(key) or "")[:longest]


def _then(fn: Callable[[str, dict], object]) -> Callable[[str, dict], None]:
    """Do it, and stay."""

    def stays(shown: str, said: dict) -> None:
        fn(shown, said)

    return stays


def _photo(shown: str, said: dict) -> None:
    """Caption, if one is said, and frame of one photo."""
    box = said.get("box")
    edges = tuple(min(1.0, max(0.0, float(edge))) for edge in box) if box else None
    good = edges is None or (len(edges) == 4 and edges[0] < edges[2] and edges[1] < edges[3])
    caption = " ".join(_text(said, "caption").split()) if "caption" in said else None
    draft.describe(_text(said, "file"), caption, edges if good else None)


def _clear(shown: str, said: dict) -> Leads:
    draft.clear()
    return Leads(shown, fills=True)


def _choose_model(shown: str, said: dict) -> Leads:
    draft.answer(model=_text(said, "model"))
    return Leads(shown, fills=True)


def _use_comfyui(shown: str, said: dict) -> Leads:
    model_catalog.use_comfyui(_text(said, "folder") or _text(said, "value"))
    return Leads(shown, fills=True)


def _budget(shown: str, said: dict) -> Leads:
    draft.answer(budget=float(said["budget"]))
    return Leads(shown, fills=True)


def _again(shown: str, said: dict) -> Leads:
    actions.again(_text(said, "run"))
    return Leads("", fills=True)


PRESSES: dict[str, Callable[[str, dict], Leads | None]] = {
    "here": lambda shown, said: Leads(shown, fills=True),
    "list": lambda shown, said: Leads("*"),
    "new": lambda shown, said: Leads("", fills=True),
    "open": lambda shown, said: Leads(_text(said, "run")),
    "again": _again,
    "rename": _then(
        lambda shown, said: result_actions.rename(_text(said, "run"), _text(said, "value"))
    ),
    "delete": _then(lambda shown, said: result_actions.delete(_text(said, "run"))),
    "remove": _then(lambda shown, said: draft.remove(_text(said, "file"))),
    "clear": _clear,
    "photo": _then(_photo),
    "mark_all": _then(lambda shown, said: draft.mark_all()),
    "unmark_all": _then(lambda shown, said: draft.unmark_all()),
    "describe": _then(lambda shown, said: model_catalog.describe_photos()),
    "model": _choose_model,
    "use_comfyui": _use_comfyui,
    "fetch": _then(lambda shown, said: model_catalog.fetch(_text(said, "model"))),
    "fetch_stop": _then(lambda shown, said: model_catalog.fetch_stop(_text(said, "model"))),
    "token": _then(
        lambda shown, said: model_catalog.try_token(_text(said, "model"), _text(said, "value", 400))
    ),
    "clean": _then(lambda shown, said: model_catalog.clean()),
    "move_data": _then(lambda shown, said: model_catalog.move_data(_text(said, "value"))),
    "budget": _budget,
    "keep": _then(lambda shown, said: result_actions.choose_step(shown, int(said["step"]))),
    "paint_delete": _then(
        lambda shown, said: image_requests.delete(actions.find(shown), _text(said, "id"))
    ),
    "paint_stop": _then(lambda shown, said: image_requests.cancel(actions.find(shown))),
}
