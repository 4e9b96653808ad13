"""Check that the stored tensors are those of a model's part, each of them, and load a part."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from blockskip.core.errors import BadFile
from blockskip.models.sources import side_tensors
from blockskip.models.sources.empty_model import build_empty, new_part
from blockskip.models.sources.lora_file import read_lora
from blockskip.models.sources.part_formats import UNUSED
from blockskip.models.sources.tensors import Weight, WeightIndex, tensor_table

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from torch import Tensor, nn

    from blockskip.models.sources.source import Source
    from blockskip.models.sources.tensor_reader import Reader

_NEVER_RUN = ("visual", "lm_head")  # modules of text encoders


def check_part(source: Source, part: str) -> WeightIndex:
    """Return the weights of a part after comparing all of its files' tensors with the model.

    Reads headers, and a few tensors. Raises UserError that names the file and the first tensor that
    is missing, of another size, or of unknown meaning.
    """
    import torch

    weights = part_weights(source, part, build_part(source, part, torch.bfloat16))
    side_tensors.check_contents(weights.values(), source.tensors(part))
    return weights


def build_part(source: Source, part: str, dtype: torch.dtype) -> ModelMixin | PreTrainedModel:
    """Build a part without weights, as `source` has it."""
    module = build_empty(partial(new_part, source.published_folder, part), dtype)
    return module if source.is_folder else without_unused(module)


def without_unused(module: PreTrainedModel) -> PreTrainedModel:
    """Remove the modules of a text encoder that are never run, in place, because single files may
    lack them. Return the encoder."""
    from torch import nn

    for name, _ in list(module.named_modules()):
        if name.rpartition(".")[2] in _NEVER_RUN:
            module.set_submodule(name, nn.Identity())
    return module


def part_weights(source: Source, part: str, module: nn.Module) -> WeightIndex:
    """Return parameter of `module` → stored weight, from file headers. Raises as `check_part`."""
    index, tensors = source.weights(part), source.tensors(part)
    identities = source.identities(part)
    names: dict[int, list[str]] = {}  # a tied parameter has several, of which files may lack some
    saved = module.state_dict(keep_vars=True)
    for name, tensor in saved.items():
        names.setdefault(id(tensor), []).append(name)
    weights: WeightIndex = {}
    for group in names.values():
        if group[0] in identities:
            continue
        stored = next((index[name] for name in group if name in index), None)
        if stored is None:
            if saved[group[0]].is_floating_point():
                raise _missing(source, part, group[0])
            continue
        shape = tuple(saved[group[0]].shape)
        if stored.shape != shape and _without_ones(stored.shape) == _without_ones(shape):
            stored = replace(stored, shape=shape)  # some programs drop axes of 1
        if stored.shape != shape:
            raise BadFile(
                f"{stored.path.name}: “{stored.entry.key}” has the shape {stored.shape}, that of "
                f"{source.row.title} is {shape}.",
                "It is another model's file; choose the right one.",
            )
        weights |= dict.fromkeys(group, stored)
    keys = {entry.key for entry in tensors.values()}
    everything = tensor_table(source.paths(part))
    outside = {key: entry for key, entry in everything.items() if entry.key not in keys}
    side_tensors.check_used(tensors | outside, weights.values(), UNUSED)
    return weights


def check_lora(source: Source) -> None:
    """Read a LoRA of others. Raises UserError if it does not fit the model it is for."""
    import torch
    from torch import nn

    model = build_empty(partial(new_part, source.published_folder, "transformer"), torch.bfloat16)
    linears = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    read_lora(source.lora, linears)


def load_part(source: Source, part: str, module: nn.Module, reader: Reader) -> None:
    """Read all weights of `module`, a part without weights, on the CPU. Raises as `check_part`."""
    import torch

    weights, absent = part_weights(source, part, module), module.state_dict()
    read: dict[Weight, Tensor] = {}  # one with several names is read once
    for name, weight in weights.items():
        if weight not in read:
            read[weight] = weight.read(absent[name].dtype, reader)
    state = {name: read[weight] for name, weight in weights.items()}
    for name in source.identities(part):
        state[name] = torch.eye(*absent[name].shape, dtype=absent[name].dtype)
    module.load_state_dict(state, assign=True)
    if isinstance(module, PreTrainedModel):
        module.tie_weights()  # an embedding may have two names


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _missing(source: Source, part: str, name: str) -> BadFile:
    file = source.paths(part)[0]
    return BadFile(
        f"{file.name} does not hold all of {source.row.title}: “{name}” is missing.",
        "Fetch the file again, or choose other files.",
    )
