"""Embed real pictures and texts with DINO and CLIP from transformers (docs/method.md §4).

A network is named by its Hub id, `id@revision`, or a folder. Only safetensors are read. Missing
files are downloaded by transformers into its own cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from blockskip.core.errors import BadFile

DINO = "facebook/dino-vits16@refs/pr/1"  # DreamBooth's ViT-S/16; its main branch has a pickle only
CLIP = "openai/clip-vit-base-patch32"
BATCH = 16
NO_PROGRAMS = {"trust_remote_code": False}
SAFETENSORS_ONLY = {"use_safetensors": True}


class _Embedder(ABC):
    """A network that embeds pictures. Raises UserError if it cannot be loaded."""

    def __init__(self, kind: type, name: str, device: torch.device | str) -> None:
        from transformers import AutoImageProcessor

        self.name, self.device = name, torch.device(device)
        self.model = _load(kind, name).to(self.device)
        self.prepare = _load(AutoImageProcessor, name)

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Return embeddings (n, D) of length 1, on the CPU."""
        parts = []
        for start in range(0, len(images), BATCH):
            batch = [image.convert("RGB") for image in images[start : start + BATCH]]
            pixels = self.prepare(batch, return_tensors="pt")["pixel_values"]
            parts.append(normalised(self._features(pixels.to(self.device))))
        return torch.cat(parts)

    @abstractmethod
    def _features(self, pixels: Tensor) -> Tensor:
        """Return features (n, D) of pixels (n, 3, H, W)."""


class Dino(_Embedder):
    """The class token of a vision transformer."""

    def __init__(self, name: str = DINO, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModel

        super().__init__(AutoModel, name, device)

    def _features(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state[:, 0]


class Clip(_Embedder):
    """CLIP, which embeds pictures and texts in one space."""

    def __init__(self, name: str = CLIP, device: torch.device | str = "cpu") -> None:
        from transformers import AutoTokenizer, CLIPModel

        super().__init__(CLIPModel, name, device)
        self.tokens = _load(AutoTokenizer, name)

    def _features(self, pixels: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values=pixels).pooler_output

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings (n, D) of length 1, on the CPU. Texts too long for CLIP are
        truncated."""
        tokens = self.tokens(list(texts), padding=True, truncation=True, return_tensors="pt")
        return normalised(self.model.get_text_features(**tokens.to(self.device)).pooler_output)


def normalised(rows: Tensor) -> Tensor:
    """Return rows (n, D) scaled to length 1, in float32 on the CPU."""
    return nn.functional.normalize(rows.float(), dim=-1).cpu()


def _load(kind: type, name: str) -> object:
    """Load from a folder, or from the Hub at a revision. Raises BadFile if that fails."""
    location, _, revision = name.partition("@")
    texts = "Processor" in kind.__name__ or "Tokenizer" in kind.__name__
    options = NO_PROGRAMS if texts else NO_PROGRAMS | SAFETENSORS_ONLY
    try:
        loaded = kind.from_pretrained(location, revision=revision or "main", **options)
    except (OSError, ValueError) as error:
        raise BadFile(
            f"“{name}” could not be loaded as a network that compares pictures.",
            "Name a folder in transformers' layout with model.safetensors, or an id of the hub "
            f"while there is a connection ({str(error).splitlines()[0][:160]}).",
        ) from error
    return loaded.requires_grad_(False).eval() if isinstance(loaded, nn.Module) else loaded
