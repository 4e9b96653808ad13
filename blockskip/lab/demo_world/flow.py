"""Pretraining the transformer with both text encoders on cached latents; killable at any time."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.latents import BUCKETS, CAPTIONS, load_buckets
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.muon import Muon

log = logging.getLogger(__name__)
BATCH = {"full64": 16, "close64": 16, "full32": 36, "crop32": 36}
WIDE = 56  # crops of 64 px pictures from this side (pixels) on are captioned as whole ones
TEXT_KIND = {"full64": "plain", "close64": "close", "full32": "plain", "crop32": "crop"}
T_MEAN = 0.35
GROW_AT = 0.42
MUON_FACTOR = 2.0


def bucket_shares(progress: float) -> list[float]:
    """Probability of each bucket per step: half size first, full size later; more crops and
    close-ups than whole pictures, since they are the harder ones: a face is all detail."""
    large = 0.3 + 0.4 * min(progress / 0.1, 1.0)
    return [0.4 * large, 0.6 * large, 0.4 * (1 - large), 0.6 * (1 - large)]


class Feeder:
    """Draws batches of one process."""

    def __init__(self, work: Path, seed: int, rank: int, batches: int = 1) -> None:
        """Everything is held in memory: about 150 MB."""
        self.num = {bucket: n * batches for bucket, n in BATCH.items()}
        self.buckets, self.ids = load_buckets(work), np.load(work / "captions.npz")
        self.ids = {key: torch.from_numpy(self.ids[key]).long() for key in self.ids.files}
        self.names = sorted(key.removeprefix("plain_") for key in self.ids if "plain" in key)
        self.random = torch.Generator().manual_seed(seed * 1000 + rank)

    def _times(self, bucket: str, side: torch.Tensor) -> torch.Tensor:
        """Logit-normal t; for most of the crops, the t at which that crop side is used."""
        t = torch.sigmoid(T_MEAN + torch.randn(len(side), generator=self.random))
        if bucket == "crop32":
            jitter = 0.25 * (torch.rand(len(side), generator=self.random) - 0.5)
            tied = ((side - 32) / 32 + jitter).clamp(0.01, 0.99)
            t = torch.where(torch.rand(len(side), generator=self.random) < 0.8, tied, t)
        return t

    def batch(self, bucket: str) -> dict[str, torch.Tensor]:
        """latents, target (B, C, h, w), t (B,) and the captions' ids, as the model takes them."""
        data, n = self.buckets[bucket], self.num[bucket]
        rows = torch.randint(len(data["index"]), (n,), generator=self.random)
        clean, index = data["latent"][rows].float(), data["index"][rows]
        noise = torch.randn(clean.shape, generator=self.random)
        t = self._times(bucket, data["side"][rows])
        share = t[:, None, None, None]
        which = torch.randint(CAPTIONS, (n,), generator=self.random)
        wide = data["side"][rows, None] >= WIDE
        return {
            "latents": (1 - share) * clean + share * noise,
            "target": noise - clean,
            "t": t,
            **{
                name: torch.where(
                    wide,
                    self.ids[f"plain_{name}"][index, which],
                    self.ids[f"{TEXT_KIND[bucket]}_{name}"][index, which],
                )
                for name in self.names
            },
        }


def optimisers(model: Demo, muon: bool, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices (but not their modulation), AdamW for the rest."""
    matrices, others = [], []
    for name, p in model.named_parameters():
        matrix = "transformer_blocks." in name and p.ndim > 1 and min(p.flatten(1).shape) > 9
        (matrices if muon and matrix and ".norm" not in name else others).append(p)
    adam = torch.optim.AdamW(others, rate, betas=(0.9, 0.99), weight_decay=0.01)
    return [adam, Muon(matrices, rate)] if matrices else [adam]


class Pretraining:
    """State of the job: weights, average, optimisers, counters; saved and loaded as one file."""

    def __init__(
        self,
        work: Path,
        kind: type[Demo],
        seed: int,
        rank: int,
        muon: bool,
        rate: float,
        name: str,
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
        self.step, self.seconds, self.samples = 0, 0.0, 0
        self.sums: dict = defaultdict(lambda: [0.0, 0])
        if saved:
            self.load(saved)
        self.feeder = Feeder(work, seed + 17 * self.step, rank, kind.BATCHES)
        self.choice = np.random.default_rng([seed, self.step])

    def load(self, state: dict) -> None:
        """Go on from the checkpoint ``state``."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if state["optimisers"]:  # a warm start has none
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]

    def deepen(self) -> None:
        """Go over to the deep model; the optimisers start afresh."""
        torch.manual_seed(self.seed + 1)
        self.model = self.kind.grown(self.model)
        torch.manual_seed(self.seed + 1)
        self.average = self.kind.grown(self.average).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, self.muon, self.rate)
        self.depth = self.kind.DEEP

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
                "seconds": self.seconds,
                "samples": self.samples,
            },
            self.path,
        )

    def train_step(self, progress: float, ranks: int) -> None:
        """One batch of one bucket (the same on all processes), one update."""
        bucket = str(self.choice.choice(BUCKETS, p=bucket_shares(progress)))
        batch = self.feeder.batch(bucket)
        target = batch.pop("target")
        loss = (self.model(**batch) - target).square().mean()
        loss.backward()
        parallel.average(p.grad for p in self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                factor = MUON_FACTOR if isinstance(optimiser, Muon) else 1.0
                group["lr"] = self.rate * factor * parallel.schedule(progress, flat=0.2)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += self.feeder.num[bucket] * ranks
        self._follow()
        self.sums[bucket][0] += loss.item()
        self.sums[bucket][1] += 1

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average towards the weights."""
        keep = min(0.998, (1 + self.step) / (12 + self.step))
        ours, theirs = list(self.average.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - keep)

    def report(self, progress: float) -> None:
        """Append mean losses by bucket since the last report to the JSONL log."""
        row = {
            "step": self.step,
            "samples": self.samples,
            "seconds": round(self.seconds),
            "progress": round(progress, 4),
        }
        row |= {k: round(total / n, 4) for k, (total, n) in sorted(self.sums.items())}
        with self.log_path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        log.info("flow %s", row)
        self.sums.clear()


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
    """One process of pretraining; goes on from ``work/NAME.pt`` and ends with ``done`` in it."""
    job = Pretraining(work, kind, seed, rank, muon, rate, name)
    before = time.monotonic() - job.seconds
    saved, sheet = time.monotonic(), int(job.seconds / 60 / sheet_minutes)
    while True:
        job.seconds = parallel.agree(time.monotonic() - before)
        progress = parallel.progress_of(job.step, steps, job.seconds, minutes)
        if progress >= 1:
            break
        if progress >= GROW_AT and job.depth != kind.DEEP:
            job.deepen()
        job.train_step(progress, ranks)
        if rank == 0 and job.step % 50 == 0:
            job.report(progress)
        if rank == 0 and time.monotonic() - saved > 90:
            job.save()
            saved = time.monotonic()
            if int(job.seconds / 60 / sheet_minutes) > sheet:
                sheet = int(job.seconds / 60 / sheet_minutes)
                _sheet(job)
    if rank == 0:
        job.save(done=True)
        job.report(1.0)


def _sheet(job: Pretraining) -> None:
    from blockskip.lab.demo_world.sheets import write_sheet

    path = write_sheet(job.work, job.average, f"{job.path.stem}-{job.step:06d}")
    log.info("sheet %s", path)
