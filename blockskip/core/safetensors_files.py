"""Write safetensors files with a stable header and checksums, and read them.

The safetensors package writes the keys of `__metadata__` in random order. This module sorts them,
so that the same tensors give the same bytes (docs/method.md §1.5, property 6).

Files of runs and caches carry checksums: `__metadata__` has a key `crc32`, a JSON object with the
CRC-32 of each tensor, or of each row of it, and under "" that of the rest of the header. Files
without checksums, of older versions and of other programs, are readable too.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass as pydantic_dataclass

from blockskip.core.errors import BadFile
from blockskip.core.files import read_error, read_json, write_parts

if TYPE_CHECKING:  # torch is imported only where tensors are used
    from torch import Tensor

_MAX_TABLE = 100_000_000  # bytes; the limit of safetensors itself
_CHECKSUMS = "crc32"  # key of __metadata__

_NUMBER_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_NUMBER_BYTES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
# torch's names of the types
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


class Damaged(BadFile):
    """A safetensors file is cut short, or its content is not what was written."""

    def __init__(self, path: Path, reason: str = "", remedy: str = "") -> None:
        reason = reason or "its content is not what was written"
        super().__init__(
            f"{path.name} cannot be read: {reason}.",
            remedy
            or "Resume the run: caches are made again, and training continues from the newest good "
            "checkpoint. If it happens again, check the drive.",
        )
        self.path = path


@dataclass(frozen=True)
class Header:
    """The header of a file.

    table: by tensor name the dtype (as safetensors spells it), the shape, and the bytes
    [start, stop) in the file. checksums: by tensor name its CRC-32, or one for each row; {} if the
    file has none.
    """

    metadata: dict[str, str]
    table: dict[str, dict]
    checksums: dict[str, int | list[int]]


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    *,
    checksums: bool = True,
    by_row: bool = False,
    lasting: bool = True,
) -> None:
    """Write a safetensors file atomically. The same tensors and metadata give the same bytes.

    tensors: name → Tensor of any device and shape, written one by one, since they may take half of
    the RAM. by_row: a checksum for each row, to read by rows. lasting, errors: as `write_bytes`.
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
    values = {"format": "pt", **(metadata or {})}
    if checksums:
        sums = {name: _checksum(tensors[name], by_row) for name in sorted(tensors)}
        values[_CHECKSUMS] = _to_json({"": _header_checksum(values, header), **sums})
    table = {"__metadata__": dict(sorted(values.items()))}
    head = _to_json(table | dict(sorted(header.items()))).encode("utf-8")
    head += b" " * (-len(head) % 8)

    def parts() -> Iterator[bytes | memoryview]:
        yield struct.pack("<Q", len(head)) + head
        for name in order:
            yield _bytes_of(tensors[name])

    write_parts(path, parts(), lasting=lasting)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file into RAM, on the CPU. Raises Damaged, or UserError if the file
    cannot be opened."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    checksums = read_header(path).checksums
    try:
        tensors = load(path.read_bytes())  # not mapped: Windows cannot replace a mapped file
    except OSError as error:
        raise read_error(error, path) from error
    except SafetensorError as error:
        raise Damaged(path) from error
    return {name: verified(path, name, tensor, checksums) for name, tensor in tensors.items()}


def verified(
    path: Path,
    name: str,
    tensor: Tensor,
    checksums: dict[str, int | list[int]],
    rows: slice = slice(None),
) -> Tensor:
    """Return a tensor that was read, or `rows` of it, on the CPU. Raises Damaged if it is not what
    was written.

    A file without checksums passes. So do rows of a tensor with a single one.
    """
    stored = checksums.get(name)
    if not checksums or (isinstance(stored, int) and rows != slice(None)):
        return tensor
    expected = stored[rows] if isinstance(stored, list) else stored
    if _checksum(tensor, isinstance(stored, list)) != expected:
        raise Damaged(path)
    return tensor


def is_intact(path: Path) -> bool:
    """Return whether a file can be read and, if it has checksums, holds what was written. An
    unchanged file is read once by a process."""
    try:
        stat = path.stat()
    except OSError:
        return False
    return _is_intact(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=256)
def _is_intact(path: Path, *signature: int) -> bool:
    try:
        load_tensors(path)
    except BadFile:
        return False
    return True


def read_metadata(path: Path) -> dict[str, str]:
    """Return a file's `__metadata__`. Raises Damaged, or UserError if it cannot be opened."""
    return read_header(path).metadata


def row_checksums(path: Path) -> dict[str, int | list[int]]:
    """Return the checksums of a file; they are parsed once while it is unchanged. Raises Damaged,
    also if it is gone."""
    try:
        stat = path.stat()
    except OSError as error:
        raise Damaged(path, "it is gone") from error
    return _row_checksums(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _row_checksums(path: Path, *signature: int) -> dict[str, int | list[int]]:
    return read_header(path).checksums


def read_header(path: Path, remedy: str = "") -> Header:
    """Read the header of a safetensors file, without torch.

    Raises Damaged with `remedy` if the file is no safetensors file, its size does not match the
    header, or the header is not what was written; UserError if it cannot be opened.
    """
    broken = Damaged(path, "it is cut short, or is no safetensors file", remedy)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _MAX_TABLE):
                raise broken
            table = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
        metadata = table.pop("__metadata__", None) or {}
        checksums = json.loads(metadata.pop(_CHECKSUMS, "{}"))
        if checksums and checksums.pop("") != _header_checksum(metadata, table):
            raise broken
        for entry in table.values():
            first, last = entry.pop("data_offsets")
            _check_entry(entry["dtype"], entry["shape"], first, last)
            entry["start"], entry["stop"] = 8 + length + first, 8 + length + last
        _check_extents(table, 8 + length, size)
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
    if checksums and checksums.keys() != table.keys():
        raise broken
    return Header(metadata, table, checksums)


def _check_extents(table: dict[str, dict], end: int, size: int) -> None:
    """Raises ValueError unless the tensors fill the file without gaps and overlaps, as the package
    demands. end: where the first begins."""
    for entry in sorted(table.values(), key=itemgetter("start", "stop")):
        if entry["start"] != end:
            raise ValueError("a gap or an overlap")
        end = entry["stop"]
    if end != size:
        raise ValueError("cut short")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict. Raises ValueError if a key occurs twice."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _checksum(tensor: Tensor, by_row: bool) -> int | list[int]:
    if by_row and tensor.ndim:
        return [zlib.crc32(_bytes_of(row)) for row in tensor]
    return zlib.crc32(_bytes_of(tensor))


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _header_checksum(metadata: dict[str, str], table: dict[str, dict]) -> int:
    return zlib.crc32(json.dumps([metadata, table], sort_keys=True).encode())


def _to_json(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


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


@pydantic_dataclass
class _Index:
    """The part of an index that is needed. weight_map: parameter → name of its file."""

    weight_map: dict[str, str]


def shards_of(index: Path) -> set[str]:
    """Return the names of the files that an index of diffusers or transformers lists.

    Raises OSError, core.files.Unreadable.
    """
    return set(read_json(index, _Index, "Fetch the model again.").weight_map.values())
