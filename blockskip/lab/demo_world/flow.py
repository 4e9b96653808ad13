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
from torch import nn

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.latents import BUCKETS, load_buckets
from blockskip.lab.demo_world.model import build_clip_encoder, build_t5_encoder, build_transformer
from blockskip.lab.demo_world.muon import Muon

log = logging.getLogger(__name__)
BATCH = {"full64": 16, "close64": 16, "full32": 36, "crop32": 36}
WIDE = 56  # crops of 64 px pictures from this side (pixels) on are captioned as whole ones
TEXT_KIND = {"full64": "plain", "close64": "close", "full32": "plain", "crop32": "crop"}
T_MEAN = 0.35
SHALLOW, DEEP = (3, 6), (6, 12)
GROW_AT = 0.42
MUON_FACTOR = 2.0


class DemoModel(nn.Module):
    """Transformer and text encoders, trained together; attributes named as in FluxPipeline."""

    def __init__(self, double: int = DEEP[0], single: int = DEEP[1], heads: int = 4) -> None:
        super().__init__()
        self.transformer = build_transformer(double, single, heads)
        self.text_encoder = build_clip_encoder()
        self.text_encoder_2 = build_t5_encoder()

    def forward(self, tokens, t, t5_ids, clip_ids) -> torch.Tensor:
        """Velocity (B, n, 32) of packed noisy ``tokens`` (B, n, 32) at ``t`` (B,) in [0, 1]."""
        side = int(tokens.shape[1] ** 0.5)
        image_ids = torch.zeros(side * side, 3)
        image_ids[:, 1] = torch.arange(side).repeat_interleave(side)
        image_ids[:, 2] = torch.arange(side).repeat(side)
        return self.transformer(
            tokens,
            encoder_hidden_states=self.text_encoder_2(t5_ids)[0],
            pooled_projections=self.text_encoder(clip_ids).pooler_output,
            timestep=t,
            img_ids=image_ids,
            txt_ids=torch.zeros(t5_ids.shape[1], 3),
            return_dict=False,
        )[0]


@torch.no_grad()
def grow(shallow: DemoModel) -> DemoModel:
    """Twice as deep, the same function: behind each block comes a new one that does nothing yet.

    A new block's modulation is zero, so its gates are closed; half of the training at half of the
    depth costs half as much, and the deep model starts from what the shallow one knows.
    """
    deep = DemoModel(*DEEP)
    for name in ("text_encoder", "text_encoder_2"):
        getattr(deep, name).load_state_dict(getattr(shallow, name).state_dict())
    weights = deep.transformer.state_dict()
    for key, value in shallow.transformer.state_dict().items():
        head, *rest = key.split(".")
        if head.endswith("transformer_blocks"):
            key = ".".join((head, str(2 * int(rest[0])), *rest[1:]))
        weights[key] = value
    deep.transformer.load_state_dict(weights)
    return deep


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h/2 * w/2, 4C), as FluxPipeline packs."""
    b, c, h, w = latents.shape
    x = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, h * w // 4, c * 4)


def bucket_shares(progress: float) -> list[float]:
    """Probability of each bucket per step: half size first, full size later; more crops and
    close-ups than whole pictures, since they are the harder ones: a face is all detail."""
    large = 0.3 + 0.4 * min(progress / 0.1, 1.0)
    return [0.4 * large, 0.6 * large, 0.4 * (1 - large), 0.6 * (1 - large)]


class Feeder:
    """Draws batches of one process."""

    def __init__(self, work: Path, seed: int, rank: int) -> None:
        """Everything is held in memory: about 150 MB."""
        self.buckets, self.ids = load_buckets(work), np.load(work / "captions.npz")
        self.ids = {key: torch.from_numpy(self.ids[key]).long() for key in self.ids.files}
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
        """tokens, target (B, n, 32), t (B,), t5_ids and clip_ids."""
        data, n = self.buckets[bucket], BATCH[bucket]
        rows = torch.randint(len(data["index"]), (n,), generator=self.random)
        clean, index = pack(data["latent"][rows].float()), data["index"][rows]
        noise = torch.randn(clean.shape, generator=self.random)
        t = self._times(bucket, data["side"][rows])
        share = t[:, None, None]
        which = torch.randint(self.ids["plain_t5"].shape[1], (n,), generator=self.random)
        wide = data["side"][rows, None] >= WIDE
        return {
            "tokens": (1 - share) * clean + share * noise,
            "target": noise - clean,
            "t": t,
            **{
                f"{encoder}_ids": torch.where(
                    wide,
                    self.ids[f"plain_{encoder}"][index, which],
                    self.ids[f"{TEXT_KIND[bucket]}_{encoder}"][index, which],
                )
                for encoder in ("t5", "clip")
            },
        }


def optimisers(model: DemoModel, muon: bool, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices (but not their modulation), AdamW for the rest."""
    matrices, others = [], []
    for name, p in model.named_parameters():
        block = (
            "transformer.single_transformer_blocks" in name
            or "transformer.transformer_blocks" in name
        )
        (matrices if muon and block and p.ndim == 2 and ".norm" not in name else others).append(p)
    adam = torch.optim.AdamW(others, rate, betas=(0.9, 0.99), weight_decay=0.01)
    return [adam, Muon(matrices, rate)] if matrices else [adam]


class Pretraining:
    """State of the job: weights, average, optimisers, counters; saved and loaded as one file."""

    def __init__(
        self, work: Path, seed: int, rank: int, muon: bool, rate: float, name: str
    ) -> None:
        torch.manual_seed(seed)
        self.work, self.rank, self.rate = work, rank, rate
        self.path, self.log_path = work / f"{name}.pt", work / f"{name}.jsonl"
        saved = torch.load(self.path, weights_only=True) if self.path.exists() else None
        self.depth = tuple(saved["depth"]) if saved else SHALLOW
        self.seed, self.muon = seed, muon
        self.model = DemoModel(*self.depth)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, muon, rate)
        self.step, self.seconds, self.samples = 0, 0.0, 0
        self.sums: dict = defaultdict(lambda: [0.0, 0])
        if saved:
            self.load(saved)
        self.feeder = Feeder(work, seed + 17 * self.step, rank)
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
        self.model = grow(self.model)
        torch.manual_seed(self.seed + 1)
        self.average = grow(self.average).eval().requires_grad_(False)
        self.optimisers = optimisers(self.model, self.muon, self.rate)
        self.depth = DEEP

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
        self.samples += BATCH[bucket] * ranks
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
    minutes: float,
    steps: int,
    seed: int,
    muon: bool = True,
    rate: float = 9e-4,
    name: str = "flow",
    sheet_minutes: float = 10.0,
) -> None:
    """One process of pretraining; goes on from ``work/NAME.pt`` and ends with ``done`` in it."""
    job = Pretraining(work, seed, rank, muon, rate, name)
    before = time.monotonic() - job.seconds
    saved, sheet = time.monotonic(), int(job.seconds / 60 / sheet_minutes)
    while True:
        job.seconds = parallel.agree(time.monotonic() - before)
        progress = parallel.progress_of(job.step, steps, job.seconds, minutes)
        if progress >= 1:
            break
        if progress >= GROW_AT and job.depth != DEEP:
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
