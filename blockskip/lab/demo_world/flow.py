"""Pretrain the transformer with its text encoders on cached latents; can be killed at any time."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.latents import CAPTIONS, load_buckets
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.muon import Muon
from blockskip.lab.measuring.json_lines import append_line

log = logging.getLogger(__name__)
TEXT_KIND = {"full": "plain", "close": "close", "half": "plain", "crop": "crop"}
WIDE = 0.875  # crops of at least this share of the picture's side have captions of whole ones
T_MEAN = 0.35  # of the logit of t at 64 px; twice the side needs twice the noise to hide as much
GROW_AT = 0.42
MUON_FACTOR = 2.0
HELD_OUT = 500  # the last pictures, used only for checks
FLAT = 0.7  # share of the training before the rate decays
WARM_UP = 60  # steps after each start of the optimisers
AVERAGE = 0.999
CHECK_T = (0.1, 0.35, 0.6, 0.85)


class BatchSampler:
    """Draws the batches of one process."""

    def __init__(self, work: Path, kind: type[Demo], seed: int, rank: int) -> None:
        """Load everything into memory, about 500 MB at 128 px."""
        self.kind = kind
        self.buckets, ids = load_buckets(work), np.load(work / "captions.npz")
        self.ids = {key: torch.from_numpy(ids[key]).long() for key in ids.files}
        self.names = sorted(key.removeprefix("plain_") for key in self.ids if "plain" in key)
        self.rng = torch.Generator().manual_seed(seed * 1000 + rank)
        self.rows = {name: self._rows(data["index"]) for name, data in self.buckets.items()}

    def _rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row indices for training, and those held out."""
        in_training = index < len(self.ids[f"plain_{self.names[0]}"]) - HELD_OUT
        return in_training.nonzero()[:, 0], (~in_training).nonzero()[:, 0]

    def _times(self, bucket: str, side: torch.Tensor) -> torch.Tensor:
        """Draw logit-normal t or, for most crops, the t at which that crop side is used."""
        native = self.kind.NATIVE_PX
        mean = T_MEAN + (math.log(native / 64) if bucket == "full" else 0.0)
        t = torch.sigmoid(mean + torch.randn(len(side), generator=self.rng))
        if bucket == "crop":
            jitter = 0.25 * (torch.rand(len(side), generator=self.rng) - 0.5)
            tied = ((2 * side - native) / native + jitter).clamp(0.01, 0.99)
            t = torch.where(torch.rand(len(side), generator=self.rng) < 0.8, tied, t)
        return t

    def batch(self, bucket: str) -> dict[str, torch.Tensor]:
        """Return latents, target (B, C, h, w), t (B,) and the captions' ids, as model arguments."""
        rows, n = self.rows[bucket][0], self.kind.BATCH[bucket]
        rows = rows[torch.randint(len(rows), (n,), generator=self.rng)]
        t = self._times(bucket, self.buckets[bucket]["side"][rows])
        return self._noisy_batch(bucket, rows, t, self.rng)

    def check(self, bucket: str, n: int = 48) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the same ``n`` held-out pictures with the same noise, once for each t."""
        for k, t in enumerate(CHECK_T):
            rows = self.rows[bucket][1][:n]
            noise = torch.Generator().manual_seed(k)
            yield self._noisy_batch(bucket, rows, torch.full((len(rows),), t), noise)

    def _noisy_batch(
        self, bucket: str, rows: torch.Tensor, t: torch.Tensor, random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        data, native = self.buckets[bucket], self.kind.NATIVE_PX
        clean, index = data["latent"][rows].float(), data["index"][rows]
        noise = torch.randn(clean.shape, generator=random)
        share = t[:, None, None, None]
        caption_index = torch.randint(CAPTIONS, (len(rows),), generator=random)
        wide = (bucket != "close") & (data["side"][rows, None] >= WIDE * native)
        return {
            "latents": (1 - share) * clean + share * noise,
            "target": noise - clean,
            "t": t,
            **{
                name: torch.where(
                    wide,
                    self.ids[f"plain_{name}"][index, caption_index],
                    self.ids[f"{TEXT_KIND[bucket]}_{name}"][index, caption_index],
                )
                for name in self.names
            },
        }


@contextmanager
def autocast(enabled: bool) -> Iterator[None]:
    """Context manager with bf16 products, in attention too: torch's fused kernel has a slower bf16
    backward than plain products (12 against 16 pictures of 128 px per second on one core)."""
    if not enabled:
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
    """The state of the job: weights, average, optimisers and counters, saved as one file."""

    def __init__(
        self, work: Path, kind: type[Demo], seed: int, rank: int, muon: bool, rate: float, name: str
    ) -> None:
        torch.manual_seed(seed)
        self.kind = kind
        self.work, self.rank, self.rate = work, rank, rate
        self.path, self.log_path = work / f"{name}.pt", work / f"{name}.jsonl"
        saved = torch.load(self.path, weights_only=True) if self.path.exists() else None
        self.depth = tuple(saved["depth"]) if saved else kind.SHALLOW
        self.seed, self.muon = seed, muon
        self.model = kind(*self.depth)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, muon, rate)
        self.step, self.since, self.seconds, self.samples = 0, 0, 0.0, 0
        self.sums: dict = defaultdict(lambda: [0.0, 0])
        if saved:
            self.load(saved)
        self.feeder = BatchSampler(work, kind, seed + 17 * self.step, rank)
        self.bf16 = parallel.fast_bf16()
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
        self.model = self.kind.grown(self.model)
        torch.manual_seed(self.seed + 1)
        self.average = self.kind.grown(self.average).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, self.muon, self.rate)
        self.depth, self.since = self.kind.DEEP, 0

    def save(self, done: bool = False) -> None:
        """Write the checkpoint atomically."""
        parallel.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "done": done,
                "depth": self.depth,
                "optimisers": [o.state_dict() for o in self.optimisers],
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
        with autocast(self.bf16):
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
        self.samples += self.kind.BATCH[bucket] * ranks
        self._update_average()
        self.sums[bucket][0] += loss.item()
        self.sums[bucket][1] += 1

    def _schedule(self, progress: float) -> float:
        """Return the learning-rate factor: mostly flat, with a warm-up after each optimiser
        start."""
        return min(1.0, (self.since + 1) / WARM_UP) * parallel.schedule(progress, FLAT, warmup=0)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the running average towards the weights."""
        keep = min(AVERAGE, (1 + self.since) / (12 + self.since))
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
        row |= {k: round(total / n, 4) for k, (total, n) in sorted(self.sums.items())}
        self._log(row)
        self.sums.clear()

    @torch.no_grad()
    def check(self) -> None:
        """Append the averaged weights' losses on held-out pictures, by bucket and t, to the log."""
        row: dict = {"step": self.step, "samples": self.samples, "seconds": round(self.seconds)}
        for bucket in self.feeder.buckets:
            losses = []
            for batch in self.feeder.check(bucket):
                target = batch.pop("target")
                with autocast(self.bf16):
                    velocity = self.average(**batch)
                losses.append((velocity.float() - target).square().mean().item())
            row[f"unseen_{bucket}"] = [round(loss, 4) for loss in losses]
        self._log(row)

    def _log(self, row: dict) -> None:
        append_line(self.log_path, row)
        log.info("flow %s", row)


