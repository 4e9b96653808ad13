"""Opens a model's source as a ready-to-use pipeline; weights of large parts stay in their files.

The small parts (VAE, CLIP) are loaded. The transformer and the large text encoder are empty
modules: memory/streaming.py loads their weights when they run. The transformer is quantised first
if the settings ask for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
import transformers
from torch import Tensor, nn

from blockskip.core.paths import data_dir
from blockskip.core.presets import ModelRow
from blockskip.core.settings import ExecutionPlan, Settings
from blockskip.core.units import GIB
from blockskip.memory import monitor
from blockskip.memory.planning.model_stats import is_tabulated
from blockskip.memory.planning.requirements import SPARE_RAM_GIB, ram_for_weights
from blockskip.memory.planning.run_sizes import kept_bytes
from blockskip.memory.quantised_cache import cache_folder, quantise_blocks
from blockskip.memory.streaming import offload, weight_stores
from blockskip.models.families.base import Family
from blockskip.models.families.caption_modules import set_aside
from blockskip.models.sources import Source
from blockskip.models.sources.empty_model import set_dtype
from blockskip.models.sources.part_checks import part_weights
from blockskip.models.sources.tensor_reader import (
    Int8Matrix,
    Reader,
    StoredTensor,
    TensorIndex,
)
from blockskip.models.sources.tensors import Weight

log = logging.getLogger(__name__)


def open_model(
    family: Family,
    row: ModelRow,
    source: Source,
    settings: Settings,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
) -> diffusers.DiffusionPipeline:
    """Return the frozen diffusers pipeline of a model.

    progress(n, total): blocks quantised. Raises UserError if weights are missing or broken, or the
    disk is full.
    """
    dtype = getattr(torch, row.dtype)
    disable_progress_bars()
    pipe = family.open(source, dtype)
    if settings.plan.number_type == "float16":  # text encoders and VAE overflow in it
        set_dtype(pipe.transformer, torch.float16)
        set_dtype(pipe.vae, torch.float32)
    for name in family.streamed_parts:
        if name != "transformer":
            part: nn.Module = getattr(pipe, name)
            offload(part, index_part(source, name, part))
    kept = _kept_bytes(row, settings, device)
    _offload_transformer(family, pipe.transformer, source, settings.plan, device, progress, kept)
    set_aside(pipe.transformer, family)
    return pipe


def keep_in_ram(
    pipe: diffusers.DiffusionPipeline, row: ModelRow, settings: Settings, device: torch.device
) -> None:
    """Let an open model keep as many weights in RAM as are planned for another run. On a processor
    they are where they are used, and stay."""
    if device.type != "cpu":
        kept = _kept_bytes(row, settings, device)
        for store in weight_stores([pipe.transformer]):
            store.set_cache_bytes(kept)


def open_sibling(
    family: Family,
    pipe: diffusers.DiffusionPipeline,
    row: ModelRow,
    source: Source,
    settings: Settings,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
) -> diffusers.DiffusionPipeline:
    """Return `pipe` with the transformer of `source`, a sibling, beside the trained one of `row`.

    RAM keeps as many of its weights as were planned for the trained one (sampling/sibling.py takes
    turns); on a processor none. progress, errors: as open_model.
    """
    sibling = family.with_sibling(pipe, source, getattr(torch, row.dtype))
    if settings.plan.number_type == "float16":
        set_dtype(sibling.transformer, torch.float16)
    kept = 0.0 if device.type in ("cpu", "mps") else kept_bytes(row, settings)
    plan, transformer = settings.plan, sibling.transformer
    _offload_transformer(family, transformer, source, plan, device, progress, kept)
    set_aside(transformer, family)
    return sibling


def _offload_transformer(
    family: Family,
    transformer: nn.Module,
    source: Source,
    plan: ExecutionPlan,
    device: torch.device,
    progress: Callable[[int, int], None],
    kept: float,
) -> None:
    """Locate the transformer's weights, quantised first if the plan asks for it. kept: bytes of
    them that RAM may keep."""
    index: TensorIndex = index_part(source, "transformer", transformer)
    if plan.precision != "full":
        index = _quantised(family, transformer, index, source, plan, device, progress)
    offload(transformer, index, kept)


def _kept_bytes(row: ModelRow, settings: Settings, device: torch.device) -> float:
    """Return how many bytes of the transformer may stay in RAM: as planned, but no more than fits
    at the moment."""
    if not is_tabulated(row.name):
        return settings.plan.ram_weights_gib * GIB
    free = monitor.free_ram_gib() - SPARE_RAM_GIB
    room = ram_for_weights(row, settings, free, shared=device.type in ("cpu", "mps"))
    planned = settings.plan.ram_weights_gib
    if room < planned:
        log.info("RAM keeps up to %.1f GiB of waiting weights", room)
    return min(planned, room) * GIB


def disable_progress_bars() -> None:
    """Disable the progress bars of diffusers and transformers: opening takes less than a second."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()


def index_part(source: Source, part: str, module: nn.Module) -> dict[str, StoredTensor]:
    """Return where the weights of `module`, a part, are stored, whatever the layout of the files.
    Those stored in another form are converted while they are read.

    Raises UserError if they are missing, broken, another model's, or not understood.
    """
    weights = part_weights(source, part, module)
    return {name: stored_tensor(weight) for name, weight in weights.items()}


def stored_tensor(weight: Weight) -> StoredTensor:
    """Read a weight in place if it is stored as needed; otherwise convert it while reading."""
    where = weight.path, weight.entry.key, weight.rows
    if weight.is_plain and weight.shape[1:] == weight.entry.shape[1:]:
        return StoredTensor(*where)

    def fill(reader: Reader, _: StoredTensor, out: Tensor) -> None:
        weight.read_into(out, reader)

    return StoredTensor(*where, fill, _int8_matrix(weight))


def _int8_matrix(weight: Weight) -> Int8Matrix | None:
    """Return where the digits of a weight in 8 bits are, None if it is stored otherwise."""
    if not weight.is_int8_rows or weight.scale is None:
        return None

    def fill(reader: Reader, _: StoredTensor, out: Tensor) -> None:
        out.copy_(weight.row_scales(reader))

    digits = StoredTensor(weight.path, weight.entry.key, weight.rows)
    factors = StoredTensor(weight.path, weight.scale.key, fill=fill)
    return Int8Matrix(digits, factors, weight.rotation)


def _quantised(
    family: Family,
    model: nn.Module,
    index: TensorIndex,
    source: Source,
    plan: ExecutionPlan,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> TensorIndex:
    cache, fingerprint = quantised_folder(source, plan), source.fingerprint()
    blocks, rotates = family.blocks(model), plan.int8_products
    return quantise_blocks(
        model, blocks, index, plan.precision, cache, fingerprint, device, progress, rotates
    )


def quantised_folder(source: Source, plan: ExecutionPlan) -> Path:
    """Return the folder of a source's quantised weights."""
    kind: str = plan.precision
    # biases and norms are not quantised, so a cache is of one type
    if plan.number_type != "model":
        kind += f"-{plan.number_type}"
    if plan.int8_products:
        kind += "-rotated"
    return cache_folder(data_dir(), source.fingerprint(), kind)
