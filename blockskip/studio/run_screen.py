"""Widget updates for one training, its progress and its results; see screen.py."""

from __future__ import annotations

import os

from blockskip.core import presets
from blockskip.core.errors import NotFound, UserError
from blockskip.core.events import Failed
from blockskip.core.settings import Settings
from blockskip.runs import (
    checkpoints,
    image_requests,
    into_comfyui,
    likeness,
    likeness_pictures,
)
from blockskip.runs.expected_time import expected_time, finished_runs
from blockskip.runs.problem import reading
from blockskip.runs.run import RESUMABLE, Run, list_runs
from blockskip.studio import (
    charts,
    downloads,
    likeness_view,
    list_view,
    queue_screen,
    result_actions,
    result_view,
    run_preferences,
    run_state,
    run_view,
    strings,
    tool_view,
)
from blockskip.studio.formatting import e, in_words, kind_in_words, note

PARTS = (
    "status",
    "spoken",
    "pause",
    "resume",
    "as_planned",
    "stop",
    "look",
    "delete",
    "messages",
    "notes",
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
_HIDEABLE = ("pause", "resume", "as_planned", "stop", "look", "notes", "previews", "charts")


def parts(view: str) -> tuple[dict[str, dict], str]:
    """Return the updates of PARTS for the run shown, and the current step of the navigation.

    An unreadable run shows only its error.
    """
    run = next((run for run in list_runs() if run.name == view), None)
    try:
        if run is None:
            raise NotFound(strings.NO_RUN, strings.NO_RUN_REMEDY)
        with reading(run):
            return _parts_of(run)
    except UserError as error:
        parts: dict[str, dict] = {name: {"value": ""} for name in ("hero", "spoken", "delete")}
        parts["status"] = {"value": f'<div data-run="{e(view)}"></div>'}
        parts["messages"] = {"value": note(error.title, error.remedy, "error"), "visible": True}
        return parts | dict.fromkeys(_HIDEABLE, {"visible": False}), "train"


def _parts_of(run: Run) -> tuple[dict[str, dict], str]:
    info, settings, state = run.info(), run.settings(), run_state.read(run)
    name, photo_files = run_preferences.pet_name(run), _photo_files(run)
    waiting, working = run_state.pending_command(run), state.status == "running"
    messages, notes = run_view.messages(state) + queue_screen.place(run), run_view.notes(state)
    expected_s = _expected_s(state, settings)
    if "eased" in info and state.status != "done":
        messages += run_view.eased(run.settings(original=True), settings)
    parts: dict[str, dict] = {
        "status": {
            "value": run_view.status(state, settings, name, info, len(photo_files), expected_s)
        },
        "spoken": {"value": run_view.screen_reader_text(state, name)},
        "pause": {"visible": working, **_pressed("pause", strings.PAUSE, waiting)},
        "stop": {"visible": working, **_pressed("stop", strings.STOP, waiting)},
        "look": {"visible": working, **_pressed("preview", strings.LOOK, waiting, state.step > 0)},
        "resume": {"visible": state.status in RESUMABLE},
        "as_planned": {"visible": "eased" in info and state.status in RESUMABLE},
        "delete": {"value": _delete(run, state, name)},
        "messages": {"value": messages, "visible": bool(messages)},
        "notes": {"value": notes, "visible": bool(notes)},
        "previews": {"value": run_view.previews(state, settings, photo_files), "visible": True},
        "charts": {
            "visible": True,
            "value": '<div class="charts">'
            + charts.loss_chart(state.losses, state.steps)
            + charts.memory_charts(
                state.memory, state.latest_memory, settings.budget_gib, state.active_s
            )
            + "</div>",
        },
        "hero": {"value": ""},
    }
    if state.exported is None or working:
        return parts, "train"
    last, count = state.exported.step, len(photo_files)
    return parts | _result_parts(run, state, last, settings, name, count), "results"


def _delete(run: Run, state: run_state.RunState, name: str) -> str:
    """Return the button that deletes a training that neither works nor is done."""
    if state.status not in RESUMABLE:
        return ""
    return list_view.delete_button(run.name, name, run_state.size_bytes(run), strings.RUN_DELETE)


def _pressed(command: str, words: str, waiting: str, can_press: bool = True) -> dict:
    """Return the update of a button, which says so as long as its command is waited for."""
    label = strings.PRESSED[command] if waiting == command else words
    return {"value": label, "interactive": can_press and not waiting}


def _expected_s(state: run_state.RunState, settings: Settings) -> float | None:
    """Return how long a run that has just begun will take, None if that is unknown."""
    if state.status != "running" or state.step:
        return None
    expected = expected_time(settings, finished_runs())
    return 60 * expected.minutes if expected else None


def _result_parts(
    run: Run, state: run_state.RunState, last: int, settings: Settings, name: str, num_photos: int
) -> dict[str, dict]:
    step, format = result_actions.chosen_step(run, last), result_actions.file_format(run)
    row, judged = presets.model_row(settings.model), likeness.read(run)
    if judged is None or judged["measure"] is None:
        result_actions.measure_likeness(run)
    result_actions.ensure_image_worker(run)
    error, names = result_actions.export_error(run, format, step), result_actions.lora_names(run)
    message = in_words(error) if error else result_actions.last_message(run)
    return {
        "hero": {"value": result_view.hero(state, settings, name, row, names.IN_COMFYUI, message)},
        **_file_parts(run, row, format, step, last),
        "card": {
            "value": result_view.card(row, result_actions.model_card(run, step, num_photos, judged))
        },
        "compare": {
            "value": result_view.compare(
                state, settings, step, _steps(run, state), _likeness(run, row, step, judged)
            )
        },
        "prompt": {"value": settings.subject_caption},
        "paint": {"interactive": run_state.running() is None},
        "paint_seed": {"value": None},
        "pictures": {
            "value": result_view.own_pictures(image_requests.all_requests(run), run.name, settings)
        },
        "more": {"value": settings.steps + max(10, settings.steps // 2)},
    }


def _likeness(run: Run, row: presets.ModelRow, step: int, judged: dict | None) -> str:
    """Return how much each step's pictures look like the pet. step: the one to download."""
    ready = row.demo or tool_view.is_ready(likeness.TOOL)
    now = likeness_view.Measuring(
        kept=step,
        kind=kind_in_words(run.settings().class_name),
        progress=likeness.progress(run),
        offer="" if ready else tool_view.offer(likeness.TOOL, strings.LIKENESS_OFFER),
        more=None if row.demo or not ready else likeness_pictures.next_rounds(run),
    )
    return likeness_view.likeness(judged, now)


def _file_parts(
    run: Run, row: presets.ModelRow, format: str, step: int, last: int
) -> dict[str, dict]:
    """Return the updates of the buttons for the LoRA's file and its workflow."""
    path = result_actions.lora_path(run, format, step, last)
    lora = downloads.lora(run, path, step)
    making, names = result_actions.is_exporting(run, format, step), result_actions.lora_names(run)
    can_copy = into_comfyui.can_copy(row) and result_actions.has_comfyui()
    workflow = None if row.demo else downloads.workflow(run, path, step)
    words = strings.DOWNLOAD_STEP.format(step=step)
    return {
        "format": {
            "value": format,
            "choices": [
                (
                    strings.FORMAT_STANDARD
                    if row.demo and key == "comfyui"
                    else strings.FORMATS[key],
                    key,
                )
                for key in names.FORMATS
            ],
        },
        "lora": {"visible": lora is not None, "value": lora, "label": words},
        "make": {
            "visible": lora is None,
            "interactive": not making,
            "value": strings.PREPARING if making else strings.MAKE,
        },
        "to_comfyui": {"visible": can_copy and format == "comfyui" and lora is not None},
        "workflow": {"visible": workflow is not None, "value": workflow},
    }


def _steps(run: Run, state: run_state.RunState) -> list[int]:
    """Return the steps that have both pictures and a LoRA; old runs have only the last."""
    shown = {step for step, _ in state.images}
    return [step for step in checkpoints.saved_steps(run) if step in shown and step > 0]


def run_summary(run: Run) -> list_view.RunSummary:
    """Return the list's facts about a run, also about one that cannot be read."""
    try:
        with reading(run):
            return _summary(run)
    except UserError as error:
        return list_view.unreadable(
            run.name, strings.translated(error.title), run_state.size_bytes(run)
        )


def _summary(run: Run) -> list_view.RunSummary:
    info, settings, state = run.info(), run.settings(), run_state.read(run)
    previews = [image.path.removeprefix("previews/") for _, image in sorted(state.images.items())]
    newest = [p for p in previews if p.endswith("/00.png")]
    return list_view.RunSummary(
        run.name,
        run_preferences.pet_name(run),
        state.status,
        state.step,
        settings.steps,
        strings.translated(presets.model_row(settings.model).title),
        info.get("started", ""),
        run_state.size_bytes(run),
        list_view.newest_picture(run.name, newest, [] if newest else _photo_files(run)),
        strings.translated(state.end.title)
        if isinstance(state.end, Failed) and state.status == "failed"
        else "",
    )


def _photo_files(run: Run) -> list[str]:
    try:
        names = os.listdir(run.photos_dir)
    except OSError:  # deleted; the LoRA can be used without them
        return []
    return sorted(name for name in names if not name.endswith((".txt", ".json", ".tmp")))
