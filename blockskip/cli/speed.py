"""The part of `doctor` that measures how fast this computer is."""

from __future__ import annotations

from blockskip.cli.doctor import OK, WARNING, Line
from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir, make_data_dir
from blockskip.memory import speed_process
from blockskip.memory.planning import measured_speed
from blockskip.runs.run import list_runs


def measured_lines() -> list[Line]:
    """Measure in another process, and return what was found. A running training comes first."""
    try:
        if any(run.worker() for run in list_runs()):
            busy = "not measured: a training is running"
            return [Line("speed", WARNING, busy, "Measure once it has ended.")]
        make_data_dir()
        process = speed_process.start()
    except UserError as error:  # what is wrong with the data folder is another line's finding
        return [Line("speed", WARNING, f"not measured: {error.title}", error.remedy)]
    if process is None:
        other = "not measured: another process measures just now"
        return [Line("speed", WARNING, other, "Try again.")]
    speed = measured_speed.load() if speed_process.finished(process) else None
    if speed is None:
        log = f"The log is {data_dir() / 'speed.log'}."
        return [Line("speed", WARNING, "could not be measured", log)]
    return [Line("speed", OK, "; ".join(measured_speed.describe(speed)))]
