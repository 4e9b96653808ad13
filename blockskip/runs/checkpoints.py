"""Checkpoints and adapters of a run: the steps that can be viewed, resumed and exported.

A checkpoint holds everything needed to resume training, and only the newest two are kept. An
adapter is the small LoRA alone, kept for the last step and every step with pictures. Only
`load_lora` imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import files, safetensors_files
from blockskip.core.errors import BadFile, NotFound, UserError, WrongState, command
from blockskip.runs.folders import by_step
from blockskip.runs.run import Run

if TYPE_CHECKING:
    from torch import Tensor

_ASIDE = ".damaged"  # added to the name of a damaged checkpoint


def list_checkpoints(run: Run) -> list[Path]:
    """Return the checkpoints kept, oldest first, without looking whether they are intact."""
    return list(by_step(run.checkpoints_dir).values())


def newest_checkpoint(run: Run) -> Path:
    """Return the newest intact checkpoint. Raises UserError if there is none."""
    paths = list_checkpoints(run)
    if not paths:
        raise _no_checkpoint(run)
    return _first_intact(run, reversed(paths))


def set_damaged_aside(run: Run) -> list[str]:
    """Rename the damaged checkpoints at the end of the list, so that training resumes from the
    newest intact one. Returns their names, newest first. Only the worker calls this."""
    names = []
    for path in reversed(list_checkpoints(run)):
        if safetensors_files.is_intact(path):
            break
        files.replace(path, path.with_name(path.name + _ASIDE))
        names.append(path.name)
    return names


def remove_old(run: Run, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and those set aside, once there is a newer
    one."""
    aside = run.checkpoints_dir.glob(f"*{_ASIDE}")
    for path in [*list_checkpoints(run)[:-keep], *aside]:
        path.unlink(missing_ok=True)


def adapter_path(run: Run, step: int) -> Path:
    """Return the path of a step's adapter."""
    return run.adapters_dir / f"step-{step:05d}.safetensors"


def saved_steps(run: Run) -> list[int]:
    """Return the steps with a saved LoRA, in order, without looking whether it is intact."""
    return sorted({*by_step(run.adapters_dir), *list(by_step(run.checkpoints_dir))[-1:]})


def checked_step(run: Run, step: int | None = None) -> int:
    """Return a step with a saved LoRA; None is the last. Raises UserError if it is not kept."""
    known = saved_steps(run)
    if not known:
        raise _no_checkpoint(run)
    if step is not None and step not in known:
        raise NotFound(
            f"Step {step} of run “{run.name}” is not kept.",
            f"These are: {', '.join(map(str, known))}.",
        )
    return known[-1] if step is None else step


def lora_file(run: Run, step: int | None = None) -> Path:
    """Return the file with a step's LoRA; None is the last intact one. Raises UserError if it is
    not kept or damaged."""
    last = checked_step(run, step)
    wanted = [last] if step is not None else saved_steps(run)[::-1]
    return _first_intact(run, [path for step in wanted for path in _lora_files(run, step)])


def _first_intact(run: Run, paths: Iterable[Path]) -> Path:
    """Return the first intact file. Raises BadFile that names all of them if there is none."""
    damaged = []
    for path in paths:
        if safetensors_files.is_intact(path):
            return path
        damaged.append(path.name)
    raise BadFile(
        f"Damaged files of run “{run.name}”: {', '.join(dict.fromkeys(damaged))}.",
        "Choose another step, or resume the run to train these steps again.",
    )


def damage_note(run: Run) -> str:
    """Return a sentence that names the damaged files of the last saved steps and the step used
    instead, "" without any."""
    damaged: list[str] = []
    for step in reversed(saved_steps(run)):
        paths = _lora_files(run, step)
        if any(map(safetensors_files.is_intact, paths)):
            return f"Damaged: {', '.join(damaged)}. Step {step} is used." if damaged else ""
        damaged += [f"{path.parent.name}/{path.name}" for path in paths]
    return ""


def _lora_files(run: Run, step: int) -> list[Path]:
    checkpoint = by_step(run.checkpoints_dir).get(step)
    paths = [adapter_path(run, step), *([checkpoint] if checkpoint else [])]
    return [path for path in paths if path.exists()]


def _no_checkpoint(run: Run) -> UserError:
    return WrongState(
        f"Run “{run.name}” has no checkpoint yet.",
        f"Let it train first: {command('resume')} {run.name}",
    )


def load_lora(run: Run, step: int | None = None) -> dict[str, Tensor]:
    """Load a step's LoRA; None is the last step. Raises UserError if it is not kept or belongs to
    another run."""
    from blockskip.training.checkpoint import checkpoint_lora

    path = lora_file(run, step)
    if safetensors_files.read_metadata(path).get("fingerprint") != run.fingerprint():
        raise BadFile(
            f"{path.name} belongs to another run or to other photos.",
            "Delete it, or put back what was there.",
        )
    return checkpoint_lora(path)
