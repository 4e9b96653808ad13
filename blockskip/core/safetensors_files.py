"""Safetensors files: written with a stable header, read by their headers.

safetensors writes the keys of its `__metadata__` in random order; here they are sorted, so that the
same tensors give the same bytes (docs/method.md §1.5, property 6).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

from blockskip.core.errors import BadFile
from blockskip.core.files import read_error, write_parts

_MAX_TABLE = 100_000_000  # bytes; the limit of safetensors itself


_NUMBER_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_NUMBER_BYTES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
# what torch calls the types; torch is imported only where a tensor is
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def save_tensors(path: Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; the same tensors and metadata give the same bytes.

    tensors: name → Tensor, any device, any shape; they are written one by one, since a window's may
    take half of the RAM. Raises UserError when the disk is full.
    """
    import torch

    names = {getattr(torch, dtype): name for name, dtype in DTYPES.items()}
    # the widest first: every tensor begins at a multiple of its numbers' size
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, dict] = {}
    start = 0
    for name in order:
        shape, stop = list(tensors[name].shape), start + tensors[name].nbytes
        dtype = names[tensors[name].dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    told = {"__metadata__": dict(sorted({"format": "pt", **(metadata or {})}.items()))}
    text = json.dumps(
        told | dict(sorted(header.items())), separators=(",", ":"), ensure_ascii=False
    )
    head = text.encode("utf-8")
    head += b" " * (-len(head) % 8)

    def parts() -> Iterator[bytes | memoryview]:
        yield struct.pack("<Q", len(head)) + head
        for name in order:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            yield memoryview(flat.view(torch.uint8).numpy())

    write_parts(path, parts())


def read_metadata(path: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors file. Raises UserError for a broken or foreign file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BadFile(
            f"{path.name} cannot be read as a safetensors file.",
            "It may be cut short or another kind of file; make or fetch it again.",
        ) from error


def read_table(path: Path) -> dict[str, dict]:
    """The tensors of a safetensors file by key: dtype (its own name of it), shape, and the bytes
    [start, stop) of the file. Nothing but the table at its head is read, and no torch is needed.

    Raises UserError when the file is no safetensors file, or shorter or longer than its table says.
    """
    broken = BadFile(
        f"{path.name} cannot be read: it is cut short, or is no safetensors file.",
        "Fetch or make it again.",
    )
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _MAX_TABLE):
                raise broken
            table = json.loads(file.read(length))
        table.pop("__metadata__", None)
        for entry in table.values():
            first, last = entry.pop("data_offsets")
            _check_entry(entry["dtype"], entry["shape"], first, last)
            entry["start"], entry["stop"] = 8 + length + first, 8 + length + last
        end = max((entry["stop"] for entry in table.values()), default=8 + length)
    except OSError as error:
        raise read_error(error, path) from error
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise broken from error
    if end != size:
        raise broken
    return table


def _check_entry(dtype: str, shape: list[int], first: int, last: int) -> None:
    """Raises ValueError or TypeError unless a table's line says what a tensor is and takes as many
    bytes as that; of types not known here, unless it could."""
    numbers = (*shape, first, last)
    if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(dtype)
    size = _NUMBER_BYTES.get(dtype)
    if last < first or size and last - first != size * math.prod(shape):
        raise ValueError(shape)
