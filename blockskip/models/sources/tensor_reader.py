"""Read single tensors from safetensors files: an index {parameter: StoredTensor} and a reader.

A tensor is read directly into its final memory (or a staging buffer). The file is never mapped, so
its pages do not count as the process's memory, nothing is read twice, and Windows can still replace
it. The safetensors reader maps the whole file and keeps touched pages in the process, which a 24 GB
checkpoint does not allow (docs/method.md §1.4).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, UserError
from blockskip.core.safetensors_files import DTYPES, Damaged

_NUM_THREADS = 4  # pieces of a tensor that are read at the same time
_MIN_CHUNK_BYTES = 4 << 20  # bytes; smaller pieces are not worth a thread
_CONVERTED_WEIGHTS = 1 << 20  # at a time: their copies in float32 take 4 MB each


@dataclass(frozen=True)
class StoredTensor:
    """Location of a parameter: tensor `key` of the safetensors file `path`.

    rows: only rows [start, stop) of it, for parameters that a file stores fused. fill: reads a
    tensor stored in another form (scaled, quantised, swapped) into its last argument, the parameter
    on the CPU. It may read other tensors, also from other file formats. int8: the parameter's
    digits, if it is a matrix in 8 bits.
    """

    path: Path
    key: str
    rows: tuple[int, int] | None = None
    fill: Callable[[Reader, StoredTensor, Tensor], None] | None = None
    int8: Int8Matrix | None = None


@dataclass(frozen=True)
class Int8Matrix:
    """A matrix (R, C) in 8 bits: int8 digits (R, C), a float32 factor for each row (R,), and the
    group of columns that are rotated (models/sources/rotation.py), 1 if none are."""

    digits: StoredTensor
    factors: StoredTensor
    rotation: int


TensorIndex = Mapping[str, StoredTensor]


def fill_in_pieces(
    out: Tensor, ranges: Iterable[tuple[int, int]], read: Callable[[int, int], Tensor]
) -> None:
    """Fill `out` (contiguous) with rows of a stored tensor, converted to its dtype.

    ranges: rows [first, end), in the order of `out`. read: (first, end) → those rows, of any dtype.
    It gets a few at a time, so that little memory is needed beside `out`.
    """
    ranges = list(ranges)
    num = sum(end - first for first, end in ranges)
    step = max(1, _CONVERTED_WEIGHTS * num // max(1, out.numel()))
    flat, done = out.view(-1), 0
    for first, end in ranges:
        for start in range(first, end, step):
            rows = read(start, min(start + step, end)).reshape(-1)
            flat[done : done + len(rows)].copy_(rows)
            done += len(rows)


@dataclass(frozen=True)
class TensorExtent:
    """A tensor inside a file: bytes [start, stop) from the file's beginning.

    checksum: of its content, None if the file has none.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    checksum: int | None = None


def index_folder(folder: Path) -> dict[str, StoredTensor]:
    """Return the index of a model folder as diffusers and transformers save it, sharded or not.

    Raises UserError if there are no safetensors files, or a shard is missing.
    """
    shards = sorted(folder.glob("*.safetensors"))
    wanted: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        wanted |= safetensors_files.shards_of(index)
    missing = sorted(wanted - {shard.name for shard in shards})
    if missing or not shards:
        raise BadFile(
            f"{folder} lacks {missing[0] if missing else 'weights (*.safetensors)'}.",
            "The model is not complete; fetch it again.",
        )
    chosen = [shard for shard in shards if not wanted or shard.name in wanted]
    reader = Reader()
    return {key: StoredTensor(shard, key) for shard in chosen for key in reader.header(shard)}


