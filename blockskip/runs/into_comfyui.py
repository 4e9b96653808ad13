"""Put a run's exported LoRA, a picture and its workflow into ComfyUI."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockskip.core import files, presets
from blockskip.core.errors import BadInput, UserError
from blockskip.core.names import MAX_BYTES, MAX_CHARACTERS, safe_name, unused_name
from blockskip.memory import comfyui_server, monitor
from blockskip.models import sources
from blockskip.models.lora.names import lora_names_of
from blockskip.runs.run import Run


@dataclass(frozen=True)
class Copied:
    """What is in ComfyUI now. root: its folder. workflow: None without one. listed: whether a
    running ComfyUI lists the LoRA, None if none answered. problem: why the picture or the workflow
    is missing, else ""."""

    lora: sources.ComfyuiLora
    root: Path
    workflow: Path | None
    listed: bool | None
    problem: str

    def __str__(self) -> str:
        """Return what was done and what to do next, in sentences."""
        parts = [f"{'Copied into' if self.lora.new else 'Already in'} ComfyUI: {self.lora.path}."]
        if self.listed:
            parts.append("ComfyUI lists it: press R in ComfyUI’s page.")
        elif self.listed is None:
            parts.append("ComfyUI lists it from its next start, or once you press R in its page.")
        else:
            parts.append(
                "A ComfyUI is running that does not look there: start the one of "
                f"{self.root}, or choose the running one’s folder as yours."
            )
        if self.workflow is not None:
            parts.append(f"The workflow “{self.workflow.stem}” is in ComfyUI’s sidebar.")
        return " ".join([*parts, self.problem]).strip()

    def to_dict(self) -> dict[str, str | bool | None]:
        """Return what `--json` prints."""
        workflow = str(self.workflow) if self.workflow else ""
        return {"file": str(self.lora.path), "workflow": workflow, "listed": self.listed}


def can_copy(row: presets.ModelRow) -> bool:
    """Return whether ComfyUI itself loads the model's LoRAs."""
    return not row.demo and lora_names_of(row.family).IN_COMFYUI


def check(run: Run) -> None:
    """Raise BadInput if ComfyUI does not load the model's LoRAs, or no ComfyUI was chosen."""
    row = presets.model_row(run.settings().model)
    if not can_copy(row):
        raise BadInput(
            f"ComfyUI itself does not load LoRAs of {row.title}.",
            "Export the file without copying it there.",
        )
    sources.chosen_comfyui()


def copy_into_comfyui(run: Run, file: Path, step: int, pet: str) -> Copied:
    """Copy the file of a step, exported for ComfyUI, with a picture beside it, and its workflow
    with the new file name in it.

    A running ComfyUI is asked whether it lists the file. Raises UserError if the LoRA was not
    copied.
    """
    check(run)
    root, row = sources.chosen_comfyui(), presets.model_row(run.settings().model)
    lora = sources.copy_to_comfyui(file, file_stem(pet, row, step, run.name))
    workflow, problem = None, ""
    try:
        workflow = _copy_workflow(file, lora, root)
        _copy_picture(run, step, lora.path)
    except UserError as error:
        problem = f"{error.title} {error.remedy}"
    except OSError as error:
        problem = files.read_error(error).title
    pids = frozenset(monitor.card_processes())
    return Copied(lora, root, workflow, comfyui_server.lists_lora(lora.name, pids), problem)


def file_stem(pet: str, row: presets.ModelRow, step: int, fallback: str) -> str:
    """Return the copy's name without its ending, such as “Luna flux2-klein-4b step 0600”.

    Valid on every system; files of a pet and a model are sorted by step. fallback: for a pet whose
    name has no letters.
    """
    end = f" {row.name} step {step:04d}"
    name = safe_name(pet, safe_name(fallback, "lora"), MAX_BYTES - len(end))
    return name[: MAX_CHARACTERS - len(end)].rstrip(" .") + end


def _copy_workflow(file: Path, lora: sources.ComfyuiLora, root: Path) -> Path | None:
    """Copy the workflow to those that ComfyUI's page lists. Return the copy, None if there is no
    workflow, or no page was ever opened. Raises UserError."""
    source = file.with_name(f"{file.stem}.workflow.json")
    if not (root / "user" / "default").is_dir() or not source.exists():
        return None
    workflow = renamed_workflow(files.read_json(source), file.name, lora.name)
    folder, stem = root / "user" / "default" / "workflows", lora.path.stem
    existing = {path.stem: path for path in sorted(folder.glob("*.json"))}
    for name, path in existing.items():
        if name.startswith(stem) and _json(path) == workflow:
            return path
    path = folder / f"{unused_name(stem, existing)}.json"
    files.write_json(path, workflow)
    return path


def renamed_workflow(value: Any, old: str, new: str) -> Any:
    """Return a workflow with another name of the LoRA in its loaders and notes. Other files may
    have the same name, in other folders."""
    if isinstance(value, list):
        return [renamed_workflow(each, old, new) for each in value]
    if not isinstance(value, dict):
        return value
    renamed = {key: renamed_workflow(each, old, new) for key, each in value.items()}
    if re.search("lora|note", str(value.get("type")), re.IGNORECASE):
        widgets = value.get("widgets_values") or []
        renamed["widgets_values"] = [
            each.replace(old, new) if isinstance(each, str) else each for each in widgets
        ]
    return renamed


def _json(path: Path) -> Any:
    """Return the JSON value in a file of others, None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        return files.read_json(path)
    return None


def _copy_picture(run: Run, step: int, lora: Path) -> None:
    """Write the step's first picture beside the LoRA, where ComfyUI's lists of models show it."""
    folders = (run.previews_dir / f"{name}-{step:05d}" for name in ("large", "step"))
    pictures = (path for folder in folders for path in sorted(folder.glob("*.png")))
    picture, beside = next(pictures, None), lora.with_suffix(".png")
    if picture is not None and not beside.exists():
        files.write_bytes(beside, picture.read_bytes())
