"""Checkpoints and adapters of a run: the steps that can be viewed, resumed and exported.

A checkpoint holds everything needed to resume training, and only the newest two are kept. An
adapter is the small LoRA alone, kept for the last step and every step with pictures. Does not
import torch.
"""

from __future__ import annotations

from pathlib import Path

from blockskip.core.errors import NotFound, UserError, WrongState, command
from blockskip.runs.run import Run, step_of


def list_checkpoints(run: Run) -> list[Path]:
    """Return the checkpoints kept, oldest first."""
    return sorted(run.checkpoints_dir.glob("step-*.safetensors"), key=step_of)


def newest_checkpoint(run: Run) -> Path:
    """Return the newest checkpoint. Raises UserError if there is none yet."""
    paths = list_checkpoints(run)
    if not paths:
        raise _no_checkpoint(run)
    return paths[-1]


def adapter_path(run: Run, step: int) -> Path:
    """Return the path of a step's adapter."""
    return run.adapters_dir / f"step-{step:05d}.safetensors"


def saved_steps(run: Run) -> list[int]:
    """Return the steps with a saved LoRA, in order."""
    paths = [*run.adapters_dir.glob("step-*.safetensors"), *list_checkpoints(run)[-1:]]
    return sorted({step_of(path) for path in paths})


def lora_file(run: Run, step: int | None = None) -> Path:
    """Return the file with a step's LoRA; None is the last step. Raises UserError if not kept."""
    known = saved_steps(run)
    if not known:
        raise _no_checkpoint(run)
    step = known[-1] if step is None else step
    if step not in known:
        raise NotFound(
            f"Step {step} of run “{run.name}” is not kept.",
            f"These are: {', '.join(map(str, known))}.",
        )
    path = adapter_path(run, step)
    return path if path.exists() else newest_checkpoint(run)


def _no_checkpoint(run: Run) -> UserError:
    return WrongState(
        f"Run “{run.name}” has no checkpoint yet.",
        f"Let it train first: {command('resume')} {run.name}",
    )
