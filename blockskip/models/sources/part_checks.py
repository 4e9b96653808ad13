"""Check that the stored tensors are those of a model's part, each of them, and load a part."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from blockskip.core.errors import BadFile
from blockskip.models.sources import side_tensors
from blockskip.models.sources.empty_model import build_empty, new_part
from blockskip.models.sources.layouts import layout_of
from blockskip.models.sources.lora_file import read_lora
from blockskip.models.sources.tensors import Weight, WeightIndex, tensor_table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from blockskip.models.sources.source import Source
    from blockskip.models.sources.tensor_reader import Reader


def check_part(source: Source, part: str) -> WeightIndex:
    """Return the weights of a part after comparing all of its files' tensors with the model.

    Reads headers, and a few tensors. Raises UserError that names the file and the first tensor that
    is missing, of another size, or of unknown meaning.
    """
    import torch

    module = build_empty(partial(new_part, source.published_folder, part), torch.bfloat16)
    weights = part_weights(source, part, module)
    side_tensors.check_contents(weights.values(), source.tensors(part))
    return weights


def part_weights(source: Source, part: str, module: nn.Module) -> WeightIndex:
    """Return parameter of `module` → stored weight, from file headers. Raises as `check_part`."""
    index, tensors = source.weights(part), source.tensors(part)
    names: dict[int, list[str]] = {}  # a tied parameter has several, of which files may lack some
    saved = module.state_dict(keep_vars=True)
    for name, tensor in saved.items():
        names.setdefault(id(tensor), []).append(name)
    weights: WeightIndex = {}
    for group in names.values():
        stored = next((index[name] for name in group if name in index), None)
        if stored is None:
            if saved[group[0]].is_floating_point():
                raise _missing(source, part, group[0])
            continue
        if stored.shape != tuple(saved[group[0]].shape):
            raise BadFile(
                f"{stored.path.name}: “{stored.entry.key}” has the shape {stored.shape}, that of "
                f"{source.row.title} is {tuple(saved[group[0]].shape)}.",
                "It is another model's file; choose the right one.",
            )
        weights |= dict.fromkeys(group, stored)
    keys = {entry.key for entry in tensors.values()}
    everything = tensor_table(source.paths(part))
    outside = {key: entry for key, entry in everything.items() if entry.key not in keys}
    harmless = layout_of(source.row).HARMLESS
    side_tensors.check_used(tensors | outside, weights.values(), harmless)
    return weights


def check_lora(source: Source) -> None:
    """Read a LoRA of others. Raises UserError if it does not fit the model it is for."""
    import torch
    from torch import nn

    model = build_empty(partial(new_part, source.published_folder, "transformer"), torch.bfloat16)
    linears = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    read_lora(source.folder / source.row.files[0], linears)


def load_part(source: Source, part: str, module: nn.Module, reader: Reader) -> None:
    """Read all weights of `module`, a part without weights, on the CPU. Raises as `check_part`."""
    weights, absent = part_weights(source, part, module), module.state_dict()
    read: dict[Weight, Tensor] = {}  # one with several names is read once
    for name, weight in weights.items():
        if weight not in read:
            read[weight] = weight.read(absent[name].dtype, reader)
    state = {name: read[weight] for name, weight in weights.items()}
    module.load_state_dict(state, assign=True)
    if isinstance(module, PreTrainedModel):
        module.tie_weights()  # an embedding may have two names


def _missing(source: Source, part: str, name: str) -> BadFile:
    file = source.paths(part)[0]
    return BadFile(
        f"{file.name} does not hold all of {source.row.title}: “{name}” is missing.",
        "Fetch the file again, or choose other files.",
    )
