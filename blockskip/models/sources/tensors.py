"""Locate and read the weights in safetensors and GGUF files, tensor by tensor.

A `WeightIndex` maps every parameter of a model to a tensor of a file, or to rows of a fused one.
Its shape is known before data is read. Files are never mapped, because Windows would not let
ComfyUI replace a mapped file. models/sources/gguf.py dequantises GGUF tensors.

ComfyUI stores 8-bit floats as `<layer>.weight` in float8, with a scale `<layer>.scale_weight`
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

if TYPE_CHECKING:  # torch is imported only to read weights, so `blockskip models` starts fast
    import torch
    from torch import Tensor

    from blockskip.models.sources.tensor_reader import Reader

_SCALES = (".scale_weight", ".weight_scale")
_PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Weight:
    """A parameter of a model and how to read it. shape: of the parameter.

    rows: (first, end) on the stored tensor's first axis, for part of a fused layer. halves_swapped:
    swap the two halves of the first axis (FLUX's last modulation). scale: key of the scale tensor,
    "" if there is none.
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
        """Default dtype of `read()`: the stored one, bfloat16 for fp8 and quantised tensors."""
        import torch

        names = {"F64": "float64", "F32": "float32", "F16": "float16"}
        return getattr(torch, names.get(self.entry.dtype, "bfloat16"))

    @property
    def is_plain(self) -> bool:
        """Whether rows of a safetensors file are the parameter, without scaling or swapping."""
        is_float = self.entry.dtype in FLOAT_DTYPES and not self.entry.is_gguf
        return is_float and not self.halves_swapped and not self.scale

    def read(self, dtype: torch.dtype | None = None, reader: Reader | None = None) -> Tensor:
        """Read the parameter (`shape`) into new memory on the CPU, and nothing else of the file.

        dtype: None means `self.dtype`. reader: counts the bytes and caches headers; a new one by
        default. Raises UserError if the file is truncated.
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
    """Return every tensor of these files by key. Raises UserError for a broken or truncated
    file."""
    table: dict[str, TensorEntry] = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise BadFile(f"{path} cannot be opened.", "Put it back, or choose another.") from error
        for key, entry in _table(path, stat.st_size, stat.st_mtime_ns).items():
            extent = entry["start"], entry["stop"]
            table[key] = TensorEntry(path, key, entry["dtype"], tuple(entry["shape"]), *extent)
    return table


def bits_per_weight(tensors: Iterable[TensorEntry]) -> float:
    """Return the average bits per weight, including scales."""
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
    """Return the parameter stored under `key`, with its scale if there is one. shape: that of the
    model's parameter, if it differs by axes of 1.

    Raises UserError for a missing tensor and for unsupported formats (NVFP4, int8 …).
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
    supported = (
        entry.is_gguf or entry.dtype in FLOAT_DTYPES + FP8_DTYPES and size in (1, *entry.shape[:1])
    )
    if not supported or f"{base}.weight_scale_2" in tensors:
        raise _unreadable(entry, "Use the bf16, fp16 or fp8 file of the same model.")
    stored_shape = (rows[1] - rows[0], *entry.shape[1:]) if rows else entry.shape
    # in a file of several parts the scale's key has a prefix, which `tensors` omits
    scale = tensors[scales[0]].key if scales else ""
    return Weight(entry, shape or stored_shape, rows, halves_swapped, scale)


def part_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a part in diffusers' layout, [] if there are none or a shard
    is missing."""
    for name in ("diffusion_pytorch_model", "model"):
        index, single = folder / f"{name}.safetensors.index.json", folder / f"{name}.safetensors"
        if index.exists():
            try:
                table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                shards = [folder / shard for shard in sorted(set(table.values()))]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a broken index
                return []
            return shards if all(shard.exists() for shard in shards) else []
        if single.exists():
            return [single]
    return []


def _scaled(tensor: Tensor, scale: Tensor, rows: tuple[int, int] | None) -> Tensor:
    """Return the product in float32. scale: one value, or one per row of the stored tensor, which
    `rows` selects from."""
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
    """Return the table at the file's head. size and changed_ns are cache keys."""
    if path.suffix.lower() in _PICKLES:
        raise BadFile(
            f"{path.name} can hold programs and is never opened.",
            "Take the .safetensors file of the same model.",
        )
    is_gguf = path.suffix.lower() == GGUF_SUFFIX
    return (gguf_files if is_gguf else safetensors_files).read_table(path)
