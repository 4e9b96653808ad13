"""How files hold the parts of models: what a file of a part is known by, and how it names tensors.

A format belongs to a class of diffusers or transformers, as a pipeline's index names it, so families
with the same text encoder or VAE share it. Parts are known by their tensors and shapes, never by a
file's name. Listing models needs no torch; only the names of some files' tensors do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blockskip.core.errors import UserError
from blockskip.models.sources.conversions import converted
from blockskip.models.sources.entry import INT8_DTYPE, TensorEntry, is_packed
from blockskip.models.sources.file_contents import TRANSFORMERS, description
from blockskip.models.sources.side_tensors import (
    check_contents,
    is_side_tensor,
    not_understood,
)
from blockskip.models.sources.tensors import WeightIndex, find_weight, is_lora

Config = Mapping[str, Any]
Tensors = dict[str, TensorEntry]

# parts of names of tensors that no model here needs: other components of a file of several parts,
# what encoders have beyond the states of a text, and states of the makers' own training
UNUSED: tuple[str, ...] = (
    *(".model.diffusion_model.", ".diffusion_model.", ".vae.", ".first_stage_model."),
    *(".text_encoders.", ".conditioner.", ".cond_stage_model.", ".model_ema.", ".loss."),
    *(".text_projection", ".logit_scale", ".vision_model.", ".visual_projection", ".visual."),
    *(".position_ids", ".decoder.block.", ".decoder.final_layer_norm.", ".decoder.embed_tokens."),
    *(".lm_head.", ".score.", ".inv_freq", ".num_batches_tracked", ".image_cond."),
    *(".spiece_model", ".tekken_model", ".norm_final."),
    ".encoder.embed_tokens.",  # T5's embedding once more, in the files that ComfyUI's users have
)
# last names of the parameters and buffers of all models here, and those beside a weight
_LEAVES = frozenset(
    (
        *("weight", "bias", "scale", "gamma", "lin", "scale_shift_table", "pos_embed"),
        *("x_pad_token", "cap_pad_token", "running_mean", "running_var"),
    )
)
_BESIDE = ("weight", "bias", "running_mean", "running_var")
# where the language model of a text encoder begins, in the classes of transformers
_TEXT_PREFIXES = ("", "text_model.", "model.", "model.language_model.", "language_model.")


@dataclass(frozen=True)
class Signs:
    """What tells a part from those of other models.

    shapes: tensor → its shape, if the file has it. blocks: a layer of every block, {} for its
    number → how many blocks there are; one of these must fit. present: beginnings of names, of
    which the file has one. absent: beginnings of names that it does not have. asked: a further
    question about the tensors.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    asked: Callable[[Tensors], bool] = bool

    def fit(self, tensors: Tensors) -> bool:
        """Return whether the tensors are this model's."""
        shaped = all(
            key not in tensors or _may_hold(tensors[key], shape)
            for key, shape in self.shapes.items()
        )
        deep = not self.blocks or any(
            _has_layer(tensors, layer.format(count - 1))
            and not _has_layer(tensors, layer.format(count))
            for layer, count in self.blocks.items()
        )
        marked = not self.present or any(key.startswith(self.present) for key in tensors)
        whole = not any(key.startswith(self.absent) for key in tensors)
        return shaped and deep and marked and whole and self.asked(tensors)


