"""Files that survive a crash: written under a temporary name, then renamed; safetensors with a
stable header.

safetensors writes the keys of its `__metadata__` in random order; here they are sorted, so that the
same tensors give the same bytes (METHOD.md §1.5, property 6).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from blockskip.events import UserError

_MAX_TABLE = 100_000_000  # bytes; the limit of safetensors itself


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
            entry["start"], entry["stop"] = (8 + length + at for at in entry.pop("data_offsets"))
        end = max((entry["stop"] for entry in table.values()), default=8 + length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise broken from error
    if end != size:
        raise broken
    return table


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
            "Free some space (blockskip clean frees caches) or choose another "
            "drive with --data-dir; then resume.",
        )
    return UserError(
        f"{path} could not be written: {error.strerror or error}.",
        "Check that the folder exists and may be written to.",
    )
