"""A run's encoded draws, the data of its windows and training steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from blockskip.core import flow_matching
from blockskip.core.safetensors_files import load_tensors, read_metadata, save_tensors
from blockskip.data.schedule import Draw
from blockskip.models.families.base import Text


@dataclass(frozen=True)
class TrainingData:
    """The draws of a run with their latents and captions. `rows` are indices into `draws`.

    latents: x_0, (num_draws, T, C) or (num_draws, C, h, w), on the CPU. text: one row per caption.
    """

    draws: Sequence[Draw]
    latents: Tensor
    text: Text
    captions: Sequence[int]  # row of `text` for each photo
    class_caption: int  # row of `text` for the bare class word
    empty_caption: int  # row of `text` for ""

    def save(self, path: Path) -> None:
        """Write everything to a file of tensors. Raises UserError on a disk error."""
        facts = {
            "draws": [asdict(draw) for draw in self.draws],
            "captions": list(self.captions),
            "class_caption": self.class_caption,
            "empty_caption": self.empty_caption,
        }
        tensors = {"latents": self.latents, "embeds": self.text.embeds}
        tensors["pooled_or_mask"] = self.text.pooled_or_mask
        save_tensors(path, tensors, {"facts": json.dumps(facts)}, lasting=False)

    @staticmethod
    def load(path: Path) -> TrainingData:
        """Read what `save` wrote. Raises BadFile."""
        tensors, facts = load_tensors(path), json.loads(read_metadata(path)["facts"])
        draws = [Draw(**draw) for draw in facts.pop("draws")]
        text = Text(tensors["embeds"], tensors["pooled_or_mask"])
        return TrainingData(draws, tensors["latents"], text, **facts)

    def timesteps(self, rows: Sequence[int]) -> Tensor:
        """Return t of each draw, (B,) float32."""
        return torch.tensor([self.draws[i].t for i in rows], dtype=torch.float32)

    def noise(self, rows: Sequence[int]) -> Tensor:
        """Return ε of each draw, (B, T, C) or (B, C, h, w)."""
        shape = tuple(self.latents.shape[1:])
        return torch.stack([flow_matching.noise(shape, self.draws[i].noise_seed) for i in rows])

    def noisy(self, rows: Sequence[int]) -> Tensor:
        """Return x_t of each draw, shaped like `noise`."""
        latents = self.latents[list(rows)]
        return flow_matching.add_noise(latents, self.noise(rows), self.timesteps(rows))

    def velocity(self, rows: Sequence[int]) -> Tensor:
        """Return ε - x_0 of each draw, shaped like `noise`."""
        return flow_matching.velocity(self.latents[list(rows)], self.noise(rows))

    def texts(self, rows: Sequence[int]) -> Text:
        """Return the draws' captions, one row per draw."""
        return self.text.rows([self._caption(self.draws[i]) for i in rows])

    def _caption(self, draw: Draw) -> int:
        if draw.prior:
            return self.class_caption
        return self.empty_caption if draw.blank else self.captions[draw.photo]

    def prior_rows(self, rows: Sequence[int]) -> list[int]:
        """Return the rows of prior-preservation draws, captioned with the bare class word."""
        return [i for i in rows if self.draws[i].prior]
