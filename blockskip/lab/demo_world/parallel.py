"""Two single-thread processes that average their gradients, and checkpoints that survive a kill."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import torch
import torch.distributed as dist


def init_process(rank: int, ranks: int, meeting: Path) -> None:
    """Join ``ranks`` processes through the file ``meeting``; one thread each."""
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(minutes=30),
        )


def all_reduce_mean(tensors: Iterable[torch.Tensor]) -> None:
    """Replace each tensor by its mean over the processes (one flat message)."""
    if not dist.is_initialized():
        return
    tensors = [t for t in tensors if t is not None]
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start_at = 0
    for t in tensors:
        t.copy_(flat[start_at : start_at + t.numel()].view_as(t))
        start_at += t.numel()


def broadcast(value: float) -> float:
    """The first process's ``value``, on all of them."""
    if not dist.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box)


def save(state: dict, path: Path) -> None:
    """Write a checkpoint."""
    with atomic_file(path) as file:
        torch.save(state, file)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file of which a reader sees the old one or the new one, never half of one."""
    partial = path.with_suffix(f".partial{os.getpid()}")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _exit_with_parent(parent: int) -> None:
    """End this process when the one that launched it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _process_main(rank: int, worker: Callable, ranks: int, meeting: Path, args: tuple) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    init_process(rank, ranks, meeting)
    worker(rank, ranks, *args)


def launch(worker: Callable, ranks: int, *args) -> None:
    """Run ``worker(rank, ranks, *args)`` in ``ranks`` single-thread processes; wait for all."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        if ranks == 1:
            torch.set_num_threads(1)
            worker(0, 1, *args)
        else:
            torch.multiprocessing.start_processes(
                _process_main, (worker, ranks, meeting, args), nprocs=ranks, start_method="spawn"
            )


def fast_bf16() -> bool:
    """Whether this processor multiplies bf16 itself: products take a third of the time, then."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def schedule(
    progress: float, flat: float = 0.4, floor: float = 0.02, warmup: float = 0.01
) -> float:
    """Learning-rate factor at ``progress`` in [0, 1]: short warm-up, flat, then cosine to floor."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    down = min(max((progress - flat) / (1 - flat), 0.0), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * down))


def progress_of(step: int, steps: int, seconds: float, minutes: float) -> float:
    """How far a job is, by its step count or its wall clock, whichever is further (0 =
    unlimited)."""
    by_step = step / steps if steps else 0.0
    by_time = seconds / (60 * minutes) if minutes else 0.0
    return max(by_step, by_time)
