"""How alike two real pictures are, and a picture and a text, by networks of others (METHOD.md §4):
DINO and CLIP, by transformers.

A network is named by its id on the hub, `id@revision`, or a folder. Only safetensors are read; what
is not on this PC yet is downloaded by transformers into its own cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from blockskip.events import UserError

DINO = "facebook/dino-vits16@refs/pr/1"  # DreamBooth's ViT-S/16; its main branch has a pickle only
CLIP = "openai/clip-vit-base-patch32"
TOGETHER = 16
SAFE = {"use_safetensors": True}


class Dino:
    """The class token of a vision transformer. Raises UserError when it cannot be loaded."""

    def __init__(self, name: str = DINO, device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModel

        self.name, self.device = name, torch.device(device)
        self.model = _loaded(AutoModel, name).to(self.device)
        self.prepare = _loaded(AutoImageProcessor, name)

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """(n, D), of length 1, on the CPU."""
        return torch.cat([self._some(part) for part in _parts(images)])

    def _some(self, images: list[Image.Image]) -> Tensor:
        pixels = self.prepare(images, return_tensors="pt")["pixel_values"].to(self.device)
        return unit(self.model(pixels).last_hidden_state[:, 0])


class Clip:
    """CLIP's pictures and texts, in one space. Raises UserError when it cannot be loaded."""

    def __init__(self, name: str = CLIP, device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        self.name, self.device = name, torch.device(device)
        self.model = _loaded(CLIPModel, name).to(self.device)
        self.prepare = _loaded(AutoImageProcessor, name)
        self.tokens = _loaded(AutoTokenizer, name)

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """(n, D), of length 1, on the CPU."""
        return torch.cat([self._some(part) for part in _parts(images)])

    def _some(self, images: list[Image.Image]) -> Tensor:
        pixels = self.prepare(images, return_tensors="pt")["pixel_values"].to(self.device)
        return unit(self.model.get_image_features(pixel_values=pixels).pooler_output)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """(n, D), of length 1, on the CPU; what is too long for CLIP is cut."""
        said = self.tokens(list(texts), padding=True, truncation=True, return_tensors="pt")
        return unit(self.model.get_text_features(**said.to(self.device)).pooler_output)


def unit(rows: Tensor) -> Tensor:
    """Rows (n, D) at length 1, float32, on the CPU."""
    return nn.functional.normalize(rows.float(), dim=-1).cpu()


def _parts(images: Sequence[Image.Image]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(images), TOGETHER):
        yield [image.convert("RGB") for image in images[start : start + TOGETHER]]


def _loaded(kind: type, name: str) -> object:
    """From a folder, or from the hub at a revision."""
    place, _, revision = name.partition("@")
    only = {} if "Processor" in kind.__name__ or "Tokenizer" in kind.__name__ else SAFE
    try:
        found = kind.from_pretrained(place, revision=revision or "main", **only)
    except (OSError, ValueError) as error:
        raise UserError(
            f"“{name}” could not be loaded as a network that compares pictures.",
            "Name a folder in transformers' layout with model.safetensors, or an id of the hub "
            f"while there is a connection ({str(error).splitlines()[0][:160]}).",
        ) from error
    return found.requires_grad_(False).eval() if isinstance(found, nn.Module) else found
