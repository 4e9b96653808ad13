"""Build a row's models at full size as meta tensors, and simulate their streaming for a meter
(ours).

The configurations are the published ones in presets/<model>/, the classes those of diffusers and
transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from blockskip.core import files
from blockskip.core.presets import ModelRow
from blockskip.lab.measuring.peak_memory import PeakMeter, fake_gpu, quantise
from blockskip.memory.placement import LOAD_CHUNK_BYTES
from blockskip.memory.quantisation import QuantisedLinear, block_linears
from blockskip.memory.streaming import layout
from blockskip.models.families.base import Family, get_family
from blockskip.models.families.caption_modules import set_aside
from blockskip.models.sources.empty_model import new_part
from blockskip.models.sources.layouts import configs_folder, read_index
from blockskip.sampling.sample import tile


def pipeline_parts(row: ModelRow) -> dict[str, tuple[str | None, str | None]]:
    """Return the parts of the row's pipeline → (library, class), (None, None) for a missing
    part."""
    index = read_index(configs_folder(row))  # other lists in it are options of the pipeline
    return {n: tuple(of) for n, of in index.items() if isinstance(of, list) and len(of) == 2}


def family_of(row: ModelRow) -> Family:
    """Return a row's family, with the pixels per token of this model."""
    family, vae = get_family(row.family), _config(row, "vae/config")
    if row.demo:  # its VAE differs from the family's
        stages = vae.get("block_out_channels") or vae["encoder_block_out_channels"]
        family.pixel_multiple = family.patch_size * 2 ** (len(stages) - 1)
    return family


def fake_gpu_for(row: ModelRow) -> AbstractContextManager[None]:
    """Return a context with a simulated GPU, on which modules are made in the row's dtype."""
    return fake_gpu(getattr(torch, row.dtype))


def build(row: ModelRow, part: str) -> nn.Module:
    """Build a part of a row from its published configuration, in torch's default dtype and
    device."""
    return new_part(configs_folder(row), part)


def build_transformer(row: ModelRow, precision: str, int8_products: bool = False) -> nn.Module:
    """Build a row's transformer from its published configuration, frozen and quantised.

    precision: full | int8 | nf4, for the blocks. Other modules keep the row's dtype.
    """
    model, family = _frozen(row, "transformer"), get_family(row.family)
    family.adapt(model)
    set_aside(model, family)
    for name, block in family.blocks(model):
        if int8_products:
            _multiply_in_int8(row, name, block)
        else:
            quantise(block, precision)
    return model


def _multiply_in_int8(row: ModelRow, name: str, block: nn.Module) -> None:
    """Let a block's linears multiply in 8 bits, but for modulation, which sees no tokens."""
    told = get_family(row.family).modulation(block)
    for full, linear in block_linears([(name, block)]).items():
        inner = full.removeprefix(f"{name}.")
        layer = QuantisedLinear(linear, "int8", rotates=True)
        layer.in_int8 = inner not in told
        block.set_submodule(inner, layer)


def build_vae(row: ModelRow, tiled: bool) -> nn.Module:
    """Build a row's VAE, tiled as in previews if asked."""
    vae = _frozen(row, "vae")
    if tiled:
        tile(vae, get_family(row.family).tile_px)
    return vae


def build_encoders(row: ModelRow) -> dict[str, nn.Module]:
    """Build the modules that encode captions, by the name of the pipeline part that holds them."""
    parts = {
        module: build(row, module).requires_grad_(False).eval()
        for module in pipeline_parts(row)
        if module.startswith("text_encoder")
    }
    encoders = get_family(row.family).text_encoders(SimpleNamespace(**parts))
    return {
        name: next(encoder for encoder in encoders if any(encoder is m for m in module.modules()))
        for name, module in parts.items()
    }


def lora_widths(family: Family, block: nn.Module) -> dict[str, int]:
    """Return the inputs plus outputs of a block's linears with LoRA, under the names that
    presets/bytes.toml explains."""

    def width(names: Iterable[str]) -> int:
        linears = [block.get_submodule(name) for name in names]
        return sum(linear.in_features + linear.out_features for linear in linears)

    attention = set(family.lora_targets(block, "attention"))
    extra = set(family.lora_targets(block, "attention+ff")) - attention
    text = set(family.text_outputs)
    return {
        "lora": width(attention),
        "lora_ff": width(extra),
        "lora_text": width(attention & text),
        "lora_text_ff": width(extra & text),
    }


