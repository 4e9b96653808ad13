"""Files that survive a crash. They are written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from blockskip.core.errors import BadFile, DiskFull, Unreachable, UserError, command
from blockskip.core.shortage import is_disk_full, shortage


def write_bytes(path: Path, data: bytes) -> None:
    """Write atomically. Raises UserError if the disk is full or the folder is not writable."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write like `write_bytes`, in parts, each of them produced only when it is written."""
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
        with contextlib.suppress(OSError):  # its parent may be a file
            temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def replace(source: Path, target: Path) -> None:
    """Call os.replace, retrying for a second, since a Windows virus scanner may hold the target."""
    for attempt in range(10):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == 9:
                raise
            time.sleep(0.1)


def make_private(folder: Path) -> None:
    """Create a folder that only this user can open, or close an existing one of this user to
    others. Raises OSError if it cannot be created.

    Windows has no such modes; there, a user's profile is private.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # a file system without modes
        status = folder.stat()
        if status.st_uid == os.geteuid() and status.st_mode & 0o077:
            folder.chmod(0o700)


def remove_folder(folder: Path) -> None:
    """Call shutil.rmtree, retrying for a second like `replace`. Raises OSError."""
    for attempt in range(10):
        try:
            shutil.rmtree(folder)
            return
        except PermissionError:
            if attempt == 9:
                raise
            time.sleep(0.1)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with \\n line endings."""
    write_bytes(path, text.encode("utf-8"))


def write_private(path: Path, text: str) -> None:
    """Write UTF-8 text atomically to a file that only this user can read. Raises UserError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        replace(temporary, path)
    except OSError as error:
        raise disk_error(path, error) from error


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, without sorting its keys."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """Return the JSON object in a file. Raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def existing_parent(folder: Path) -> Path:
    """Return the folder or its nearest existing parent, for queries about its drive.

    Raises UserError if there is none, since on Windows a drive may be missing.
    """
    folder = folder.absolute()
    for candidate in (folder, *folder.parents):
        if candidate.exists():
            return candidate
    raise BadFile(
        f"The drive {folder.anchor} is not there.",
        f"Attach it, or choose another place than {folder}; that of models and runs is set by the "
        "environment variable BLOCKSKIP_DATA.",
    )


def free_bytes(folder: Path) -> int:
    """Return the free space, in bytes, on the drive of `folder`, which need not exist yet.

    Raises UserError if the drive is missing.
    """
    return shutil.disk_usage(existing_parent(folder)).free


def fingerprint(*parts: object) -> str:
    """Return a hash of 16 hex digits. Paths count by file content, other objects by their repr."""
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
    """Convert an OSError on writing `path` to a UserError."""
    if is_disk_full(error):
        return DiskFull(
            f"The disk is full: {path.name} could not be written in {path.parent}.",
            f"Free some space ({command('clean')} frees caches), or move the folder of models and "
            "runs to another drive and set the environment variable BLOCKSKIP_DATA to it; then "
            "resume.",
        )
    if (short := shortage(error)) is not None:
        return short
    return BadFile(
        f"{path} could not be written: {error.strerror or error}.",
        "Check that the folder exists and may be written to.",
    )


def read_error(error: OSError, path: Path | None = None) -> UserError:
    """Convert an OSError on reading `path`, or an unexpected one, to a UserError."""
    subject = path or error.filename or "A file, or the network"
    reason = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    if (short := shortage(error)) is not None and not is_disk_full(error):
        return short
    network = isinstance(error, ConnectionError | TimeoutError)
    kind = DiskFull if is_disk_full(error) else Unreachable if network else BadFile
    return kind(
        f"{subject} cannot be used: {reason}.", "Check that it is there and that you may use it."
    )
