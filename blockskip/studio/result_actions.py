"""Actions on a training with results: exporting, own pictures, renaming and deleting."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import file_manager, presets
from blockskip.core.errors import BadInput, NotFound, UserError, WrongState
from blockskip.core.settings import Line, Text
from blockskip.core.validation import validated
from blockskip.models import sources
from blockskip.models.lora.names import DiffusersNames, lora_names_of
from blockskip.runs import (
    checkpoints,
    image_requests,
    into_comfyui,
    likeness,
    likeness_pictures,
    storage,
)
from blockskip.runs.run import Run
from blockskip.studio import background_jobs, inputs, run_preferences, run_state, strings
from blockskip.studio.actions import find_run
from blockskip.studio.formatting import kind_in_words

if TYPE_CHECKING:
    from blockskip.models.lora.protocol import LoraNames

_messages: dict[str, str] = {}
_likeness_started: set[tuple[str, int]] = set()
_requested_at: dict[str, float] = {}


def last_message(run: Run) -> str:
    """Return the result of the last click, for the page."""
    return _messages.get(run.name, "")


def chosen_step(run: Run, last: int) -> int:
    """Return the step of the LoRA to download: the user's choice, else the last."""
    step = run_preferences.load(run).get("step")
    return step if isinstance(step, int) and step in checkpoints.saved_steps(run) else last


def lora_names(run: Run) -> LoraNames | type[DiffusersNames]:
    """Return the LoRA file formats of the run's model."""
    return lora_names_of(presets.model_row(run.settings().model).family)


def file_format(run: Run) -> str:
    """Return the chosen file format, “comfyui” unless the model has the chosen one."""
    chosen = run_preferences.load(run).get("format")
    return chosen if chosen in lora_names(run).FORMATS else "comfyui"


def lora_path(run: Run, format: str, step: int, last: int) -> Path:
    """Return where the LoRA of a step is, or will be.

    Only the file that training itself writes has no step in its name. Further training replaces only
    that file.
    """
    suffix = "" if format == "comfyui" else f"-{format}"
    suffix += "" if step == last and format == "comfyui" else f"-step{step}"
    return run.export_path(suffix)


def is_exporting(run: Run, format: str, step: int) -> bool:
    """Return whether that file is being written."""
    return background_jobs.running(("export", run.name, format, step))


def start_export(run: Run, format: str, step: int, last: int) -> Path:
    """Start writing the LoRA of a step in a format, unless the file exists. Return its path."""
    path = lora_path(run, format, step, last)
    if not path.exists():
        words = ["blockskip", "export", str(run.folder), "--format", format, "--json"]
        # with its step, a damaged last LoRA is an error instead of an earlier one
        explicit = step != last or checkpoints.damage_note(run)
        words += ["--out", str(path)] + (["--step", str(step)] if explicit else [])
        key = ("export", run.name, format, step)
        background_jobs.submit(key, words)
    return path


def export_error(run: Run, format: str, step: int) -> UserError | None:
    """Return why writing that file failed, None if it did not."""
    return background_jobs.error(("export", run.name, format, step))


def choose_step(run: str, step: int) -> None:
    """Choose the step to download, and write its file if there is none yet. Raises UserError."""
    trained = find_run(run)
    step = validated(inputs.Steps, step, "step")
    if step not in checkpoints.saved_steps(trained):
        raise NotFound(f"The LoRA of step {step} was not kept.", "Choose another step.")
    _save_choice(trained, step=step)


def choose_format(run: str, format: str) -> None:
    """Choose the format to download, and write its file if there is none yet. Raises UserError."""
    trained = find_run(run)
    _check_format(trained, format)
    _save_choice(trained, format=format)


def _save_choice(run: Run, **chosen: int | str) -> None:
    run_preferences.save(run, **chosen)
    last = _last_step(run)
    start_export(run, file_format(run), chosen_step(run, last), last)


def _check_format(run: Run, format: str) -> None:
    """Raise BadInput if the run's model does not have that format."""
    formats = lora_names(run).FORMATS
    if validated(Line, format, "format") not in formats:
        raise BadInput(f"There is no format “{format}”.", f"Use {', '.join(formats)}.")


def export(run: str, format: str = "comfyui", step: int = 0) -> str:
    """Write a training's LoRA to a file, reopen and check it, and return its path.

    step: 0 = the last. Raises UserError.
    """
    trained = find_run(run)
    _check_format(trained, format)
    last = _last_step(trained)
    step = validated(inputs.Steps, step, "step") or last
    path = start_export(trained, format, step, last)
    background_jobs.wait(("export", trained.name, format, step))
    if error := export_error(trained, format, step):
        raise error
    return str(path)


