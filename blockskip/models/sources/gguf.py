"""GGUF files: read their table of tensors and dequantise them.

A GGUF stores a tensor in blocks of 32 or 256 weights with shared scales, so rows can be read on
their own. The `gguf` package dequantises every type of block. The table is read here, because the
package's reader maps the whole file, makes objects of every word of a vocabulary (a second for
T5's), and has no clear error for a truncated file.

The format as llama.cpp writes it (versions 2 and 3, little-endian): magic, version, number of
tensors, number of settings, the settings, the table; then the tensors, each at a multiple of
`general.alignment`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blockskip.core.errors import BadFile, UserError

if TYPE_CHECKING:  # as in models/sources/tensors.py: listing models must not load torch
    from torch import Tensor

    from blockskip.models.sources.entry import TensorEntry

OTHER_FILE_REMEDY = (
    "Use a Q8_0, Q6_K, Q5_K, Q4_K or bf16 GGUF of the same model, or its safetensors file."
)
_FLOAT_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MAX_NAME_BYTES = 65535  # limit of the format, bytes
_MAX_AXES = 4  # limit of the format
_UINT32, _INT32, _STRING, _ARRAY = 4, 5, 8, 9  # type codes of settings
# ComfyUI-GGUF stores tensors whose rows are no whole blocks in rows of 256 weights, and their shape
# in a setting of this name and the tensor's
_SHAPE_SETTING = "comfy.gguf.orig_shape."
_MOST_AXES = 8  # of such a shape
_SCALAR_BYTES = {
    0: 1,
    1: 1,
    2: 2,
    3: 2,
    4: 4,
    5: 4,
    6: 4,
    7: 1,
    10: 8,
    11: 8,
    12: 8,
}  # type code of a setting → bytes


def read_table(path: Path) -> dict[str, dict]:
    """Read the table of a GGUF file, in the form of a safetensors file's (`safetensors_files.Header`): key → dtype
    (ggml's name: F32, Q8_0, Q4_K …), shape (in torch's order, the reverse of the file's), the
    bytes [start, stop) in the file, and the file's architecture. Only the head of the file is read.

    Raises UserError if it is not a GGUF file, is truncated, or holds an unknown type.
    """
    try:
        with open(path, "rb") as file:
            magic, version = struct.unpack("<4sI", file.read(8))
            if magic == b"GGUF" and version not in (2, 3):
                raise BadFile(f"{path.name} is GGUF of an unknown version.", OTHER_FILE_REMEDY)
            if magic != b"GGUF":
                raise ValueError("another kind of file")
            table = _read_entries(file, path)
            size = path.stat().st_size
    except (OSError, ValueError, OverflowError, RecursionError, struct.error) as error:
        raise _broken(path) from error
    if any(entry["stop"] > size for entry in table.values()):
        raise _broken(path)
    return table


def readable(dtype: str) -> bool:
    """Return whether tensors of ggml's type `dtype` can be dequantised."""
    return dtype in _FLOAT_TYPES or _can_dequantise(dtype)


def read_rows(
    entry: TensorEntry, read: Callable[[int, int], Tensor], first: int, end: int
) -> Tensor:
    """Dequantise rows [first, end) of a stored tensor on the CPU: ((end - first) * weights of a
    row,) in float.

    read: (start, stop) → those bytes of the file, (stop - start,) uint8. Needs a few float32 copies
    of the rows meanwhile.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    row, (weights, num_bytes) = (
        math.prod(entry.shape[1:]),
        GGML_QUANT_SIZES[GGMLQuantizationType[entry.dtype]],
    )
    # blocks lie one after another, and rows of a reshaped tensor may begin inside of one
    block, stop = first * row // weights, -(-end * row // weights)
    data = read(entry.start + block * num_bytes, entry.start + stop * num_bytes)
    flat = _dequantise(data, entry.dtype)
    return flat[first * row - block * weights : end * row - block * weights]


def _dequantise(data: Tensor, dtype: str) -> Tensor:
    """Dequantise whole blocks: (bytes,) uint8 → (weights,) in float."""
    import torch

    if dtype in _FLOAT_TYPES:
        return data.view(getattr(torch, _FLOAT_TYPES[dtype]))
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    return torch.from_numpy(dequantize(data.numpy(), GGMLQuantizationType[dtype]))


@lru_cache
def _can_dequantise(dtype: str) -> bool:
    """Return whether the package can dequantise the type, tested on a block of zeros."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if dtype == "NVFP4":  # a second scale is in another tensor, which the package ignores
        return False
    try:
        block_type = GGMLQuantizationType[dtype]
        dequantize(np.zeros((1, GGML_QUANT_SIZES[block_type][1]), np.uint8), block_type)
    except (KeyError, NotImplementedError):  # unknown to the package, or not dequantisable
        return False
    return True


def _read_entries(file: BinaryIO, path: Path) -> dict[str, dict]:
    """Read everything after magic and version. Raises ValueError, struct.error … for a broken file,
    UserError for an unknown type."""
    tensors, settings = _read_struct(file, "QQ")
    alignment, architecture, shapes = _read_settings(file, settings)
    table: dict[str, dict] = {}
    for _ in range(tensors):
        name = _read_name(file)
        if name in table:
            raise ValueError(name)
        table[name] = entry = _read_entry(file, path)
        shape = shapes.get(name, entry["shape"])
        if math.prod(shape) != math.prod(entry["shape"]):
            raise ValueError(shape)
        entry |= {"shape": shape, "architecture": architecture}
    base, end = math.ceil(file.tell() / alignment) * alignment, 0
    for entry in sorted(table.values(), key=itemgetter("start", "stop")):
        if entry["start"] % alignment or entry["start"] < end:
            raise ValueError("tensors overlap, or are not aligned")
        end = entry["stop"]
        entry["start"] += base
        entry["stop"] += base
    return table


def _read_settings(file: BinaryIO, settings: int) -> tuple[int, str, dict[str, tuple[int, ...]]]:
    """Skip all settings but three. Return `general.alignment`, bytes, `general.architecture`, ""
    without one, and tensor → shape of those that are stored in another shape."""
    alignment, architecture, shapes = 32, "", {}
    for _ in range(settings):
        name, (kind,) = _read_name(file), _read_struct(file, "I")
        if name == "general.alignment" and kind == _UINT32:
            (alignment,) = _read_struct(file, "I")
        elif name == "general.architecture" and kind == _STRING:
            architecture = _read_name(file)
        elif name.startswith(_SHAPE_SETTING):
            shapes[name.removeprefix(_SHAPE_SETTING)] = _read_shape(file, kind)
        else:
            _skip_value(file, kind)
    if not alignment:
        raise ValueError("general.alignment")
    return alignment, architecture, shapes


def _read_shape(file: BinaryIO, kind: int) -> tuple[int, ...]:
    inner, axes = _read_struct(file, "IQ")
    if kind != _ARRAY or inner != _INT32 or axes > _MOST_AXES:
        raise ValueError(kind)
    shape = _read_struct(file, f"{axes}i")
    if min(shape, default=1) < 1:
        raise ValueError(shape)
    return shape


def _read_entry(file: BinaryIO, path: Path) -> dict:
    """Read one entry of the table. start and stop are relative to the first tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    (axes,) = _read_struct(file, "I")
    if axes > _MAX_AXES:
        raise ValueError(axes)
    columns_first = _read_struct(file, f"{axes}Q")
    type_code, start = _read_struct(file, "IQ")
    block_type = next(
        (block_type for block_type in GGMLQuantizationType if block_type == type_code), None
    )
    if block_type is None:
        raise BadFile(
            f"{path.name} is packed in a way that cannot be read here (ggml's type {type_code}).",
            OTHER_FILE_REMEDY,
        )
    weights, num_bytes = GGML_QUANT_SIZES[block_type]
    if (columns_first[0] if axes else 1) % weights:
        raise ValueError(columns_first)
    stop = start + math.prod(columns_first) // weights * num_bytes
    return {"dtype": block_type.name, "shape": columns_first[::-1], "start": start, "stop": stop}


def _read_struct(file: BinaryIO, format: str) -> tuple[int, ...]:
    size = struct.calcsize(f"<{format}")
    return struct.unpack(f"<{format}", file.read(size))


def _read_name(file: BinaryIO) -> str:
    (length,) = _read_struct(file, "Q")
    if length > _MAX_NAME_BYTES:
        raise ValueError(length)
    return file.read(length).decode("utf-8")


def _skip_value(file: BinaryIO, kind: int) -> None:
    """Skip a setting's value. A truncated value makes the next read fail."""
    if kind == _STRING:
        (length,) = _read_struct(file, "Q")
        file.seek(length, 1)
    elif kind == _ARRAY:
        inner, count = _read_struct(file, "IQ")
        if inner in _SCALAR_BYTES:
            file.seek(_SCALAR_BYTES[inner] * count, 1)
            return
        for _ in range(count):
            _skip_value(file, inner)
    elif kind in _SCALAR_BYTES:
        file.seek(_SCALAR_BYTES[kind], 1)
    else:
        raise ValueError(kind)


def _broken(path: Path) -> UserError:
    return BadFile(
        f"{path.name} cannot be read: it is cut short, or is no GGUF file.",
        "Fetch or make it again.",
    )
