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
from blockskip.models.families.base import Family, get_family
from blockskip.models.sources.empty_model import new_part
from blockskip.models.sources.layouts import configs_folder
from blockskip.sampling.sample import tile


def pipeline_parts(row: ModelRow) -> dict[str, tuple[str | None, str | None]]:
    """Return the parts of the row's pipeline → (library, class), (None, None) for a missing
    part."""
    index = _config(row, "model_index")
    return {part: tuple(of) for part, of in index.items() if isinstance(of, list)}


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


def build_transformer(row: ModelRow, precision: str) -> nn.Module:
    """Build a row's transformer from its published configuration, frozen and quantised.

    precision: full | int8 | nf4, for the blocks. Other modules keep the row's dtype.
    """
    model = _frozen(row, "transformer")
    for _, block in get_family(row.family).blocks(model):
        quantise(block, precision)
    return model


def build_vae(row: ModelRow, tiled: bool) -> nn.Module:
    """Build a row's VAE, tiled as in previews if asked."""
    vae = _frozen(row, "vae")
    if tiled:
        tile(vae)
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


class StreamedBlocks:
    """Streamed blocks, with only the computing block and the next one on the GPU.

    The next block follows from the order in which blocks are entered, so a checkpointed backward
    pass, which goes from last to first, loads the previous one. stay: tensors that stay on the GPU.
    """

    def __init__(
        self, meter: PeakMeter, blocks: Sequence[nn.Module], stay: Iterable[Tensor] = ()
    ) -> None:
        self.meter, self.resident = (
            meter,
            list(stay),
        )  # a reference, since dead tensors are not counted
        kept = {id(tensor) for tensor in self.resident}
        self.parts = [[t for t in weights(block) if id(t) not in kept] for block in blocks]
        self.on_gpu: set[int] = set()
        self.last = -1
        meter.add(self.resident)
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(lambda *_, i=index: self._enter(i))

    def _enter(self, index: int) -> None:
        following = index + (1 if index > self.last else -1)
        wanted = {i for i in (index, following) if 0 <= i < len(self.parts)}
        self._drop(self.on_gpu - wanted)
        for i in wanted:
            self.meter.add(self.parts[i])
        self.on_gpu, self.last = wanted, index

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that are on the GPU now."""
        tensors = [*self.resident, *(t for i in self.on_gpu for t in self.parts[i])]
        return sum(
            {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values()
        )

    def evict(self) -> None:
        """Remove all weights but the staying ones from the GPU."""
        self._drop(self.on_gpu)
        self.on_gpu = set()

    def _drop(self, indices: Iterable[int]) -> None:
        for i in indices:
            self.meter.remove(self.parts[i])
