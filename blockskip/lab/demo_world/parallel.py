"""Train in several single-thread processes that average gradients; checkpoints survive a kill."""

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
    """Join ``ranks`` processes through the file ``meeting``, with one thread each."""
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
    """Return the first process's ``value`` on all processes."""
    if not dist.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box)


def save(state: dict, path: Path) -> None:
    """Write a checkpoint atomically."""
    with atomic_file(path) as file:
        torch.save(state, file)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Context manager that yields a temporary file and replaces `path` by it on exit, so that
    readers never see a partial file."""
    partial = path.with_suffix(f".partial{os.getpid()}")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _exit_with_parent(parent: int) -> None:
    """Exit this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _process_main(rank: int, worker: Callable, ranks: int, meeting: Path, args: tuple) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    init_process(rank, ranks, meeting)
    worker(rank, ranks, *args)


def launch(worker: Callable, ranks: int, *args) -> None:
    """Run ``worker(rank, ranks, *args)`` in ``ranks`` single-thread processes and wait for all."""
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


def fast_bf16(device: torch.device) -> bool:
    """Return whether this device has bf16 instructions, which make a CPU's products three times
    faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def schedule(
    progress: float, flat: float = 0.4, floor: float = 0.02, warmup: float = 0.01
) -> float:
    """Return the learning-rate factor at ``progress`` in [0, 1]: warm-up, flat, then cosine to
    ``floor``."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    down = min(max((progress - flat) / (1 - flat), 0.0), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * down))


def progress_of(step: int, steps: int, seconds: float, minutes: float) -> float:
    """Return a job's progress by step count or by time, whichever is further (0 = unlimited)."""
    by_step = step / steps if steps else 0.0
    by_time = seconds / (60 * minutes) if minutes else 0.0
    return max(by_step, by_time)