def _may_hold(entry: TensorEntry, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor may hold a weight of this shape. Integers of 8 bits are one number of
    it, or two; of other packed tensors the weight's shape is unknown."""
    if entry.dtype == INT8_DTYPE:
        return entry.shape in (shape, (*shape[:-1], shape[-1] // 2))
    return entry.shape == shape or is_packed(entry)


def _has_layer(tensors: Tensors, layer: str) -> bool:
    return any(key.startswith(f"{layer}.") for key in tensors)


def _no_signs(config: Config) -> Signs:
    return Signs()


def no_identities(config: Config) -> tuple[str, ...]:
    """Return nothing: files have all matrices."""
    return ()


def _same(tensors: Tensors) -> Tensors:
    return tensors


def plain_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """Return the tensors under their own names. Those that no model needs may be unreadable."""
    weights: WeightIndex = {}
    for key, entry in tensors.items():
        if entry.dtype == "I64" or is_side_tensor(tensors, key):
            continue  # I64: the batch counter of a batch norm, positions
        try:
            weights[key] = find_weight(tensors, key)
        except UserError:
            if not is_unused(key):
                raise
    return weights


def encoder_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """Return a text encoder's tensors, with each of the prefixes on which classes differ."""
    weights: WeightIndex = {}
    for key, weight in plain_weights(tensors, config).items():
        bare = next(
            key.removeprefix(prefix)
            for prefix in sorted(_TEXT_PREFIXES, key=len, reverse=True)
            if key.startswith(prefix)
        )
        weights |= dict.fromkeys([key, *(prefix + bare for prefix in _TEXT_PREFIXES)], weight)
    return weights


@dataclass(frozen=True)
class PartFormat:
    """The files of one class of parts.

    title: for messages. folder: ComfyUI's, "" if the part is read from diffusers' folders only.
    markers: layers of which one is in every file of the part, one a naming, before `renamed` or
    after it. prefixes: what files of
    several parts put before its names. signs(config): of this model's part. renamed: other
    programs' names → the markers' naming. weights(tensors, config): parameter name → stored weight.
    identities(config): matrices that are the identity, whatever files have. beside(config, family):
    whether the part is this model's if it lies in a file with a transformer of that family.
    """

    title: str
    folder: str = ""
    markers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    signs: Callable[[Config], Signs] = _no_signs
    renamed: Callable[[Tensors], Tensors] = _same
    weights: Callable[[Tensors, Config], WeightIndex] = plain_weights
    identities: Callable[[Config], tuple[str, ...]] = no_identities
    beside: Callable[[Config, str], bool] | None = None

    @property
    def marks(self) -> frozenset[str]:
        """The layers of which a file with this part has one, with each of the prefixes."""
        return frozenset(prefix + marker for prefix in self.prefixes for marker in self.markers)

    def find(self, tensors: Tensors, config: Config) -> Tensors | None:
        """Return the tensors of this part in a file without their prefix, None if it lacks it."""
        tensors = self.renamed(tensors)
        for prefix in self.prefixes:
            layers = tuple(f"{prefix}{marker}." for marker in self.markers)
            if any(key.startswith(layers) for key in tensors):
                own = {
                    k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
                }
                fits = self.signs(config).fit(own) and self._is_beside(tensors, config)
                if fits and not is_lora(tensors):
                    return own
        return None

    def _is_beside(self, tensors: Tensors, config: Config) -> bool:
        if self.beside is None:
            return True
        family = description(tensors)
        return family not in TRANSFORMERS or self.beside(config, family)

    def check_readable(self, tensors: Tensors) -> None:
        """Raise UserError if a tensor of a part, from `find`, cannot be read or is of unknown
        meaning. Whether all are there is not asked."""
        weights = plain_weights(tensors, {})
        _check_names(tensors)
        check_contents(weights.values(), tensors)


def is_unused(key: str) -> bool:
    """Return whether no model here needs the tensor."""
    return any(word in f".{key}" for word in UNUSED)


def _check_names(tensors: Tensors) -> None:
    """Raise UserError for a tensor that is no parameter of any model here, or one of unknown meaning
    beside a weight."""
    for key, entry in tensors.items():
        layer, _, leaf = key.rpartition(".")
        known = leaf in (_BESIDE if f"{layer}.weight" in tensors else _LEAVES)
        if not known and not is_side_tensor(tensors, key) and not is_unused(key):
            raise not_understood(entry)


def either_name(*names: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shape of a tensor that has one of these names."""
    return dict.fromkeys((f"{name}.weight" for name in names), shape)


def by_library(conversion: str, original: str) -> Callable[[Tensors, Config], WeightIndex]:
    """Return the reader of files that have either diffusers' names or the original ones. original:
    a layer of these. conversion: diffusers' function for them."""

    def weights(tensors: Tensors, config: Config) -> WeightIndex:
        if not any(key.startswith(f"{original}.") for key in tensors):
            return plain_weights(tensors, config)
        from diffusers.loaders import single_file_utils

        return converted(tensors, getattr(single_file_utils, conversion))

    return weights
