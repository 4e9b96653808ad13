"""Which steps of a run can still be looked at, continued and exported: the files they are in.

A checkpoint is all that training goes on from, and only the newest two are kept; an adapter is the
LoRA alone, small, kept of every step that has pictures, and of the last. No torch in here.
"""

from __future__ import annotations

from pathlib import Path

from blockskip.core.errors import NotFound, UserError, WrongState, command
from blockskip.runs.run import Run, step_of


def list_checkpoints(run: Run) -> list[Path]:
    """The checkpoints kept, oldest first."""
    return sorted(run.checkpoints_dir.glob("step-*.safetensors"), key=step_of)


def newest_checkpoint(run: Run) -> Path:
    """Raises UserError when nothing has been learnt yet."""
    found = list_checkpoints(run)
    if not found:
        raise _no_checkpoint(run)
    return found[-1]


def adapter_path(run: Run, step: int) -> Path:
    """Where the LoRA of a step is kept."""
    return run.adapters_dir / f"step-{step:05d}.safetensors"


def saved_steps(run: Run) -> list[int]:
    """The steps whose LoRA is there, in order."""
    found = [*run.adapters_dir.glob("step-*.safetensors"), *list_checkpoints(run)[-1:]]
    return sorted({step_of(path) for path in found})


def lora_file(run: Run, step: int | None = None) -> Path:
    """The file with the LoRA of a step, None: the last. Raises UserError when it is not kept."""
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
