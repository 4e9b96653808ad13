"""A worker that learns nothing: it waits for its turn to end, writes how it ended, and lets the
queue go on as a real one does.

It ends once a file `end-N` is in the data folder, where N is how many ended before it. A run with
seed 13 fails. `order` lists the runs that began.
"""

import sys
import time
from pathlib import Path

from blockskip.core import events, files, processes
from blockskip.core.paths import data_dir
from blockskip.runs import run as run_module
from blockskip.runs import run_queue
from blockskip.runs.run import Run

NAME = "tests.helpers.quick_worker"
BROKEN_SEED = 13


def main(folder: str) -> int:
    run = Run(Path(folder))
    run_module.WORKER = NAME
    with processes.holding(run.lock_path) as ours:
        if not ours:
            return 1
        settings = run.settings()
        run.append(events.Started(steps=settings.steps, device="cpu", resumed_from=0))
        with open(data_dir() / "order", "a", encoding="utf-8") as file:
            file.write(f"{settings.trigger}\n")
        wait_for_end()
        if settings.seed == BROKEN_SEED:
            run.append(events.Failed(title="Broken on purpose.", remedy="", kind="unexpected"))
        else:
            files.write_text(run.exports_dir / "x.safetensors", "not a real LoRA")
            run.append(
                events.Saved(kind="export", path="exports/x.safetensors", step=settings.steps)
            )
            run.append(
                events.Done(
                    adapter="checkpoints/x.safetensors",
                    exported="exports/x.safetensors",
                    steps=settings.steps,
                    seconds=1.0,
                    stages={},
                    final_loss=0.1,
                    peak_rss_gib=1.0,
                    peak_vram_gib=-1.0,
                )
            )
    run_queue.advance_quietly()
    return 0


def wait_for_end() -> None:
    data, until = data_dir(), time.monotonic() + 120
    while time.monotonic() < until:
        ended = len((data / "order").read_text(encoding="utf-8").split()) - 1
        if (data / f"end-{ended}").exists():
            return
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
