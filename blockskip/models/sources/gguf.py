"""GGUF files: which tensors they hold, and how those become numbers again.

A GGUF keeps a tensor in blocks of 32 or 256 weights that share scales, a row being a whole number
of blocks, so rows can be cut out of the bytes as they lie. The arithmetic of every kind of block is
that of the `gguf` package. The table at a file's head is read here, since the package's own reader
maps the whole file, makes objects of every word of a vocabulary (a second for T5's), and says
nothing that a user could understand about a file that is cut short.

The format as llama.cpp writes it (versions 2 and 3, little-endian): magic, version, number of
tensors, number of settings, the settings, the table; then the tensors, each at a multiple of
`general.alignment`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blockskip.core.errors import BadFile, UserError

if TYPE_CHECKING:  # as in models/sources/tensors.py: listing models wants no torch
    import torch
    from torch import Tensor

    from blockskip.models.sources.entry import TensorEntry

OTHER_FILE_REMEDY = (
    "Use a Q8_0, Q6_K, Q5_K, Q4_K or bf16 GGUF of the same model, or its safetensors file."
)
_FLOAT_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CHUNK_WEIGHTS = (
    4 << 20
)  # weights unpacked at a time: the package makes several float copies of them
_MAX_NAME_BYTES = 65535  # bytes, by the format
_MAX_AXES = 4  # of a tensor, by the format
_UINT32, _STRING, _ARRAY = 4, 8, 9  # kinds of settings: a number of 4 bytes, a string, an array
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
}  # kind → bytes


def read_table(path: Path) -> dict[str, dict]:
    """The tensors of a GGUF file by key, as `files.read_table` gives a safetensors file's: dtype
    (ggml's name of it: F32, Q8_0, Q4_K …), shape (rows first, as torch has it; the file has them
    last) and the bytes [start, stop) of the file. Nothing but the file's head is read.

    Raises UserError when it is no GGUF file, is shorter than its table says, or holds a type that
    is not known here.
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
    """Whether tensors of ggml's type of that name can be unpacked here."""
    return dtype in _FLOAT_TYPES or _can_dequantise(dtype)


def unpack(
    entry: TensorEntry,
    read: Callable[[int, int], Tensor],
    rows: tuple[int, int] | None,
    dtype: torch.dtype,
) -> Tensor:
    """Rows [first, end) of a stored tensor, or all of it, on the CPU: (rows, …) in `dtype`.

    read: (start, stop) → those bytes of the file, (stop - start,) uint8. They are read and unpacked
    some rows at a time: besides the result never more than some 50 MB are in memory.
    """
    import torch

    shape = entry.shape
    if len(shape) < 2:  # a row is then not a whole number of blocks
        whole = _dequantise(read(entry.start, entry.stop), entry.dtype).to(dtype).reshape(shape)
        return whole if rows is None else whole[slice(*rows)].clone()
    first, end = rows or (0, shape[0])
    row_bytes = entry.nbytes // shape[0]
    step = max(1, _CHUNK_WEIGHTS // math.prod(shape[1:]))
    out = torch.empty((end - first, *shape[1:]), dtype=dtype)
    for at in range(first, end, step):
        stop = min(at + step, end)
        data = read(entry.start + at * row_bytes, entry.start + stop * row_bytes)
        some = out[at - first : stop - first]
        some.copy_(_dequantise(data.reshape(stop - at, -1), entry.dtype).reshape(some.shape))
    return out


def _dequantise(data: Tensor, dtype: str) -> Tensor:
    """Bytes (…, bytes of whole blocks) uint8 → numbers (…, weights of them) in float."""
    import torch

    if dtype in _FLOAT_TYPES:
        return data.view(getattr(torch, _FLOAT_TYPES[dtype]))
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    return torch.from_numpy(dequantize(data.numpy(), GGMLQuantizationType[dtype]))


@lru_cache
def _can_dequantise(dtype: str) -> bool:
    """Asks the package, by one block of zeros."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if dtype == "NVFP4":  # has a further scale in another tensor, which the package does not take
        return False
    try:
        kind = GGMLQuantizationType[dtype]
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except (KeyError, NotImplementedError):  # a type it does not know, or cannot unpack
        return False
    return True


def _read_entries(file: BinaryIO, path: Path) -> dict[str, dict]:
    """What follows magic and version. Raises ValueError, struct.error … for a broken file,
    UserError for a type that is not known."""
    tensors, settings = _read_struct(file, "QQ")
    alignment = _read_alignment(file, settings)
    table: dict[str, dict] = {}
    for _ in range(tensors):
        name = _read_name(file)
        if name in table:
            raise ValueError(name)
        table[name] = _read_entry(file, path)
    base = math.ceil(file.tell() / alignment) * alignment
    for entry in table.values():
        entry["start"] += base
        entry["stop"] += base
    return table


def _read_alignment(file: BinaryIO, settings: int) -> int:
    """Passes over all settings; gives the one that matters."""
    alignment = 32
    for _ in range(settings):
        name, (kind,) = _read_name(file), _read_struct(file, "I")
        if name == "general.alignment" and kind == _UINT32:
            (alignment,) = _read_struct(file, "I")
        else:
            _skip_value(file, kind)
    if not alignment:
        raise ValueError("general.alignment")
    return alignment


def _read_entry(file: BinaryIO, path: Path) -> dict:
    """One line of the table; start and stop count from where the tensors begin."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    (axes,) = _read_struct(file, "I")
    if axes > _MAX_AXES:
        raise ValueError(axes)
    columns_first = _read_struct(file, f"{axes}Q")
    number, start = _read_struct(file, "IQ")
    kind = next((kind for kind in GGMLQuantizationType if kind == number), None)
    if kind is None:
        raise BadFile(
            f"{path.name} is packed in a way that cannot be read here (ggml's type {number}).",
            OTHER_FILE_REMEDY,
        )
    weights, num_bytes = GGML_QUANT_SIZES[kind]
    if (columns_first[0] if axes else 1) % weights:
        raise ValueError(columns_first)
    stop = start + math.prod(columns_first) // weights * num_bytes
    return {"dtype": kind.name, "shape": columns_first[::-1], "start": start, "stop": stop}


def _read_struct(file: BinaryIO, numbers: str) -> tuple[int, ...]:
    size = struct.calcsize(f"<{numbers}")
    return struct.unpack(f"<{numbers}", file.read(size))


def _read_name(file: BinaryIO) -> str:
    (length,) = _read_struct(file, "Q")
    if length > _MAX_NAME_BYTES:
        raise ValueError(length)
    return file.read(length).decode("utf-8")


def _skip_value(file: BinaryIO, kind: int) -> None:
    """Pass over a setting's value; a file that ends before it does is noticed at the next one."""
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
