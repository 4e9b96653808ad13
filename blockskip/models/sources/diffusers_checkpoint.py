"""Weights of a model that we read in the library's own layout only: a folder a part. No torch.

What each family's file layout answers is written in flux_checkpoint.py, which knows ComfyUI's too.
"""

from __future__ import annotations

from blockskip.core.presets import ModelRow
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.tensors import WeightIndex, find_weight

_WHAT = {"transformer": "transformer", "vae": "VAE"}  # else a text encoder


class DiffusersFiles:
    """parts: of the model that have weights."""

    def __init__(self, row: ModelRow) -> None:
        self.PARTS = {part: (_WHAT.get(part, "text encoder"),) for part in row.parts}

    def part_tensors(
        self, part: str, tensors: dict[str, TensorEntry], config: dict
    ) -> dict[str, TensorEntry] | None:
        """All tensors, where there are any."""
        return tensors or None

    def weight_index(self, part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
        """The library's parameter name → where it lies, with and without the prefixes that the
        libraries' classes for one and the same text encoder do not agree about."""
        found = {}
        for key, entry in tensors.items():
            if entry.dtype == "I64":
                continue  # what a batch norm has counted is no weight
            found[key] = find_weight(tensors, key)
            if part.startswith("text_encoder"):
                bare = key.removeprefix("model.")
                found[bare] = found[f"model.{key}"] = found[key]
                found[f"model.language_model.{bare}"] = found[key]
        return found