class Reader:
    """A reader of tensors in safetensors files that caches headers and counts the bytes read.

    A tensor with a checksum is compared with it when it is read for the first time.
    """

    def __init__(self) -> None:
        self._headers: dict[Path, dict[str, TensorExtent]] = {}
        self._verified: set[tuple[Path, int]] = set()
        self.bytes_read = 0

    def header(self, path: Path) -> dict[str, TensorExtent]:
        """Return every tensor of a file by key. Raises UserError for a broken or unsupported
        file."""
        if path not in self._headers:
            self._headers[path] = read_header(path)
        return self._headers[path]

    def extent(self, path: Path, key: str, rows: tuple[int, int] | None = None) -> TensorExtent:
        """Return the extent of a tensor or of its rows [first, last). Raises UserError if the file
        lacks it."""
        try:
            extent = self.header(path)[key]
        except KeyError:
            raise BadFile(
                f"{path.name} lacks the tensor {key}.",
                "It is another model's file, or was cut short; fetch it again.",
            ) from None
        if rows is None or rows == (0, math.prod(extent.shape[:1])):
            return extent
        first, last = rows
        row_bytes = (extent.stop - extent.start) // extent.shape[0]
        return TensorExtent(
            extent.dtype,
            (last - first, *extent.shape[1:]),
            extent.start + first * row_bytes,
            extent.start + last * row_bytes,
        )

    def tensor(self, path: Path, key: str, rows: tuple[int, int] | None = None) -> Tensor:
        """Read a tensor into new memory, in its stored dtype."""
        extent = self.extent(path, key, rows)
        out = torch.empty(extent.shape, dtype=extent.dtype)
        self._fill(path, extent, out)
        return out

    def raw(self, path: Path, start: int, stop: int) -> Tensor:
        """Read bytes [start, stop) of any file, (stop - start,) uint8. Raises UserError past its
        end."""
        out = torch.empty(stop - start, dtype=torch.uint8)
        self._fill(path, TensorExtent(out.dtype, tuple(out.shape), start, stop), out)
        return out

    def read(self, stored: StoredTensor, out: Tensor) -> None:
        """Read a parameter into `out` (contiguous, on the CPU), in out's dtype.

        Raises UserError if the shapes differ or the file is truncated.
        """
        if stored.fill is not None:
            stored.fill(self, stored, out)
            return
        extent = self.extent(stored.path, stored.key, stored.rows)
        if extent.shape != tuple(out.shape):
            raise wrong_shape(stored.path, stored.key, extent.shape, tuple(out.shape))
        if extent.dtype == out.dtype:
            self._fill(stored.path, extent, out)
            return
        rows = stored.rows or (0, math.prod(extent.shape[:1]))

        def read(first: int, end: int) -> Tensor:
            return self.tensor(stored.path, stored.key, (first, end))

        fill_in_pieces(out, [rows], read)

    def _fill(self, path: Path, extent: TensorExtent, out: Tensor) -> None:
        view = out.reshape(-1).view(torch.uint8).numpy().data
        piece = max(_MIN_CHUNK_BYTES, -(-len(view) // _NUM_THREADS))
        starts = range(0, len(view), piece)
        if len(starts) > 1:  # sequential requests reach half of a disk's speed
            with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="read") as pool:
                parts = [
                    (path, extent.start + offset, view[offset : offset + piece])
                    for offset in starts
                ]
                for future in [pool.submit(_read_into, *part) for part in parts]:
                    future.result()
        else:
            _read_into(path, extent.start, view)
        self.bytes_read += len(view)
        if extent.checksum is not None and (path, extent.start) not in self._verified:
            if zlib.crc32(view) != extent.checksum:
                raise Damaged(path)
            self._verified.add((path, extent.start))


def _read_into(path: Path, start: int, view: memoryview) -> None:
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        done = 0
        while done < len(view):
            num_read = file.readinto(view[done:])
            if not num_read:
                raise _cut_short(path)
            done += num_read


def wrong_shape(path: Path, key: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> UserError:
    """Return the error of a tensor that is not the parameter."""
    return BadFile(
        f"{path.name}: {key} has shape {shape}, wanted is {wanted}.",
        "It is another model's file; choose the right one.",
    )


def read_header(path: Path) -> dict[str, TensorExtent]:
    """Return every tensor of a safetensors file by key. Raises UserError if it cannot be read."""
    header = safetensors_files.read_header(path, "Fetch or make it again.")
    table, checksums = header.table, header.checksums
    unknown = sorted({entry["dtype"] for entry in table.values()} - DTYPES.keys())
    if unknown:
        raise BadFile(
            f"{path.name} is packed in a way that cannot be read here ({unknown[0]}).",
            "Use the bf16, fp16 or fp8 file of the same model.",
        )
    return {
        key: TensorExtent(
            getattr(torch, DTYPES[entry["dtype"]]),
            tuple(entry["shape"]),
            entry["start"],
            entry["stop"],
            checksum if isinstance(checksum := checksums.get(key), int) else None,
        )
        for key, entry in table.items()
    }


def _cut_short(path: Path) -> UserError:
    return Damaged(path, "it is cut short", "Fetch or make it again.")
