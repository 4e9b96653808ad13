"""What the demo models have in common: a transformer and its text encoders, trained together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

TEXT_WIDTH = 96


class Demo(nn.Module, ABC):
    """A demo model with fresh weights; its parts are named as in the library's pipeline.

    SHALLOW, DEEP: numbers of blocks that training begins and ends with. ENCODERS: the text
    encoders. FAMILY: of blockskip/models/families. FOLDER: in assets. MAX_SEQUENCE_LENGTH: tokens
    of a caption. NATIVE_PX: side of its whole pictures. BATCH: pictures of each bucket (latents.py)
    in a step.
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
        """Probability of each bucket in a step at ``progress`` in [0, 1]."""

    @abstractmethod
    def forward(self, latents: Tensor, t: Tensor, **ids: Tensor) -> Tensor:
        """Velocity (B, C, h, w) of noisy ``latents`` at ``t`` (B,) in [0, 1], as captions say whose
        tokens are ``ids``."""

    @abstractmethod
    def pipeline(self, ae: nn.Module) -> DiffusionPipeline:
        """The library's, in float32, around these weights and an autoencoder."""

    @staticmethod
    @abstractmethod
    def build_ae() -> nn.Module:
        """The autoencoder, with fresh weights."""

    @staticmethod
    @abstractmethod
    def code(ae: nn.Module, pixels: Tensor) -> Tensor:
        """Latents (B, C, h, w) of pixels (B, 3, H, W) in [-1, 1], not yet scaled."""

    @staticmethod
    @abstractmethod
    def noisy_code(ae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Latents to train the autoencoder on, with its noise, and how far they are from standard
        normal ones."""

    @staticmethod
    @abstractmethod
    def token_ids(texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """What ``forward`` takes of captions, by argument."""

    @classmethod
    @torch.no_grad()
    def grown(cls, shallow: Self) -> Self:
        """Twice as deep, the same function: behind each block comes a new one that does nothing
        yet.

        What a fresh block adds is zero. Half of the training at half of the depth costs half as
        much, and the deep model starts from what the shallow one knows.
        """
        deep = cls(*cls.DEEP)
        for name in cls.ENCODERS:
            getattr(deep, name).load_state_dict(getattr(shallow, name).state_dict())
        weights = deep.transformer.state_dict()
        for key, value in shallow.transformer.state_dict().items():
            head, *rest = key.split(".")
            if head.endswith("transformer_blocks"):
                key = ".".join((head, str(2 * int(rest[0])), *rest[1:]))
            weights[key] = value
        deep.transformer.load_state_dict(weights)
        return deep


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Straight flow matching without a timestep shift."""
    return FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
