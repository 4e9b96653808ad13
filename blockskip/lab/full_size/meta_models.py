"""Models of a row at their full size as meta tensors, and streaming as a meter sees it (ours).

The configurations are the published ones, kept in presets/<model>/; the classes are the libraries' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace

import diffusers
import torch
import transformers
from torch import Tensor, nn

from blockskip.core import files
from blockskip.core.presets import ModelRow
from blockskip.lab.measuring.peak_memory import PeakMeter, fake_gpu, quantise
from blockskip.models.families.base import Family, get_family
from blockskip.models.sources.layouts import configs_folder
from blockskip.sampling.sample import tile


def pipeline_parts(row: ModelRow) -> dict[str, tuple[str | None, str | None]]:
    """Part of the row's pipeline → (library, class); (None, None): there is none."""
    index = _config(row, "model_index")
    return {part: tuple(of) for part, of in index.items() if isinstance(of, list)}


def family_of(row: ModelRow) -> Family:
    """The family of a row, which knows how many pixels a token of this model is."""
    family, vae = get_family(row.family), _config(row, "vae/config")
    if row.demo:  # a VAE of its own
        stages = vae.get("block_out_channels") or vae["encoder_block_out_channels"]
        family.pixel_multiple = family.patch_size * 2 ** (len(stages) - 1)
    return family


def fake_gpu_for(row: ModelRow) -> AbstractContextManager[None]:
    """A card without memory, on which modules are made in the row's own type."""
    return fake_gpu(getattr(torch, row.dtype))


def build(row: ModelRow, part: str) -> nn.Module:
    """A part of a row with its library's own configuration, in torch's default type and device."""
    (library, kind), shape = pipeline_parts(row)[part], _config(row, f"{part}/config")
    if library == "diffusers":
        return getattr(diffusers, kind).from_config(shape)
    return getattr(transformers, kind)(transformers.AutoConfig.for_model(**shape))


def build_transformer(row: ModelRow, precision: str) -> nn.Module:
    """The transformer of a row with the library's own configuration, frozen and quantised.

    precision: full | int8 | nf4, of the blocks; what stands around them keeps the row's own type.
    """
    model = _frozen(row, "transformer")
    for _, block in get_family(row.family).blocks(model):
        quantise(block, precision)
    return model


def build_vae(row: ModelRow, tiled: bool) -> nn.Module:
    """The VAE of a row; tiled as previews are."""
    vae = _frozen(row, "vae")
    if tiled:
        tile(vae)
    return vae


def build_encoders(row: ModelRow) -> dict[str, nn.Module]:
    """What reads captions, by the name of the pipeline's part it is, or is in."""
    found = {
        part: build(row, part).requires_grad_(False).eval()
        for part in pipeline_parts(row)
        if part.startswith("text_encoder")
    }
    readers = get_family(row.family).text_encoders(SimpleNamespace(**found))
    return {
        name: next(reader for reader in readers if any(reader is m for m in part.modules()))
        for name, part in found.items()
    }


def _frozen(row: ModelRow, part: str) -> nn.Module:
    model = build(row, part)
    for tensor in model.state_dict(keep_vars=True).values():  # tables that files hold, too
        tensor.data = tensor.data.to(torch.get_default_dtype())
    return model.requires_grad_(False).eval()


def _config(row: ModelRow, name: str) -> dict:
    return files.read_json(configs_folder(row) / f"{name}.json")


def weights(*modules: nn.Module) -> list[Tensor]:
    """All parameters and buffers of modules."""
    return [t for module in modules for t in (*module.parameters(), *module.buffers())]


class StreamedBlocks:
    """Blocks of which the one that computes and the next one are on the card, no more.

    It follows the order blocks are entered in, so in a checkpointed backward pass, which enters
    them from the last to the first, the next is the one before. stay: what never leaves.
    """

    def __init__(
        self, meter: PeakMeter, blocks: Sequence[nn.Module], stay: Iterable[Tensor] = ()
    ) -> None:
        self.meter, self.resident = meter, list(stay)  # kept alive here: what dies is not counted
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
        """Of the weights that are on the card now."""
        there = [*self.resident, *(t for i in self.on_gpu for t in self.parts[i])]
        return sum(
            {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in there}.values()
        )

    def evict(self) -> None:
        """All but what stays leaves the card."""
        self._drop(self.on_gpu)
        self.on_gpu = set()

    def _drop(self, indices: Iterable[int]) -> None:
        for i in indices:
            self.meter.remove(self.parts[i])