def train_flow(
    rank: int,
    ranks: int,
    work: Path,
    kind: type[Demo],
    minutes: float,
    steps: int,
    seed: int,
    muon: bool = True,
    rate: float = 9e-4,
    name: str = "flow",
    sheet_minutes: float = 10.0,
) -> None:
    """Run one process of pretraining. Resumes from ``work/NAME.pt`` and finally sets ``done`` in
    it."""
    job = Pretraining(work, kind, seed, rank, muon, rate, name)
    before = time.process_time() - job.seconds
    saved, sheet = time.monotonic(), int(job.seconds / 60 / sheet_minutes)
    while True:
        job.seconds = parallel.broadcast(time.process_time() - before)
        progress = parallel.progress_of(job.step, steps, job.seconds, minutes)
        if progress >= 1:
            break
        if progress >= GROW_AT and job.depth != kind.DEEP:
            job.deepen()
        job.train_step(progress, ranks)
        if rank == 0 and job.step % 50 == 0:
            job.report(progress)
        if rank == 0 and time.monotonic() - saved > 120:
            job.save()
            saved = time.monotonic()
            if int(job.seconds / 60 / sheet_minutes) > sheet:
                sheet = int(job.seconds / 60 / sheet_minutes)
                job.check()
                _sheet(job)
    if rank == 0:
        job.save(done=True)
        job.report(1.0)


def _sheet(job: Pretraining) -> None:
    from blockskip.lab.demo_world.sheets import write_sheet

    path = write_sheet(job.work, job.average, f"{job.path.stem}-{job.step:06d}")
    log.info("sheet %s", path)
