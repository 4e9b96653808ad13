"""What a process does to files, recorded in order by a library that is loaded before all others.

`preload()` is for the environment of the process; inside it, `recording` begins and ends, and `mark`
writes down what the user was told. Linux with a C compiler only.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("recorder.c")
_HEADER = struct.Struct("<8sQqIIQ")
CHANGES = ("create", "write", "cut", "grow", "rename", "unlink", "mkdir", "link")
OTHERS = ("fsync", "close", "mark")


@dataclass(frozen=True)
class Operation:
    """One call that succeeded. path, to: below the recorded folder, "" is the folder itself. at: the
    first byte written, or the new size. data: what was written. A mark's path is its text."""

    kind: str
    inode: int
    at: int
    path: str
    to: str
    data: bytes = b""


def why_not() -> str:
    """Return why nothing can be recorded on this machine, "" if it can."""
    if not sys.platform.startswith("linux"):
        return "only Linux loads a library before others"
    return "" if _compiler() else "there is no C compiler (cc, gcc or clang)"


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


@functools.cache
def library() -> Path:
    """Build the library, unless it is there, and return its path."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"blockskip-recorder-{os.getuid()}-{digest}.so"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        words = [str(_compiler()), "-O1", "-shared", "-fPIC", "-o", str(unfinished), str(SOURCE)]
        subprocess.run([*words, "-ldl", "-lpthread"], check=True, capture_output=True)
        os.replace(unfinished, path)
    return path


def preload() -> dict[str, str]:
    """Return the environment of a process that can be recorded, {} where none can."""
    return {} if why_not() else {"LD_PRELOAD": str(library())}


@contextlib.contextmanager
def recording(folder: Path, journal: Path) -> Iterator[None]:
    """Context manager that records what this process does below a folder."""
    functions = ctypes.CDLL(None)
    with open(journal, "wb", buffering=0) as file:
        functions.record_begin(os.fsencode(folder.resolve()), file.fileno())
        try:
            yield
        finally:
            functions.record_end()


def mark(text: str) -> None:
    """Record what the user was told just now."""
    ctypes.CDLL(None).record_mark(text.encode())


def read(journal: Path, folder: Path) -> list[Operation]:
    """Return the operations in a journal of `folder`."""
    data, found, at = journal.read_bytes(), [], 0
    while at < len(data):
        kind, inode, place, path, to, size = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        texts = [data[at : at + path].decode(), data[at + path : at + path + to].decode()]
        at += path + to
        name = kind.rstrip(b"\0").decode()
        if name != "mark":
            texts = [_below(text, folder) for text in texts]
        assert name in CHANGES + OTHERS, f"{name} of {texts[0]} cannot be recorded"
        found.append(Operation(name, inode, place, texts[0], texts[1], data[at : at + size]))
        at += size
    return found


def _below(path: str, folder: Path) -> str:
    """Return a path below the folder. Raises ValueError if it leads out of it."""
    if not path:
        return ""
    whole = os.path.normpath(path.removesuffix(" (deleted)"))
    below = Path(whole).relative_to(folder.resolve()).as_posix()
    return "" if below == "." else below
