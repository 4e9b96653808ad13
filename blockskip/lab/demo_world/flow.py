"""Pretrain the transformer with its text encoders on cached latents; can be killed at any time."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.batches import CPU, BatchSampler
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.muon import Muon
from blockskip.lab.measuring.json_lines import append_line

log = logging.getLogger(__name__)
GROW_AT = 0.42
MUON_FACTOR = 2.0
FLAT = 0.7  # share of the training before the rate decays
WARM_UP = 60  # steps after each start of the optimisers
AVERAGE = 0.999
RATE = 9e-4


@contextmanager
def autocast(enabled: bool, device: torch.device = CPU) -> Iterator[None]:
    """Context manager with bf16 products, on the CPU in attention too: torch's fused kernel has a
    slower bf16 backward than plain products there (12 against 16 pictures of 128 px per second on
    one core)."""
    if not enabled or device.type != "cpu":
        with torch.autocast(device.type, torch.bfloat16, enabled):
            yield
        return

    def products(query: Tensor, key: Tensor, value: Tensor, **_: object) -> Tensor:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(-1).to(value.dtype) @ value

    fused, functional.scaled_dot_product_attention = (
        functional.scaled_dot_product_attention,
        products,
    )
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        functional.scaled_dot_product_attention = fused


def optimisers(model: Demo, muon: bool, rate: float) -> list[torch.optim.Optimizer]:
    """Return AdamW, and Muon for the blocks' matrices (except their modulation)."""
    matrices, others = [], []
    for name, p in model.named_parameters():
        matrix = "transformer_blocks." in name and p.ndim > 1 and min(p.flatten(1).shape) > 9
        (matrices if muon and matrix and ".norm" not in name else others).append(p)
    adam = torch.optim.AdamW(others, rate, betas=(0.9, 0.99), weight_decay=0.01)
    return [adam, Muon(matrices, rate)] if matrices else [adam]


class Pretraining:
    """The state of the job: weights, average, optimisers and counters, saved as one file.

    times: how many times the kind's batch a step takes. With it grow the learning rate (by its
    square root, which keeps an adaptive optimiser's noise) and the average's pace.
    """

    def __init__(
        self,
        work: Path,
        kind: type[Demo],
        seed: int,
        rank: int = 0,
        muon: bool = True,
        rate: float = RATE,
        name: str = "flow",
        device: torch.device = CPU,
        times: int = 1,
    ) -> None:
        torch.manual_seed(seed)
        self.kind, self.device, self.times = kind, device, times
        self.work, self.rank, self.rate = work, rank, rate * times**0.5
        self.path, self.log_path = work / f"{name}.pt", work / f"{name}.jsonl"
        saved = torch.load(self.path, weights_only=True) if self.path.exists() else None
        self.depth = tuple(saved["depth"]) if saved else kind.SHALLOW
        self.seed, self.muon = seed, muon
        self.model = kind(*self.depth).to(device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, muon, self.rate)
        self.step, self.since, self.seconds, self.samples = 0, 0, 0.0, 0
        self.losses: dict[str, list[Tensor]] = defaultdict(list)
        if saved:
            self.load(saved)
        self.feeder = BatchSampler(work, kind, seed + 17 * self.step, rank, device, times)
        self.bf16 = parallel.fast_bf16(device)
        self.choice = np.random.default_rng([seed, self.step])

    def load(self, state: dict) -> None:
        """Resume from the checkpoint ``state``."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if state["optimisers"]:  # a warm start has none
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.since = state["since"]
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]

    def deepen(self) -> None:
        """Switch to the deep model with fresh optimisers."""
        torch.manual_seed(self.seed + 1)
        self.model = self.kind.grown(self.model).to(self.device)
        torch.manual_seed(self.seed + 1)
        self.average = self.kind.grown(self.average).to(self.device).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, self.muon, self.rate)
        self.depth, self.since = self.kind.DEEP, 0

    def save(self, done: bool = False) -> None:
        """Write the checkpoint atomically."""
        parallel.save(
            {
                "model": _on_cpu(self.model.state_dict()),
                "average": _on_cpu(self.average.state_dict()),
                "done": done,
                "depth": self.depth,
                "optimisers": [_on_cpu(o.state_dict()) for o in self.optimisers],
                "step": self.step,
                "since": self.since,  # steps of these optimisers
                "seconds": self.seconds,
                "samples": self.samples,
            },
            self.path,
        )

    def train_step(self, progress: float, ranks: int) -> None:
        """Take one step on a batch of one bucket, which is the same on all processes."""
        shares = self.kind.bucket_shares(progress)
        bucket = str(self.choice.choice(list(shares), p=list(shares.values())))
        batch = self.feeder.batch(bucket)
        target = batch.pop("target")
        with autocast(self.bf16, self.device):
            velocity = self.model(**batch)
        loss = (velocity.float() - target).square().mean()
        loss.backward()
        parallel.all_reduce_mean(p.grad for p in self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                factor = MUON_FACTOR if isinstance(optimiser, Muon) else 1.0
                group["lr"] = self.rate * factor * self._schedule(progress)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step, self.since = self.step + 1, self.since + 1
        self.samples += self.kind.BATCH[bucket] * self.times * ranks
        self._update_average()
        self.losses[bucket].append(loss.detach())  # a card is not waited for

    def _schedule(self, progress: float) -> float:
        """Return the learning-rate factor: mostly flat, with a warm-up after each optimiser
        start."""
        return min(1.0, (self.since + 1) / WARM_UP) * parallel.schedule(progress, FLAT, warmup=0)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the running average towards the weights."""
        keep = min(AVERAGE**self.times, (1 + self.since) / (12 + self.since))
        averages, weights = list(self.average.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - keep)

    def report(self, progress: float) -> None:
        """Append mean losses by bucket since the last report to the JSONL log."""
        row = {
            "step": self.step,
            "samples": self.samples,
            "seconds": round(self.seconds),
            "progress": round(progress, 4),
        }
        means = {k: torch.stack(losses).mean().item() for k, losses in self.losses.items()}
        row |= {k: round(mean, 4) for k, mean in sorted(means.items())}
        self._log(row)
        self.losses.clear()

    @torch.no_grad()
    def check(self) -> dict:
        """Append the averaged weights' losses on held-out pictures, by bucket and t, to the log.
        Returns that line."""
        row: dict = {"step": self.step, "samples": self.samples, "seconds": round(self.seconds)}
        for bucket in self.feeder.buckets:
            losses = []
            for batch in self.feeder.check(bucket):
                target = batch.pop("target")
                with autocast(self.bf16, self.device):
                    velocity = self.average(**batch)
                losses.append((velocity.float() - target).square().mean().item())
            row[f"unseen_{bucket}"] = [round(loss, 4) for loss in losses]
        self._log(row)
        return row

    def _log(self, row: dict) -> None:
        append_line(self.log_path, row)
        log.info("flow %s", row)


