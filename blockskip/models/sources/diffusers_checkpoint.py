"""Layout of models that are read only in diffusers' layout, one folder per part. No torch.

flux_checkpoint.py has the same interface and also reads ComfyUI's files.
"""

from __future__ import annotations

from blockskip.core.presets import ModelRow
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.side_tensors import is_side_tensor
from blockskip.models.sources.tensors import WeightIndex, find_weight

_TITLES = {"transformer": "transformer", "vae": "VAE"}  # all other parts are text encoders


class DiffusersFiles:
    """File layout of a model with `row.parts`, its parts with weights."""

    # parts of names of tensors that encoders have beyond the states of a text, and transformers for
    # a picture that is given
    HARMLESS: tuple[str, ...] = (
        *(".lm_head.", ".score.", ".decoder.block.", ".decoder.final_layer_norm."),
        *(".decoder.embed_tokens.", ".position_ids", ".inv_freq", ".num_batches_tracked"),
        *(".logit_scale", ".text_projection", ".vision_model.", ".visual.", ".image_cond."),
    )

    def __init__(self, row: ModelRow) -> None:
        self.PARTS = {part: (_TITLES.get(part, "text encoder"),) for part in row.parts}

    def part_tensors(
        self, part: str, tensors: dict[str, TensorEntry], config: dict
    ) -> dict[str, TensorEntry] | None:
        """Return all tensors, None if there are none."""
        return tensors or None

    def weight_index(self, part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
        """Return parameter name → stored weight. Text encoders are listed with and without the
        prefixes on which the classes of transformers differ."""
        weights = {}
        for key, entry in tensors.items():
            if entry.dtype == "I64" or is_side_tensor(tensors, key):
                continue  # I64: the batch counter of a batch norm
            weights[key] = find_weight(tensors, key)
            if part.startswith("text_encoder"):
                bare = key.removeprefix("text_model.").removeprefix("model.")
                weights[bare] = weights[f"model.{key}"] = weights[key]
                weights[f"model.language_model.{bare}"] = weights[key]
        return weights
