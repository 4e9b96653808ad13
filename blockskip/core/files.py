"""Files that survive a crash and a power cut. They are written under a temporary name, then renamed.

A killed writer leaves its temporary file or folder, NAME.PID.tmp, which `remove_leftovers` finds. A
power cut takes what is not on the disk yet: the content of a file, and the names of a folder, each
until it is synced (tests/corpus/disk.py tries every order of losing them).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from blockskip.core.errors import BadFile, BadInput, DiskFull, Unreachable, UserError, command
from blockskip.core.lasting_folders import make_folder, sync_folder
from blockskip.core.shortage import is_disk_full, shortage
from blockskip.core.validation import validated

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r".+\.(\d{1,10})\.tmp")
_in_use: set[Path] = set()  # temporary folders of this process


class Unreadable(BadFile, ValueError):
    """A file whose content is not what it should be. Also a ValueError, for callers that can do
    without the file."""


def write_bytes(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write atomically, and return once it is on the disk. Raises UserError if the disk is full or
    the folder is not writable.

    lasting: False for a file that is made again after a power cut, if whoever reads it knows a
    damaged one.
    """
    write_parts(path, [data], lasting=lasting)


def write_parts(path: Path, parts: Iterable[bytes | memoryview], *, lasting: bool = True) -> None:
    """Write like `write_bytes`, in parts, each of them produced only when it is written."""
    temporary = temporary_path(path)
    lasting = lasting and _in_use.isdisjoint(path.parents)  # they are synced when they are renamed
    rename = replace if lasting else _replace
    try:
        make_folder(path.parent)
        with _locked_for_writing(temporary) as file:
            for part in parts:
                file.write(part)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            if fcntl is not None:  # still locked, so that it is not taken for a leftover
                rename(temporary, path)
        if fcntl is None:
            rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # its parent may be a file
            temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def temporary_path(path: Path) -> Path:
    """Return the temporary name under which this process writes `path`."""
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Context manager with a new folder under the temporary name of `path`, which only this user can
    open. It is deleted at the end, unless it was renamed. Raises OSError."""
    folder = temporary_path(path)
    _in_use.add(folder)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _in_use.discard(folder)


def remove_leftovers(folder: Path) -> int:
    """Delete the temporary files and folders of ended processes in `folder` and below it. Returns
    the bytes freed.

    Neither the clock nor a process id decides alone: clocks are set back, and ids are reused. A
    writer locks its file on Linux and macOS. On Windows it keeps the file open, which cannot be
    deleted then.
    """
    freed = 0
    for parent, folders, names in os.walk(folder):
        for name in [name for name in names if _TEMPORARY.fullmatch(name)]:
            path = Path(parent, name)
            with contextlib.suppress(OSError):
                freed += _remove_abandoned(path)
        for name in [name for name in folders if _TEMPORARY.fullmatch(name)]:
            path = Path(parent, name)
            folders.remove(name)
            if path not in _in_use and not _is_other_process(_pid_in(name)):
                freed += folder_size(path)
                shutil.rmtree(path, ignore_errors=True)
    return freed


def _remove_abandoned(path: Path) -> int:
    """Delete a temporary file unless a process is writing it. Returns the bytes freed. Raises
    OSError."""
    size, pid = path.lstat().st_size, _pid_in(path.name)
    if pid != os.getpid() and not _is_other_process(pid):
        path.unlink()
    elif fcntl is None:
        return 0
    else:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()  # still locked, so that no writer begins meanwhile
    return size


def _pid_in(name: str) -> int:
    match = _TEMPORARY.fullmatch(name)
    return int(match[1]) if match else -1


def _is_other_process(pid: int) -> bool:
    return pid != os.getpid() and psutil.pid_exists(pid)


@contextlib.contextmanager
def _locked_for_writing(path: Path) -> Iterator[IO[bytes]]:
    """Context manager that opens a file for writing, locked where the system has such locks."""
    while True:
        with open(path, "ab") as file:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a network drive without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_still(path, file):
                    continue  # another thread renamed it, or it was taken for a leftover
            file.truncate(0)
            yield file
            return


def _is_still(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def replace(source: Path, target: Path) -> None:
    """Rename within a folder, and return once that is on the disk. Raises OSError."""
    _replace(source, target)
    sync_folder(target.parent)


def _replace(source: Path, target: Path) -> None:
    """Call os.replace, retrying for a second, since a Windows virus scanner may hold the target."""
    for attempt in range(10):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == 9:
                raise
            time.sleep(0.1)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text like `write_bytes`, with \\n line endings."""
    write_bytes(path, text.encode("utf-8"))


def write_private(path: Path, text: str) -> None:
    """Write UTF-8 text like `write_bytes` to a file that only this user can read. Raises
    UserError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        make_folder(path.parent)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except OSError as error:
        raise disk_error(path, error) from error


def write_json(path: Path, value: object, *, lasting: bool = True) -> None:
    """Write a JSON file like `write_bytes`, without sorting its keys."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8"), lasting=lasting)


def read_json(path: Path, schema: Any = dict[str, Any], remedy: str = "Delete it.") -> Any:
    """Return the JSON value in a file as `schema`, a type that pydantic can check.

    Raises OSError if it cannot be read, and Unreadable, which names the file, if its content is
    anything else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {content_problem(error)}.", remedy) from error
    return validated(schema, value, f"{path} cannot be read", error=Unreadable, remedy=remedy)


def content_problem(error: Exception) -> str:
    """Return in plain words why a file cannot be read. error: of the system or the parser."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder, ignoring files deleted meanwhile."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there, retrying for a second like `replace`.
    Raises OSError."""
    for attempt in range(10):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        except PermissionError:
            if attempt == 9:
                raise
            time.sleep(0.1)


def user_path(text: str | Path) -> Path:
    """Return a path that a user typed, with ~ for the home folder. Raises UserError if it is
    none."""
    shown = str(text).encode("utf-8", errors="replace").decode("utf-8")
    try:
        if not str(text).strip() or "\0" in str(text):
            raise ValueError("a path has at least one character, and none that cannot be seen")
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:  # ~nobody
        reason = str(error).rstrip(".")
        raise BadInput(f"“{shown}” is no path: {reason}.", "Enter another.") from error


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
