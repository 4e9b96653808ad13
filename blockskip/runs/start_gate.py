"""One start at a time in a data folder: a start and a change of a run cannot race.

A worker holds its run's lock only once it lives. This gate covers the moment before. It lies
outside the runs' folders, since Windows neither renames nor deletes a folder with an open file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from blockskip.core import processes
from blockskip.core.errors import WrongState
from blockskip.core.paths import make_data_dir

_WAIT_S = 120.0  # for other starts; each takes a second, more on a busy machine
_thread = threading.local()


@contextmanager
def starting() -> Iterator[None]:
    """Context manager in which no other process or thread starts, changes, renames or deletes a
    run. It may be nested.

    Raises UserError if others take too long, or if the data folder cannot be written.
    """
    if getattr(_thread, "inside", False):
        yield
        return
    with processes.locked(make_data_dir() / "start.lock", _WAIT_S) as ours:
        if not ours:
            raise WrongState("Another run is being started or deleted just now.", "Try again.")
        _thread.inside = True
        try:
            yield
        finally:
            _thread.inside = False
