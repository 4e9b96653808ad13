"""Handlers of clicks inside the drawn parts of the page, by the name that a button sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blockskip.core import idle_worker
from blockskip.core.errors import BadInput
from blockskip.core.validation import validated
from blockskip.runs import image_requests, likeness, run_queue
from blockskip.studio import (
    actions,
    card_view,
    describe,
    draft,
    draft_frames,
    folder_dialog,
    held_out,
    model_catalog,
    pet_search,
    places,
    queue_screen,
    removed_photos,
    result_actions,
    set_aside,
    strings,
)
from blockskip.studio.inputs import Click


@dataclass(frozen=True)
class Navigation:
    """What a click does to the tab. view: its next view, None to stay. refills_form: reload the
    saved answers."""

    view: str | None = None
    refills_form: bool = False


STAY, REFILL = Navigation(), Navigation(refills_form=True)


def resume_as_planned(run: str) -> str:
    """Resume a training with the settings from before graphics memory ran out."""
    actions.find_run(run).forget_fallbacks()
    return actions.resume(run)


def handle_click(view: str, payload: object) -> Navigation:
    """Handle a click. Return where it leads.

    Ways to other places are links, which the page follows itself (assets/places.js): an answer that
    comes late would lead back.

    payload: `do` and the other data of the clicked button. An unknown `do` is ignored. Raises the
    handler's UserError, and BadInput for data that no button sends.
    """
    sent = validated(dict, payload or {}, "This click")
    handler = CLICK_HANDLERS.get(str(sent.get("do", "")))
    if handler is None:
        return STAY
    said = {key: value for key, value in sent.items() if value is not None}
    return handler(view, validated(Click, said, "This click"))


def _staying(fn: Callable[[str, Click], object]) -> Callable[[str, Click], Navigation]:
    """Wrap fn to stay on the same view."""

    def stays(view: str, click: Click) -> Navigation:
        fn(view, click)
        return STAY

    return stays


def _photo(view: str, click: Click) -> None:
    """Save the frame of one photo, unless it was kept, and its caption if one was sent."""
    box = click.box and tuple(min(1.0, max(0.0, edge)) for edge in click.box)
    good = box is None or (box[0] < box[2] and box[1] < box[3])
    caption = None if click.caption is None else " ".join(click.caption.split())
    draft.edit_photo(click.file, caption, box if good else None, click.frame_kept)


def _mark_all(view: str, click: Click) -> None:
    pet_search.mark_all(_kind())


def _kind() -> str:
    return actions.class_word(actions.current_answers()["kind"]) or "pet"


def _caption(view: str, click: Click) -> None:
    """Give several photos one caption; value "all": also those that have one."""
    caption = " ".join((click.caption or "").split())
    set_aside.write_caption(click.files, caption, click.value == "all")


def _clear(view: str, click: Click) -> Navigation:
    describe.stop()
    removed_photos.clear()
    return REFILL


def _undo(view: str, click: Click) -> Navigation:
    removed_photos.undo()
    return REFILL


def _choose_model(view: str, click: Click) -> Navigation:
    draft.save_answers(model=click.model)
    return REFILL


def _use_comfyui(view: str, click: Click) -> Navigation:
    model_catalog.use_comfyui(click.folder or click.value)
    return REFILL


def _pick_comfyui(view: str, click: Click) -> Navigation:
    if folder := folder_dialog.choose(strings.COMFYUI_FOLDER):
        model_catalog.use_comfyui(str(folder))
    return REFILL


def _pick_data(view: str, click: Click) -> None:
    if folder := folder_dialog.choose(strings.DATA_MOVE):
        model_catalog.move_data(str(folder))


def _budget(view: str, click: Click) -> Navigation:
    if click.budget is None:
        raise BadInput("This click: budget is missing.")
    draft.save_answers(budget=click.budget)
    return REFILL


def _keep(view: str, click: Click) -> None:
    if click.step is None:
        raise BadInput("This click: step is missing.")
    result_actions.choose_step(view, click.step)


def _train_again(view: str, click: Click) -> Navigation:
    actions.copy_to_draft(click.run)
    return Navigation("", refills_form=True)


def _delete(view: str, click: Click) -> Navigation:
    """Delete a training; its own page leads to the list then."""
    result_actions.delete(click.run)
    return Navigation(places.LIST_VIEW) if view == click.run else STAY


def _hold_out(view: str, click: Click) -> None:
    held_out.change(actions.current_answers(), click.file, bool(click.value))


CLICK_HANDLERS: dict[str, Callable[[str, Click], Navigation]] = {
    "here": lambda view, click: REFILL,
    "list": lambda view, click: STAY,
    "new": lambda view, click: REFILL,
    "open": lambda view, click: STAY,
    "again": _train_again,
    "rename": _staying(lambda view, click: result_actions.rename(click.run, click.value)),
    "delete": _delete,
    "remove": _staying(lambda view, click: removed_photos.remove(*(click.files or (click.file,)))),
    "keep_best": _staying(lambda view, click: set_aside.keep_best(pet_search.found(_kind()))),
    "set_aside": _staying(lambda view, click: set_aside.set_aside(click.files)),
    "bring_back": _staying(lambda view, click: set_aside.bring_back(click.file)),
    "caption": _staying(_caption),
    "clear": _clear,
    "undo": _undo,
    "undo_forget": _staying(lambda view, click: removed_photos.forget()),
    "photo": _staying(_photo),
    "mark_all": _staying(_mark_all),
    "unmark_all": _staying(lambda view, click: draft_frames.unmark_all()),
    "find_again": _staying(lambda view, click: pet_search.retry()),
    "hold_out": _staying(_hold_out),
    "queue_move": _staying(lambda view, click: queue_screen.move(click.run, click.value)),
    "queue_remove": _staying(lambda view, click: queue_screen.remove(click.run)),
    "queue_hold": _staying(lambda view, click: run_queue.hold(True)),
    "queue_go": _staying(lambda view, click: queue_screen.let_go_on()),
    "describe": _staying(lambda view, click: describe.start()),
    "describe_anyway": _staying(lambda view, click: describe.start(anyway=True)),
    "describe_stop": _staying(lambda view, click: describe.stop()),
    "describe_with": _staying(lambda view, click: describe.choose(click.value)),
    "describe_words": _staying(lambda view, click: describe.ask_for(click.value)),
    "server_look": _staying(lambda view, click: describe.look_for_models(click.value)),
    "server_allow": _staying(lambda view, click: describe.look_for_models(click.value, True)),
    "server_model": _staying(lambda view, click: describe.choose_server_model(click.model)),
    "model": _choose_model,
    "use_comfyui": _use_comfyui,
    "pick_comfyui": _pick_comfyui,
    "pick_data": _staying(_pick_data),
    "fetch": _staying(lambda view, click: model_catalog.fetch(click.model)),
    "fetch_stop": _staying(lambda view, click: model_catalog.fetch_stop(click.model)),
    "token": _staying(lambda view, click: model_catalog.try_token(click.model, click.value)),
    "clean": _staying(lambda view, click: model_catalog.clean()),
    "move_data": _staying(lambda view, click: model_catalog.move_data(click.value)),
    "budget": _budget,
    "free_comfyui": _staying(lambda view, click: card_view.free_comfyui()),
    "close_model": _staying(lambda view, click: idle_worker.free()),
    "keep": _staying(_keep),
    "show_folder": _staying(lambda view, click: result_actions.show_folder(click.run)),
    "measure": _staying(lambda view, click: result_actions.measure_again(view)),
    "measure_more": _staying(lambda view, click: result_actions.measure_more(view)),
    "measure_stop": _staying(lambda view, click: likeness.stop(actions.find_run(view))),
    "paint_delete": _staying(
        lambda view, click: image_requests.delete(actions.find_run(view), click.id)
    ),
    "paint_stop": _staying(lambda view, click: image_requests.cancel(actions.find_run(view))),
}
