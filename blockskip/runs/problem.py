"""Why a run cannot be read or failed, for lists in which one run must not take the others down.

Does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from blockskip.core.errors import BadFile, UserError, from_kind
from blockskip.core.events import Failed
from blockskip.core.presets import model_row
from blockskip.runs import event_log, failure
from blockskip.runs.run import Run

UNREADABLE = "unreadable"  # stands beside the states of Run.state


@contextmanager
def reading(run: Run) -> Iterator[None]:
    """Context manager in which any error becomes a UserError that names the run."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise BadFile(
            f"Run “{run.name}” cannot be read ({type(error).__name__}: {reason}).",
            "Delete the run and train again.",
        ) from error


def state_and_problem(run: Run) -> tuple[str, UserError | None]:
    """Return a run's state, or UNREADABLE, and why it cannot be read or why it failed."""
    try:
        with reading(run):
            model_row(run.settings().model)
            state = run.state()
            return state, _why_failed(run) if state == "failed" else None
    except UserError as error:
        return UNREADABLE, error


def _why_failed(run: Run) -> UserError | None:
    ended = failure.read(run.folder) or event_log.last_event(run.events_path, (Failed,))
    return from_kind(ended.kind, ended.title, ended.remedy) if isinstance(ended, Failed) else None
