"""Weights where they lie: safetensors and GGUF files, read tensor by tensor.

A `WeightIndex` says for every parameter of a model which tensor of which file it is (or which rows
of one, where the file keeps several layers as one), with its shape known before a byte is read.
Files are read, never mapped: Windows would not let ComfyUI replace a file that is mapped here. A
GGUF is unpacked by models/sources/gguf.py.

8-bit floats as ComfyUI keeps them: `<layer>.weight` in float8 and, beside it, `<layer>.scale_weight`
(older files) or `<layer>.weight_scale`; the weight is their product. Without a scale it is a plain
cast.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, UserError
from blockskip.models.sources import gguf as gguf_files
from blockskip.models.sources.entry import FLOAT_DTYPES, FP8_DTYPES, GGUF_SUFFIX, TensorEntry

if TYPE_CHECKING:  # torch only where a weight is really read: `blockskip models` opens at once
    import torch
    from torch import Tensor

    from blockskip.models.sources.tensor_reader import Reader

_SCALES = (".scale_weight", ".weight_scale")
_PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Weight:
    """A parameter of a model and how it is read. shape: of the parameter.

    rows: (first, end) of the stored tensor's first axis, for a layer that is part of a fused one.
    halves_swapped: the two halves of the first axis change places (FLUX's last modulation).
    scale: key of the scale tensor beside it, "" without.
    """

    entry: TensorEntry
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    halves_swapped: bool = False
    scale: str = ""

    @property
    def path(self) -> Path:
        return self.entry.path

    @property
    def dtype(self) -> torch.dtype:
        """What `read()` gives: the stored precision, bfloat16 for what is packed."""
        import torch

        names = {"F64": "float64", "F32": "float32", "F16": "float16"}
        return getattr(torch, names.get(self.entry.dtype, "bfloat16"))

    @property
    def is_plain(self) -> bool:
        """Whether rows of a safetensors file are the parameter: nothing to multiply or swap."""
        kept = self.entry.dtype in FLOAT_DTYPES and not self.entry.is_gguf
        return kept and not self.halves_swapped and not self.scale

    def read(self, dtype: torch.dtype | None = None, reader: Reader | None = None) -> Tensor:
        """The parameter, `shape`, in memory of its own on the CPU; nothing else of the file is.

        dtype: None = `self.dtype`. reader: brings and counts the bytes, and knows the headers of
        files that it has seen. Raises UserError when the file is cut short.
        """
        import torch

        from blockskip.models.sources.tensor_reader import Reader

        reader, dtype = reader or Reader(), dtype or self.dtype
        if self.entry.is_gguf:
            read = partial(reader.raw, self.path)
            tensor = gguf_files.unpack(self.entry, read, self.rows, dtype)
        else:
            tensor = reader.tensor(self.path, self.entry.key, self.rows)
            if self.scale:
                tensor = _scaled(tensor, reader.tensor(self.path, self.scale), self.rows)
            tensor = tensor.to(dtype)
        if self.halves_swapped:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        return tensor.reshape(self.shape)


WeightIndex = dict[str, Weight]


def tensor_table(paths: Iterable[Path]) -> dict[str, TensorEntry]:
    """Every tensor of these files by key. Raises UserError for a broken or unfinished file."""
    found: dict[str, TensorEntry] = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise BadFile(f"{path} cannot be opened.", "Put it back, or choose another.") from error
        for key, entry in _table(path, stat.st_size, stat.st_mtime_ns).items():
            place = entry["start"], entry["stop"]
            found[key] = TensorEntry(path, key, entry["dtype"], tuple(entry["shape"]), *place)
    return found


def bits_per_weight(tensors: Iterable[TensorEntry]) -> float:
    """Bits a weight takes on average, scales and all."""
    tensors = list(tensors)
    weights = sum(math.prod(tensor.shape) for tensor in tensors)
    return 8 * sum(tensor.nbytes for tensor in tensors) / max(1, weights)


def find_weight(
    tensors: dict[str, TensorEntry],
    key: str,
    rows: tuple[int, int] | None = None,
    halves_swapped: bool = False,
    shape: tuple[int, ...] | None = None,
) -> Weight:
    """The parameter stored under `key`, with its scale if there is one. shape: as the library has
    it, where only axes of 1 differ.

    Raises UserError for a missing tensor and for packed formats (NVFP4, int8 …), which cannot be
    read here.
    """
    if key not in tensors:
        file = next(iter(tensors.values())).path.name if tensors else "The file"
        raise BadFile(
            f"{file} does not hold all of the model: “{key}” is missing.", "Fetch the file again."
        )
    entry = tensors[key]
    if entry.is_gguf and not gguf_files.readable(entry.dtype):
        raise _unreadable(entry, gguf_files.OTHER_FILE_REMEDY)
    base = key.removesuffix(".weight")
    scales = [base + name for name in _SCALES if base + name in tensors]
    size = math.prod(tensors[scales[0]].shape) if scales else 1
    plain = (
        entry.is_gguf or entry.dtype in FLOAT_DTYPES + FP8_DTYPES and size in (1, *entry.shape[:1])
    )
    if not plain or f"{base}.weight_scale_2" in tensors:
        raise _unreadable(entry, "Use the bf16, fp16 or fp8 file of the same model.")
    taken = (rows[1] - rows[0], *entry.shape[1:]) if rows else entry.shape
    # in a file of several parts the scale's own key has a prefix that `tensors` have not
    scale = tensors[scales[0]].key if scales else ""
    return Weight(entry, shape or taken, rows, halves_swapped, scale)


def part_files(folder: Path) -> list[Path]:
    """The safetensors files of a part in diffusers' layout, [] when there are none or one lacks."""
    for name in ("diffusion_pytorch_model", "model"):
        listing, single = folder / f"{name}.safetensors.index.json", folder / f"{name}.safetensors"
        if listing.exists():
            try:
                table = json.loads(listing.read_text(encoding="utf-8"))["weight_map"]
                shards = [folder / shard for shard in sorted(set(table.values()))]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a broken listing
                return []
            return shards if all(shard.exists() for shard in shards) else []
        if single.exists():
            return [single]
    return []


def _scaled(tensor: Tensor, scale: Tensor, rows: tuple[int, int] | None) -> Tensor:
    """float32 product; scale: one number, or one a row of the whole stored tensor."""
    scale = scale.float().reshape(-1)
    if len(scale) > 1:
        scale = scale[slice(*rows)] if rows else scale
        scale = scale.reshape(-1, *[1] * (tensor.ndim - 1))
    return tensor.float() * scale


def _unreadable(entry: TensorEntry, remedy: str) -> UserError:
    return BadFile(
        f"{entry.path.name} is packed in a way that cannot be read here ({entry.dtype}).", remedy
    )


@lru_cache(maxsize=256)
def _table(path: Path, size: int, changed_ns: int) -> dict[str, dict]:
    """The table at the file's head, remembered until the file changes."""
    if path.suffix.lower() in _PICKLES:
        raise BadFile(
            f"{path.name} can hold programs and is never opened.",
            "Take the .safetensors file of the same model.",
        )
    packed = path.suffix.lower() == GGUF_SUFFIX
    return (gguf_files if packed else safetensors_files).read_table(path)
