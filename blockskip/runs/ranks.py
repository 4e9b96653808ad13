"""Train a run in several processes, one on each card (training/ranks.py).

The run's worker is rank 0. It starts the others when its model is open and its photos are encoded,
and ends them when it ends. They write nothing but their residual windows and their logs. If one of
them ends early the worker fails, and the run resumes from its last checkpoint.

    python -m blockskip.runs.ranks RUNFOLDER RANK [CHECKPOINT]
"""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from blockskip.core import processes
from blockskip.core.errors import BadInput, UserError
from blockskip.core.settings import Settings
from blockskip.memory import monitor
from blockskip.memory.cards import VISIBLE
from blockskip.memory.placement import pick_device
from blockskip.runs.run import Run
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training.draws import TrainingData
from blockskip.training.ranks import ALONE, Ranks
from blockskip.training.trainer import Trainer

log = logging.getLogger(__name__)
MODULE = "blockskip.runs.ranks"  # also where it is run as __main__
HOST = "127.0.0.1"
# of a wait for another process: for the worker, which only waits for steps; for the others, which
# also wait while it makes pictures or the computer sleeps
LEADER_WAITS = datetime.timedelta(minutes=30)
OTHERS_WAIT = datetime.timedelta(days=30)
_POLL_S = 0.1


@contextmanager
def joined(
    run: Run, settings: Settings, data: TrainingData, newest: Sequence[Path]
) -> Iterator[Ranks]:
    """Context manager in which the other processes of the run train too. Yields the worker's rank.

    newest: [the checkpoint from which all of them go on], [] for none. Raises UserError if one of them cannot
    begin.
    """
    size = settings.plan.processes
    if size == 1:
        yield ALONE
        return
    _remove_leftovers(run)
    data.save(_data_path(run))
    port, surroundings = _free_port(), _surroundings(settings)
    others: list[subprocess.Popen] = []
    before = dict(os.environ)
    try:
        for rank in range(1, size):
            words = [str(run.folder), str(rank), *map(str, newest)]
            variables = _addresses(rank, size, port) | surroundings[rank]
            others.append(processes.start(MODULE, words, _log_path(run, rank), variables=variables))
        _wait_until_ready(run, others)
        os.environ |= _addresses(0, size, port)
        _connect(settings, LEADER_WAITS)
        yield Ranks(0, size)
    finally:
        _end(others)
        _disconnect()
        os.environ.clear()
        os.environ.update(before)
        _remove_leftovers(run)


def _remove_leftovers(run: Run) -> None:
    """Delete the others' windows and marks, and what they were given."""
    for path in run.cache_dir.glob("rank*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(folder: str, rank: str, newest: str = "") -> int:
    """Train as one of the run's other processes. Returns 0 if the training reached its end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    run, number = Run(Path(folder)), int(rank)
    try:
        _train(run, number, Path(newest) if newest else None)
    except UserError as error:  # told by the worker, whose end it is too
        log.error("%s", error)
        return 1
    return 0


def _train(run: Run, rank: int, newest: Path | None) -> None:
    settings = run.settings().changed(preview_model="")  # it makes no pictures
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = LoadedModel(settings)
    model.compile_blocks(log.warning)
    data = TrainingData.load(_data_path(run))
    _ready(run, rank).touch()
    _connect(settings, OTHERS_WAIT)
    folder = run.cache_dir / f"rank-{rank}"
    folder.mkdir(exist_ok=True)
    trainer = Trainer(
        model.transformer,
        model.family,
        settings,
        data,
        model.device,
        folder,
        run.fingerprint(),
        ranks=Ranks(rank, settings.plan.processes),
    )
    if newest:
        trainer.load(newest)
    for loss in trainer.run():
        log.info("step %d/%d loss %.4f", loss.step, settings.steps, loss.loss)


def _connect(settings: Settings, timeout: datetime.timedelta) -> None:
    from accelerate import PartialState

    on_cpu = pick_device(settings.device).type == "cpu"
    PartialState(cpu=on_cpu, timeout=timeout, **({"backend": "gloo"} if on_cpu else {}))


def _disconnect() -> None:
    from accelerate import PartialState

    PartialState().destroy_process_group()
    PartialState._reset_state()  # the worker may train another run


def _addresses(rank: int, size: int, port: int) -> dict[str, str]:
    """Return what accelerate reads from the environment; each process has a card of its own."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
    }


def _surroundings(settings: Settings) -> list[dict[str, str]]:
    """Return the card of each process or its share of the processor. Raises UserError if there are
    too few cards."""
    size = settings.plan.processes
    if pick_device(settings.device).type == "cpu":
        threads = max(1, torch.get_num_threads() // size)
        return [{"OMP_NUM_THREADS": str(threads)}] * size
    uuids = list(monitor.card_sizes_gib())
    if len(uuids) < size:
        raise BadInput(
            f"This training wants {size} graphics cards, and {len(uuids)} can be used.",
            "Train with fewer processes, or name more cards in CUDA_VISIBLE_DEVICES.",
        )
    return [{VISIBLE: uuid} for uuid in uuids[:size]]


def _wait_until_ready(run: Run, others: Sequence[subprocess.Popen]) -> None:
    """Wait until all others have opened the model. Raises UserError if one of them ends."""
    waiting = dict(enumerate(others, 1))
    while waiting:
        for rank, process in list(waiting.items()):
            if _ready(run, rank).exists():
                del waiting[rank]
            elif process.poll() is not None:
                raise UserError(
                    f"Process {rank} of this training could not begin.",
                    f"{_log_path(run, rank)} says why. Or train with one process.",
                )
        time.sleep(_POLL_S)


def _end(others: Sequence[subprocess.Popen]) -> None:
    """End the others, which keep nothing that is not on disk, unless they have just ended."""
    for process in others:
        processes.kill(psutil.Process(process.pid) if process.poll() is None else None)
        process.wait()


def _data_path(run: Run) -> Path:
    return run.cache_dir / "ranks.safetensors"


def _ready(run: Run, rank: int) -> Path:
    """Return the mark that a process has opened the model."""
    return run.cache_dir / f"rank-{rank}.ready"


def _log_path(run: Run, rank: int) -> Path:
    return run.folder / f"rank-{rank}.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
