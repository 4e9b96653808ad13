"""Draw noisy batches of the drawn world's latents with their captions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from blockskip.lab.demo_world.latents import CAPTIONS, load_buckets
from blockskip.lab.demo_world.model import Demo

CPU = torch.device("cpu")
TEXT_KIND = {"full": "plain", "close": "close", "half": "plain", "crop": "crop"}
WIDE = 0.875  # crops of at least this share of the picture's side have captions of whole ones
T_MEAN = 0.35  # of the logit of t at 64 px; twice the side needs twice the noise to hide as much
HELD_OUT = 500  # the last pictures, used only for checks
CHECK_T = (0.1, 0.35, 0.6, 0.85)


class BatchSampler:
    """Draws the batches of one process, `times` as large as the kind's."""

    def __init__(
        self,
        work: Path,
        kind: type[Demo],
        seed: int,
        rank: int,
        device: torch.device = CPU,
        times: int = 1,
    ) -> None:
        """Load everything to `device`, about 500 MB at 128 px."""
        self.kind, self.device, self.times = kind, device, times
        ids = np.load(work / "captions.npz")
        self.buckets = {
            bucket: {name: part.to(device) for name, part in data.items()}
            for bucket, data in load_buckets(work).items()
        }
        self.ids = {key: torch.from_numpy(ids[key]).to(device).long() for key in ids.files}
        self.names = sorted(key.removeprefix("plain_") for key in self.ids if "plain" in key)
        self.rng = torch.Generator(device).manual_seed(seed * 1000 + rank)
        self.rows = {name: self._rows(data["index"]) for name, data in self.buckets.items()}

    def _rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row indices for training, and those held out."""
        in_training = index < len(self.ids[f"plain_{self.names[0]}"]) - HELD_OUT
        return in_training.nonzero()[:, 0], (~in_training).nonzero()[:, 0]

    def _times(self, bucket: str, side: torch.Tensor) -> torch.Tensor:
        """Draw logit-normal t or, for most crops, the t at which that crop side is used."""
        native = self.kind.NATIVE_PX
        mean = T_MEAN + (math.log(native / 64) if bucket == "full" else 0.0)
        on = {"generator": self.rng, "device": self.device}
        t = torch.sigmoid(mean + torch.randn(len(side), **on))
        if bucket == "crop":
            jitter = 0.25 * (torch.rand(len(side), **on) - 0.5)
            tied = ((2 * side - native) / native + jitter).clamp(0.01, 0.99)
            t = torch.where(torch.rand(len(side), **on) < 0.8, tied, t)
        return t

    def batch(self, bucket: str) -> dict[str, torch.Tensor]:
        """Return latents, target (B, C, h, w), t (B,) and the captions' ids, as model arguments."""
        rows, n = self.rows[bucket][0], self.kind.BATCH[bucket] * self.times
        rows = rows[torch.randint(len(rows), (n,), generator=self.rng, device=self.device)]
        t = self._times(bucket, self.buckets[bucket]["side"][rows])
        return self._noisy_batch(bucket, rows, t, self.rng)

    def check(self, bucket: str, n: int = 48) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the same ``n`` held-out pictures with the same noise, once for each t."""
        for k, t in enumerate(CHECK_T):
            rows = self.rows[bucket][1][:n]
            noise = torch.Generator().manual_seed(k)  # the CPU's on every device
            t = torch.full((len(rows),), t, device=self.device)
            yield self._noisy_batch(bucket, rows, t, noise)

    def _noisy_batch(
        self, bucket: str, rows: torch.Tensor, t: torch.Tensor, random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        data, native = self.buckets[bucket], self.kind.NATIVE_PX
        clean, index = data["latent"][rows].float(), data["index"][rows]
        on = {"generator": random, "device": random.device}
        noise = torch.randn(clean.shape, **on).to(self.device)
        share = t[:, None, None, None]
        caption_index = torch.randint(CAPTIONS, (len(rows),), **on).to(self.device)
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