def _frozen(row: ModelRow, part: str) -> nn.Module:
    model = build(row, part)
    for tensor in model.state_dict(keep_vars=True).values():  # includes saved buffers
        tensor.data = tensor.data.to(torch.get_default_dtype())
    return model.requires_grad_(False).eval()


def _config(row: ModelRow, name: str) -> dict:
    return files.read_json(configs_folder(row) / f"{name}.json")


def weights(*modules: nn.Module) -> list[Tensor]:
    """Return all parameters and buffers of modules."""
    return [t for module in modules for t in (*module.parameters(), *module.buffers())]


def load_packed(meter: PeakMeter, tensors: Iterable[Tensor], number: int = 0) -> int:
    """Count tensors as loaded into one buffer (memory/streaming.py); return its number.

    number: a buffer of their size that is there; 0: a new one.
    """
    tensors = list(tensors)
    number = number or meter.allocate(packed_bytes(tensors))
    meter.add_parts(tensors)
    return number


def packed_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the size of one buffer for all these tensors."""
    return layout([t.numel() * t.element_size() for t in tensors])[1]


def pin(meter: PeakMeter, tensors: Iterable[Tensor]) -> None:
    """Count tensors as `pin_on_device` loads them: frozen weights in chunks, others one by one."""
    chunk: list[Tensor] = []
    for tensor in tensors:
        if tensor.requires_grad or not isinstance(tensor, nn.Parameter):
            meter.add([tensor])
            continue
        chunk.append(tensor)
        if packed_bytes(chunk) > LOAD_CHUNK_BYTES:
            load_packed(meter, chunk)
            chunk = []
    load_packed(meter, chunk)


class StreamedBlocks:
    """Streamed blocks, with only the computing block and the next one on the GPU, each in a buffer.

    Without gradients a block leaves when it has run, and neighbours of one size take turns in two
    buffers (memory/block_buffers.py). The next block follows from the order in which blocks are
    entered, so a checkpointed backward pass, which goes from last to first, loads the previous one.
    stay: tensors that stay on the GPU.
    """

    def __init__(
        self, meter: PeakMeter, blocks: Sequence[nn.Module], stay: Iterable[Tensor] = ()
    ) -> None:
        # a reference, since dead tensors are not counted
        self.meter, self.resident = meter, list(stay)
        kept = {id(tensor) for tensor in self.resident}
        self.parts = [[t for t in weights(block) if id(t) not in kept] for block in blocks]
        self.sizes = [packed_bytes(parts) for parts in self.parts]
        self.on_gpu: dict[int, int] = {}  # a block → its buffer
        self.left = (0, 0)  # a buffer that is kept for the next block of its size, and the size
        self.last = -1
        pin(meter, self.resident)
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(lambda *_, i=index: self._enter(i))
            block.register_forward_hook(lambda *_, i=index: self._leave(i))

    def _enter(self, index: int) -> None:
        following = index + (1 if index > self.last else -1)
        wanted = [i for i in (index, following) if 0 <= i < len(self.parts)]
        for i in set(self.on_gpu) - set(wanted):
            self._drop(i)
        for i in wanted:
            self._load(i)
        self._free_left()
        self.last = index

    def _load(self, index: int) -> None:
        if index in self.on_gpu:
            return
        number, size = self.left
        if number and size == self.sizes[index]:
            self.left = (0, 0)
        else:
            number = 0
            self._free_left()
        self.on_gpu[index] = load_packed(self.meter, self.parts[index], number)

    def _leave(self, index: int) -> None:
        """Let a block go that runs once; its buffer stays if the next block is as large."""
        if torch.is_grad_enabled():
            return
        if (
            self.sizes[index] == self.sizes[(index + 1) % len(self.sizes)]
            and index + 1 in self.on_gpu
        ):
            self.meter.remove(self.parts[index])
            self.left = self.on_gpu.pop(index), self.sizes[index]
        else:
            self._drop(index)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that are on the GPU now."""
        resident = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in self.resident}
        return sum(resident.values()) + sum(self.sizes[i] for i in self.on_gpu)

    def evict(self) -> None:
        """Remove all weights but the staying ones from the GPU."""
        for index in list(self.on_gpu):
            self._drop(index)
        self._free_left()

    def _drop(self, index: int) -> None:
        self.meter.remove(self.parts[index])
        self.meter.free(self.on_gpu.pop(index))

    def _free_left(self) -> None:
        if self.left[0]:
            self.meter.free(self.left[0])
        self.left = (0, 0)
