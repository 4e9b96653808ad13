"""The base class of the demo models: a transformer and its text encoders, trained together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

TEXT_WIDTH = 96


class Demo(nn.Module, ABC):
    """A demo model with fresh weights. Its parts are named as in diffusers' pipeline.

    SHALLOW, DEEP: numbers of blocks at the start and end of training. ENCODERS: the text encoders.
    FAMILY: of blockskip/models/families. FOLDER: in assets. MAX_SEQUENCE_LENGTH: tokens per
    caption. NATIVE_PX: side of whole pictures. BATCH: pictures per step for each bucket
    (latents.py).
    """

    SHALLOW: tuple[int, ...]
    DEEP: tuple[int, ...]
    ENCODERS: tuple[str, ...]
    FAMILY: str
    FOLDER: str
    MAX_SEQUENCE_LENGTH: int
    NATIVE_PX: int
    BATCH: dict[str, int]
    transformer: nn.Module

    @staticmethod
    @abstractmethod
    def bucket_shares(progress: float) -> dict[str, float]:
        """Return the probability of each bucket in a step at ``progress`` in [0, 1]."""

    @abstractmethod
    def forward(self, latents: Tensor, t: Tensor, **ids: Tensor) -> Tensor:
        """Return the velocity (B, C, h, w) of noisy ``latents`` at ``t`` (B,) in [0, 1], given the
        captions' token ``ids``."""

    @abstractmethod
    def pipeline(self, ae: nn.Module) -> DiffusionPipeline:
        """Return diffusers' pipeline in float32 with these weights and an autoencoder."""

    @staticmethod
    @abstractmethod
    def build_ae() -> nn.Module:
        """Return the autoencoder with fresh weights."""

    @staticmethod
    @abstractmethod
    def code(ae: nn.Module, pixels: Tensor) -> Tensor:
        """Return unscaled latents (B, C, h, w) of pixels (B, 3, H, W) in [-1, 1]."""

    @staticmethod
    @abstractmethod
    def noisy_code(ae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return noisy latents for training the autoencoder, and their divergence from a standard
        normal."""

    @staticmethod
    @abstractmethod
    def token_ids(texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """Return the captions' token ids by argument of ``forward``."""

    @classmethod
    @torch.no_grad()
    def grown(cls, shallow: Self) -> Self:
        """Return a model twice as deep that computes the same function: each block is followed by a
        new one, which is still an identity.

        Fresh blocks add zero. Training at half depth costs half as much, and the deep model starts
        from the shallow one's weights.
        """
        deep = cls(*cls.DEEP)
        for name in cls.ENCODERS:
            getattr(deep, name).load_state_dict(getattr(shallow, name).state_dict())
        weights = deep.transformer.state_dict()
        for key, value in shallow.transformer.state_dict().items():
            head, *tail = key.split(".")
            if head.endswith("transformer_blocks"):
                key = ".".join((head, str(2 * int(tail[0])), *tail[1:]))
            weights[key] = value
        deep.transformer.load_state_dict(weights)
        return deep


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Return a flow-matching scheduler without a timestep shift."""
    return FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