def _on_cpu(state: Any) -> Any:
    """Return a state dict with its tensors in RAM, for machines without a card."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state


def train_flow(
    rank: int,
    ranks: int,
    work: Path,
    kind: type[Demo],
    minutes: float,
    steps: int,
    seed: int,
    muon: bool = True,
    rate: float = RATE,
    name: str = "flow",
    sheet_minutes: float = 10.0,
) -> None:
    """Run one process of pretraining. Resumes from ``work/NAME.pt`` and finally sets ``done`` in
    it."""
    job = Pretraining(work, kind, seed, rank, muon, rate, name)
    before = time.process_time() - job.seconds

    def seconds() -> float:
        return parallel.broadcast(time.process_time() - before)

    train(job, seconds, minutes, steps, ranks, sheet_minutes=sheet_minutes)


def train(
    job: Pretraining,
    seconds: Callable[[], float],
    minutes: float,
    steps: int,
    ranks: int = 1,
    stop: Callable[[], bool] = lambda: False,
    sheet_minutes: float = math.inf,
) -> float:
    """Train until `seconds` reach `minutes` or the steps `steps` (0 = unlimited), or `stop` says
    so. Saves every two minutes and at the end. Returns the progress."""
    saved, sheet, progress = time.monotonic(), int(job.seconds / 60 / sheet_minutes), 0.0
    while True:
        job.seconds = seconds()
        progress = parallel.progress_of(job.step, steps, job.seconds, minutes)
        if progress >= 1 or stop():
            break
        if progress >= GROW_AT and job.depth != job.kind.DEEP:
            job.deepen()
        job.train_step(progress, ranks)
        if job.rank == 0 and job.step % 50 == 0:
            job.report(progress)
        if job.rank == 0 and time.monotonic() - saved > 120:
            job.save()
            saved = time.monotonic()
            if int(job.seconds / 60 / sheet_minutes) > sheet:
                sheet = int(job.seconds / 60 / sheet_minutes)
                job.check()
                sample_average(job)
    if job.rank == 0:
        job.save(done=progress >= 1)
        job.report(min(progress, 1.0))
    return progress


def sample_average(job: Pretraining) -> Path:
    """Write a sheet of the averaged weights' samples, computed on the CPU. Returns its path."""
    from blockskip.lab.demo_world.sheets import write_sheet

    average = copy.deepcopy(job.average).cpu()
    path = write_sheet(job.work, average, f"{job.path.stem}-{job.step:06d}")
    log.info("sheet %s", path)
    return path
