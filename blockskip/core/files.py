"""Files that survive a crash: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from blockskip.core.errors import BadFile, DiskFull, Unreachable, UserError, command


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


def existing_parent(folder: Path) -> Path:
    """The folder, or the one above it that is there: what its drive can be asked about.

    Raises UserError when there is none: on Windows a drive may be missing.
    """
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        if place.exists():
            return place
    raise BadFile(
        f"The drive {folder.anchor} is not there.",
        f"Attach it, or choose another place than {folder}; that of models and runs is set by the "
        "environment variable BLOCKSKIP_DATA.",
    )


def free_bytes(folder: Path) -> int:
    """Free space of the drive that `folder` is, or will be, on. Raises UserError when that drive is
    not there."""
    return shutil.disk_usage(existing_parent(folder)).free


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
    if _is_full(error):
        return DiskFull(
            f"The disk is full: {path.name} could not be written in {path.parent}.",
            f"Free some space ({command('clean')} frees caches), or move the folder of models and "
            "runs to another drive and set the environment variable BLOCKSKIP_DATA to it; then "
            "resume.",
        )
    return BadFile(
        f"{path} could not be written: {error.strerror or error}.",
        "Check that the folder exists and may be written to.",
    )


def read_error(error: OSError, path: Path | None = None) -> UserError:
    """Say in words an operating system's error that nobody foresaw, or one on reading `path`."""
    place = path or error.filename or "A file, or the network"
    said = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    network = isinstance(error, ConnectionError | TimeoutError)
    kind = DiskFull if _is_full(error) else Unreachable if network else BadFile
    return kind(
        f"{place} cannot be used: {said}.", "Check that it is there and that you may use it."
    )


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
