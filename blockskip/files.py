"""Files that survive a crash: written under a temporary name, then renamed; safetensors with a
stable header.

safetensors writes the keys of its `__metadata__` in random order; here they are sorted, so that the
same tensors give the same bytes (METHOD.md §1.5, property 6).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from blockskip.events import UserError, command

_MAX_TABLE = 100_000_000  # bytes; the limit of safetensors itself
_NUMBER_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_NUMBER_BYTES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def write_bytes(path: Path, data: bytes) -> None:
    """Write atomically. Raises UserError when the disk is full or the folder cannot be written."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """As `write_bytes`, piece by piece, each made when it is written."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a file where a folder was meant
            temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def replace(source: Path, target: Path) -> None:
    """os.replace, tried again for a second: on Windows a virus scanner may hold the target."""
    for attempt in range(10):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == 9:
                raise
            time.sleep(0.1)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with \\n line ends."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """The JSON object in a file; raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def save_tensors(path: Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; the same tensors and metadata give the same bytes.

    tensors: name → Tensor, any device, any shape; they are written one by one, since a window's may
    take half of the RAM. Raises UserError when the disk is full.
    """
    import torch

    from blockskip.memory.weights import DTYPES

    names = {dtype: name for name, dtype in DTYPES.items()}
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
        raise UserError(
            f"{path.name} cannot be read as a safetensors file.",
            "It may be cut short or another kind of file; make or fetch it again.",
        ) from error


def read_table(path: Path) -> dict[str, dict]:
    """The tensors of a safetensors file by key: dtype (its own name of it), shape, and the bytes
    [start, stop) of the file. Nothing but the table at its head is read, and no torch is needed.

    Raises UserError when the file is no safetensors file, or shorter or longer than its table says.
    """
    broken = UserError(
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
        raise unreadable(error, path) from error
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


def _check_entry(dtype: object, shape: object, first: object, last: object) -> None:
    """Raises ValueError or TypeError unless a table's line says what a tensor is and takes as many
    bytes as that; of types not known here, unless it could."""
    numbers = (*shape, first, last)
    if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(dtype)
    size = _NUMBER_BYTES.get(dtype)
    if last < first or size and last - first != size * math.prod(shape):
        raise ValueError(shape)


def nearest(folder: Path) -> Path:
    """The folder, or the one above it that is there: what its drive can be asked about.

    Raises UserError when there is none: on Windows a drive may be missing.
    """
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        if place.exists():
            return place
    raise UserError(
        f"The drive {folder.anchor} is not there.",
        f"Attach it, or choose another place than {folder}; that of models and runs is set by the "
        "environment variable BLOCKSKIP_DATA.",
    )


def free_bytes(folder: Path) -> int:
    """Free space of the drive that `folder` is, or will be, on. Raises UserError when that drive is
    not there."""
    return shutil.disk_usage(nearest(folder)).free


def fingerprint(*parts: object) -> str:
    """16 hex digits of the parts (bytes as they are, paths by their content, the rest by repr)."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, Path):
            with open(part, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        else:
            digest.update(part if isinstance(part, bytes) else repr(part).encode("utf-8"))
        digest.update(b"\x00")
    return digest.hexdigest()


def disk_error(path: Path, error: OSError) -> UserError:
    """Say in words what an operating system's error on `path` means."""
    import errno

    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return UserError(
            f"The disk is full: {path.name} could not be written in {path.parent}.",
            f"Free some space ({command('clean')} frees caches), or move the folder of models and "
            "runs to another drive and set the environment variable BLOCKSKIP_DATA to it; then "
            "resume.",
        )
    return UserError(
        f"{path} could not be written: {error.strerror or error}.",
        "Check that the folder exists and may be written to.",
    )


def unreadable(error: OSError, path: Path | None = None) -> UserError:
    """Say in words an operating system's error that nobody foresaw, or one on reading `path`."""
    place = path or error.filename or "A file, or the network"
    said = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    return UserError(
        f"{place} cannot be used: {said}.", "Check that it is there and that you may use it."
    )
