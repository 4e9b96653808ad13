"""Locate and read the weights in safetensors and GGUF files, tensor by tensor.

A `WeightIndex` maps every parameter of a model to a tensor of a file, or to rows of a fused one.
Its shape is known before data is read. Files are never mapped, because Windows would not let
ComfyUI replace a mapped file. models/sources/gguf.py dequantises GGUF tensors.

A weight in float8 or int8 is multiplied by its scale (models/sources/side_tensors.py). Without a
scale, float8 is a plain cast.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core import files, safetensors_files
from blockskip.core.errors import BadFile, UserError
from blockskip.models.sources import gguf as gguf_files
from blockskip.models.sources import side_tensors
from blockskip.models.sources.entry import (
    FLOAT_DTYPES,
    FP8_DTYPES,
    INT8_DTYPE,
    TensorEntry,
    is_packed,
)
from blockskip.models.sources.file_kinds import PICKLES, cached_table

if TYPE_CHECKING:  # torch is imported only to read weights, so `blockskip models` starts fast
    import torch
    from torch import Tensor

    from blockskip.models.sources.tensor_reader import Reader

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_NOT_WEIGHTS = (".comfy_quant", "spiece_model")  # bytes of texts


@dataclass(frozen=True)
class Weight:
    """A parameter of a model and how to read it. shape: of the parameter.

    rows: (first, end) on the stored tensor's first axis, for part of a fused layer. halves_swapped:
    swap the two halves of the first axis (FLUX's last modulation). scale: the scale tensor, if
    there is one. rotation: group of columns that are stored rotated (models/sources/rotation.py), 1
    if none are.
    """

    entry: TensorEntry
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    halves_swapped: bool = False
    scale: TensorEntry | None = None
    rotation: int = 1

    @property
    def path(self) -> Path:
        return self.entry.path

    @property
    def dtype(self) -> torch.dtype:
        """Default dtype of `read()`: the stored one, bfloat16 for 8 bits and quantised tensors."""
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

        out = torch.empty(self.shape, dtype=dtype or self.dtype)
        self.read_into(out, reader or Reader())
        return out

    def read_into(self, out: Tensor, reader: Reader) -> None:
        """Read the parameter into `out` (contiguous, any float dtype, on the CPU). Raises UserError
        if the file is truncated, or `out` has another shape."""
        from blockskip.models.sources.tensor_reader import fill_in_pieces, wrong_shape

        if out.shape != self.shape:
            raise wrong_shape(self.path, self.entry.key, self.shape, tuple(out.shape))
        first, end = self.rows or (0, math.prod(self.entry.shape[:1]))
        middle = (first + end) // 2 if self.halves_swapped else first
        scale = reader.tensor(self.path, self.scale.key) if self.scale else None

        def read(start: int, stop: int) -> Tensor:
            if self.entry.is_gguf:
                raw = partial(reader.raw, self.path)
                return gguf_files.read_rows(self.entry, raw, start, stop)
            rows = reader.tensor(self.path, self.entry.key, (start, stop))
            if scale is None:
                return side_tensors.as_float(rows) if rows.element_size() == 1 else rows
            return side_tensors.scaled(rows, scale, start, self.entry.shape, self.rotation)

        fill_in_pieces(out, [(middle, end), (first, middle)], read)

    @property
    def is_int8_rows(self) -> bool:
        """Whether the parameter is a matrix of 8-bit integers with one scale a row, or in all."""
        if self.entry.dtype != INT8_DTYPE or self.scale is None or self.halves_swapped:
            return False
        is_matrix = len(self.entry.shape) == 2 and self.shape[1:] == self.entry.shape[1:]
        return is_matrix and math.prod(self.scale.shape) in (1, self.entry.shape[0])

    def row_scales(self, reader: Reader) -> Tensor:
        """Return the scales of the rows of `is_int8_rows`, (rows,) in float32."""
        assert self.scale is not None
        scale = reader.tensor(self.path, self.scale.key).float().reshape(-1)
        first, end = self.rows or (0, self.entry.shape[0])
        return scale[first:end] if len(scale) > 1 else scale.expand(end - first)


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
        is_gguf, entries = cached_table(path, stat.st_size, stat.st_mtime_ns)
        for key, entry in entries.items():
            extent = entry["start"], entry["stop"]
            shape = tuple(entry["shape"])
            said = entry.get("told", ""), entry.get("architecture", "")
            table[key] = TensorEntry(path, key, entry["dtype"], shape, *extent, is_gguf, *said)
    return table


def bits_per_weight(tensors: Iterable[TensorEntry]) -> float:
    """Return the average bits per weight, including scales."""
    tensors = list(tensors)
    weights = sum(math.prod(tensor.shape) for tensor in tensors)
    return 8 * sum(tensor.nbytes for tensor in tensors) / max(1, weights)


def is_lora(tensors: Collection[str]) -> bool:
    """Return whether the keys are those of a LoRA (or LoHa, LoKr …) alone. A model that also holds
    such tensors is none: they are refused as tensors beside its weights."""
    words = (
        ".lora_",
        "lora_unet_",
        "lora_te",
        "lora_transformer_",
        ".hada_w1",
        ".lokr_w",
        ".dora_",
    )
    own = [any(word in key for word in words) for key in tensors]
    weights = [key.endswith(".weight") for key in tensors]
    return any(own) and not any(w and not o for w, o in zip(weights, own, strict=True))


def shard(path: Path) -> str:
    """Return which piece of a split model the file is, by its name, "" if it is whole."""
    match = _SHARD.search(path.stem)
    if match is None:
        return ""
    pieces = [
        path.with_name(f"{path.stem[: match.start()]}-{i + 1:05}-of-{match[2]}{path.suffix}")
        for i in range(min(int(match[2]), 1000))
    ]
    missing = next(
        (f", and {piece.name} is missing" for piece in pieces if not os.path.exists(piece)), ""
    )
    return f"one of the {int(match[2])} pieces of a model{missing}; only whole files are read"


def find_weight(
    tensors: dict[str, TensorEntry],
    key: str,
    rows: tuple[int, int] | None = None,
    halves_swapped: bool = False,
    shape: tuple[int, ...] | None = None,
) -> Weight:
    """Return the parameter stored under `key`, with its scale if there is one. shape: that of the
    model's parameter, if it differs by axes of 1.

    Raises UserError for a missing tensor and for unsupported formats (NVFP4, 4-bit integers …).
    """
    if key not in tensors:
        raise _missing(tensors, key)
    entry = tensors[key]
    if entry.is_gguf and not gguf_files.readable(entry.dtype):
        raise BadFile(
            f"{entry.path.name} is packed in a way that cannot be read here ({entry.dtype}).",
            gguf_files.OTHER_FILE_REMEDY,
        )
    stored_dtypes = (*FLOAT_DTYPES, *FP8_DTYPES, INT8_DTYPE)
    if not entry.is_gguf and entry.dtype not in stored_dtypes:
        raise side_tensors.not_understood(entry)
    scale, rotation = side_tensors.scale_of(tensors, key)
    stored_shape = (rows[1] - rows[0], *entry.shape[1:]) if rows else entry.shape
    return Weight(entry, shape or stored_shape, rows, halves_swapped, scale, rotation)


def part_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a part in diffusers' layout, [] if there are none or a shard
    is missing."""
    files = _named_files(folder)
    return files if all(map(os.path.exists, files)) else []


def missing_files(folder: Path) -> str:
    """Return why `part_files` returns none, to be added to a message."""
    missing = [path for path in _named_files(folder) if not os.path.exists(path)]
    if missing:
        return f": {folder.name}/{missing[0].name} is missing"
    others = [p.name for p in sorted(folder.glob("*")) if p.suffix in (*PICKLES, ".safetensors")]
    if not others:
        return ""
    pickles = ", which can hold programs and is never opened" * others[0].endswith(PICKLES)
    return f": {folder.name} has only {others[0]}{pickles}"


def _named_files(folder: Path) -> list[Path]:
    """Return the files that a part's index or its usual name promises, [] if there are none."""
    for name in ("diffusion_pytorch_model", "model"):
        index, single = folder / f"{name}.safetensors.index.json", folder / f"{name}.safetensors"
        if os.path.exists(index):
            try:
                return [folder / shard for shard in sorted(safetensors_files.shards_of(index))]
            except (OSError, files.Unreadable):
                return []
        if os.path.exists(single):
            return [single]
    return []


def _missing(tensors: dict[str, TensorEntry], key: str) -> UserError:
    """Return the error of a missing tensor. It names what stands in its place in packed files."""
    layer = f"{key.removesuffix('.weight')}."
    for other, entry in tensors.items():
        in_place = other.startswith(layer) and not other.endswith(".bias")
        packed = is_packed(entry) and entry.dtype != INT8_DTYPE and not other.endswith(_NOT_WEIGHTS)
        if packed or in_place and not entry.is_gguf:
            return side_tensors.not_understood(entry)
    path = next(iter(tensors.values())).path if tensors else Path("The file")
    if piece := shard(path):
        return BadFile(f"{path.name} is {piece}.", side_tensors.REMEDY)
    return BadFile(
        f"{path.name} does not hold all of the model: “{key}” is missing.", "Fetch the file again."
    )
