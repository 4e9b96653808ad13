"""A run's encoded draws, the data of its windows and training steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blockskip.core import flow_matching
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
