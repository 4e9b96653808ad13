"""Write safetensors files with a stable header, and read headers.

The safetensors package writes the keys of `__metadata__` in random order. This module sorts them,
so that the same tensors give the same bytes (docs/method.md §1.5, property 6).
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
# torch's names of the types; torch is imported only where tensors are used
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
    """Write a safetensors file atomically. The same tensors and metadata give the same bytes.

    tensors: name → Tensor of any device and shape. They are written one by one, since a window's
    tensors may take half of the RAM. Raises UserError if the disk is full.
    """
    import torch

    names = {getattr(torch, dtype): name for name, dtype in DTYPES.items()}
    # widest types first, so that every tensor is aligned to its element size
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, dict] = {}
    start = 0
    for name in order:
        shape, stop = list(tensors[name].shape), start + tensors[name].nbytes
        dtype = names[tensors[name].dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    table = {"__metadata__": dict(sorted({"format": "pt", **(metadata or {})}.items()))}
    text = json.dumps(
        table | dict(sorted(header.items())), separators=(",", ":"), ensure_ascii=False
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
    """Return a file's `__metadata__`. Raises UserError for a broken or foreign file."""
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
    """Read the header of a safetensors file, without torch.

    Returns by tensor name: dtype (as safetensors spells it), shape, and the bytes [start, stop) in
    the file. Raises UserError if the file is not a safetensors file, or its size does not match the
    header.
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
    """Raises ValueError or TypeError for a malformed header entry.

    The number of bytes must match the shape, unless the type is unknown.
    """
    numbers = (*shape, first, last)
    if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(dtype)
    size = _NUMBER_BYTES.get(dtype)
    if last < first or size and last - first != size * math.prod(shape):
        raise ValueError(shape)