def copy_to_comfyui(run: str) -> None:
    """Copy the chosen LoRA, its workflow and a preview into ComfyUI's folders. Raises UserError."""
    trained = find_run(run)
    last = _last_step(trained)
    step = chosen_step(trained, last)
    path = lora_path(trained, "comfyui", step, last)
    if not path.exists():
        raise WrongState(
            "The file for ComfyUI has not been written yet.", "Choose ComfyUI as its format."
        )
    pet = run_preferences.pet_name(trained)
    copied = into_comfyui.copy_into_comfyui(trained, path, step, pet)
    _messages[trained.name] = strings.translated(str(copied))


def show_folder(run: str) -> None:
    """Show the chosen LoRA in the file manager, and tell where it is."""
    trained = find_run(run)
    last = _last_step(trained)
    path = lora_path(trained, file_format(trained), chosen_step(trained, last), last)
    shown = file_manager.show(path)
    words = strings.FOLDER_SHOWN if shown else strings.FOLDER_IS
    _messages[trained.name] = words.format(folder=path.parent)


def has_comfyui() -> bool:
    """Return whether a ComfyUI was chosen and is still there."""
    return sources.comfyui_root() is not None


def request_images(run: str, prompt: str, seed: float | None, strength: float) -> None:
    """Queue a picture of a prompt without and with the LoRA. seed: None = random."""
    trained = find_run(run)
    prompt = " ".join(validated(Text, prompt or "", "prompt").split())
    if not prompt:
        raise BadInput(strings.PROMPT_MISSING, strings.PROMPT_REMEDY)
    chosen = validated(inputs.ANSWERS["seed"], seed, "seed")
    chosen = random.randrange(2**31) if chosen is None else chosen
    factor = validated(inputs.Strength, strength, "strength")
    last = _last_step(trained)
    _requested_at[trained.name] = time.monotonic()
    image_requests.submit(trained, prompt, chosen, factor, chosen_step(trained, last))


def ensure_image_worker(run: Run) -> None:
    """Start the image process if requests are queued without one; retry after 30 seconds."""
    pending = image_requests.pending(run)
    if not pending or run.image_worker() is not None or run_state.running() is not None:
        return
    if time.monotonic() - _requested_at.get(run.name, -math.inf) > 30:
        _requested_at[run.name] = time.monotonic()
        image_requests.ensure_worker(run)


def rename(run: str, name: str) -> None:
    """Rename the pet on the page. The trigger word does not change."""
    name = " ".join(validated(Text, name, "name").split())[:40]
    if name:
        run_preferences.save(find_run(run), pet=name)


def delete(run: str) -> None:
    """Delete a training with all its files. Raises UserError if it is running."""
    storage.delete(find_run(run).name)


def measure_likeness(run: Run) -> None:
    """Start measuring the likeness of a training's pictures, once per step it has reached, if what
    measures them is on this computer.

    The page shows the figures when they exist.
    """
    key = run.name, run.step()
    if (
        key not in _likeness_started
        and not likeness.is_running(run)
        and run_state.running() is None
        and likeness.can_measure(run)
    ):
        _likeness_started.add(key)
        likeness.start(run)


def measure_again(run: str) -> None:
    """Measure a training's pictures, after a failure."""
    likeness.start(find_run(run))


def measure_more(run: str) -> None:
    """Make more pictures of a training's steps, and measure all. Raises UserError while a training
    runs."""
    measured = find_run(run)
    if (busy := run_state.running()) is not None:
        name = run_preferences.pet_name(busy)
        raise WrongState(strings.BUSY.format(name=name), strings.BUSY_REMEDY)
    likeness.start(measured, likeness_pictures.next_rounds(measured)[0])


def model_card(run: Run, step: int, num_photos: int, judged: dict | None) -> str:
    """Return a description of the LoRA, with a blank line between paragraphs."""
    settings, row = run.settings(), presets.model_row(run.settings().model)
    likeness = (judged or {}).get("by_step", {}).get(step, {}).get("subject")
    facts = {
        "model": strings.translated(row.title),
        "pet": run_preferences.pet_name(run),
        "kind": settings.class_name,
        "animal": kind_in_words(settings.class_name),
        "trigger": settings.trigger,
        "photos": num_photos,
        "steps": step,
        "rank": settings.rank,
        "seed": settings.seed,
        "skipped": settings.plan.front + settings.plan.back,
        "blocks": row.num_blocks,
        "licence": row.licence,
        "likeness": likeness,
    }
    told = [] if likeness is None else ["likeness_demo" if row.demo else "likeness"]
    return "\n\n".join(
        strings.CARD_PARTS[part].format(**facts) for part in ("what", "learnt", *told, "limits")
    )


def _last_step(run: Run) -> int:
    """Return the step of the file that training wrote, else the last saved step."""
    state = run_state.read(run)
    return (
        state.exported.step
        if state.exported
        else max(checkpoints.saved_steps(run), default=state.step)
    )
