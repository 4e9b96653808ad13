"""Show a run's progress in the terminal: stage, n/N, loss, memory, ETA. Ctrl-C stops the run."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from blockskip.cli.errors import new_console
from blockskip.cli.turns import take_turn
from blockskip.core import events, stages
from blockskip.core.errors import Unexpected, UserError, WrongState, command, from_kind
from blockskip.core.events import Event
from blockskip.runs import failure, vanished
from blockskip.runs.run import Run

_POLL_S = 0.1
_EXIT_S = 0.5  # between the end of a worker's lock and its exit code
STAGES = {
    stages.PHOTOS: "Photos",
    stages.LOAD: "Reading weights",
    stages.TEXT: "Captions",
    stages.LATENTS: "Crops",
    stages.RESIDUALS: "Residuals",
    stages.TRAIN: "Training",
    stages.PREVIEW: "Samples",
    stages.EXPORT: "Export",
}


def watch_run(run: Run, *, start: bool, as_json: bool = False) -> int:
    """Show a run's events until its worker is done with it. Returns the exit code. start: start it first, or
    put it in the queue while another run trains."""
    console = new_console(quiet=as_json)
    offset = run.events_path.stat().st_size if run.events_path.exists() else 0
    process = take_turn(run, console) if start else None
    console.print(Text.assemble("Run ", (run.name, "bold"), f" in {run.folder}"), soft_wrap=True)
    screen = RunDisplay(console, as_json)
    interrupted = False
    with screen.progress:
        while True:
            alive = run.worker() is not None
            try:
                fresh: list[Event] = []
                with suppress(UserError):  # the worker cannot use its log either, and says why
                    fresh, offset = run.events(offset)
                for event in fresh:
                    screen.show(event)
                if not alive:
                    break
                time.sleep(_POLL_S)
            except KeyboardInterrupt:
                if not interrupted and alive:
                    interrupted = True
                    console.print("Stopping after this step; press Ctrl-C again to stop at once.")
                    run.send_command("stop")
                elif (worker := run.worker()) is not None:
                    worker.kill()
    return _print_result(run, screen, as_json, console, _killed(run, process, interrupted))


def _killed(run: Run, process: subprocess.Popen | None, interrupted: bool) -> UserError | None:
    """Return why the run's worker ended without a word, None if nothing tells or the user ended
    it."""
    if interrupted:
        return None
    code = None
    if process is not None:
        with suppress(subprocess.TimeoutExpired):  # it works on the next run
            code = process.wait(_EXIT_S)
    with suppress(UserError):  # of a log that cannot be read, `failure` tells
        return vanished.explain(run, code)
    return None


class RunDisplay:
    """Progress bars and lines for events."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description:10}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=quiet,
        )
        self.tasks: dict[str, TaskID] = {}
        self.memory, self.resumed = "", False
        self.loss: float | None = None
        self.last: Event | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, events.Progress):
            self._bar(event)
        elif isinstance(event, events.Loss):
            self.loss = event.loss if self.loss is None else 0.95 * self.loss + 0.05 * event.loss
        elif isinstance(event, events.Memory):
            vram = f"VRAM {event.vram_gib:.1f} GiB, " if event.vram_gib >= 0 else ""
            self.memory = f"{vram}RAM {event.rss_gib:.1f} GiB"
        elif isinstance(event, events.Note):
            style = "yellow" if event.level == "warning" else ""
            self.console.print(Text(event.text, style=style))
        elif isinstance(event, events.Started):
            self.resumed = event.resumed_from > 0
        if isinstance(event, (events.Done, events.Failed, events.Stopped)):
            self.last = event

    def _bar(self, event: events.Progress) -> None:
        text = self.memory
        if event.stage == stages.TRAIN:
            eta = f"{int(event.eta_s) // 60}:{int(event.eta_s) % 60:02d} left"
            loss = "" if self.loss is None else f"loss {self.loss:.4f}  "
            text = f"{loss}{self.memory}  {eta}"
        if event.stage not in self.tasks:
            self.tasks[event.stage] = self.progress.add_task(
                STAGES.get(event.stage, event.stage), total=event.total, text=""
            )
        self.progress.update(
            self.tasks[event.stage], completed=event.n, total=event.total, text=text
        )


def _print_result(
    run: Run, screen: RunDisplay, as_json: bool, console: Console, killed: UserError | None = None
) -> int:
    """Print the result of the run. killed: why the system ended it. Returns the command's exit
    code."""
    last = failure.read(run.folder) or screen.last
    if isinstance(last, events.Done):
        report, code = _result_json(run, last, screen.resumed), 0
        path = run.folder / last.exported
        line = Text.assemble(("Done", "bold green"), f" in {last.seconds:.0f} s: {path}")
    else:
        error = _run_error(run, last, killed)
        report = {"run": str(run.folder)} | error.to_dict()
        stopped = isinstance(last, events.Stopped)
        code = 130 if stopped else 1
        line = Text.assemble((error.title, "bold" if stopped else "bold red"), " ", error.remedy)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    console.print(line, soft_wrap=True)  # a path is not broken, and can be copied
    return code


def _run_error(run: Run, last: Event | None, killed: UserError | None) -> UserError:
    """Return why the run is not done. last: Stopped or Failed, None if it ended without either."""
    if isinstance(last, events.Stopped):
        title = f"Run “{run.name}” is {last.reason} at step {last.step}."
        return WrongState(title, f"Continue with: {command('resume')} {run.name}")
    if isinstance(last, events.Failed):
        return from_kind(last.kind, last.title, last.remedy)
    if killed is not None:
        return killed
    log = run.folder / "worker.log"
    return Unexpected(f"Run “{run.name}” ended without an error message.", f"See its log: {log}.")


def _result_json(run: Run, done: events.Done, resumed: bool) -> dict:
    return {
        "run": str(run.folder),
        "adapter": str(run.folder / done.adapter),
        "exported": str(run.folder / done.exported),
        "steps": done.steps,
        "seconds": done.seconds,
        "stages": done.stages,
        "peak_vram_gib": done.peak_vram_gib,
        "peak_rss_gib": done.peak_rss_gib,
        "final_loss": done.final_loss,
        "resumed": resumed,
    }
