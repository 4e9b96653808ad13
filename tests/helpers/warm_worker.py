"""A worker whose training takes no time and no torch, with all else as in a real one: the locks, the
queue, and the wait for another run.

It writes its process id into the file `pid` of each run's folder. A run with BROKEN_SEED fails while
it trains, one with NO_PHOTOS before it has the model.
"""

import sys
import time
from types import ModuleType

from blockskip.core import events, files
from blockskip.runs import next_run, worker_entry
from blockskip.runs import run as run_module
from blockskip.runs.run import Run

NAME = "tests.helpers.warm_worker"
BROKEN_SEED, NO_PHOTOS = 13, 14


class KeptModel:
    key = ""

    def clear(self) -> None:
        self.key = ""

    def held_gib(self) -> float:
        return 1.5


def main(folder: str, killed_in: str | None, kept: KeptModel) -> int:
    run = Run(next_run.Path(folder))
    settings = run.settings()
    print(f"trains {run.name}", flush=True)
    (run.folder / "pid").write_text(f"{next_run.os.getpid()}", encoding="utf-8")
    run.append(events.Started(steps=settings.steps, device="cpu", resumed_from=0))
    while (run.folder / "wait").exists():
        time.sleep(0.01)
    if settings.seed != NO_PHOTOS:
        kept.clear()  # its model is in use
    if settings.seed in (BROKEN_SEED, NO_PHOTOS):
        run.append(events.Failed(title="Broken on purpose.", remedy="", kind="unexpected"))
        return 1
    files.write_text(run.exports_dir / "x.safetensors", "not a real LoRA")
    done = {"adapter": "x", "exported": "exports/x.safetensors", "steps": settings.steps}
    done |= {"seconds": 1.0, "stages": {}, "final_loss": 0.1}
    run.append(events.Done(**done, peak_rss_gib=1.0, peak_vram_gib=-1.0))
    kept.key = settings.model_key
    return 0


if __name__ == "__main__":
    run_module.WORKER = NAME
    for name, what in (("worker_process", main), ("kept_model", KeptModel)):
        module = ModuleType(f"blockskip.runs.{name}")
        setattr(module, what.__name__, what)
        sys.modules[module.__name__] = module
        setattr(sys.modules["blockskip.runs"], name, module)
    sys.exit(worker_entry.main(*sys.argv[1:]))
