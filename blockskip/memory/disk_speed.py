"""Measure how fast the disk reads a file that RAM does not hold.

A file that was read lately is in the system's cache, and reading it again measures RAM. Linux drops
a file from its cache on request, and tells how much really came from the disk. Windows and macOS can
read past the cache. Where none of this works, nothing is measured.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

log = logging.getLogger(__name__)
CHUNK = 16 << 20
MOST_BYTES = 512 << 20
LEAST_BYTES = 4 << 20  # fewer tell nothing
MOST_S = 2.0
FROM_DISK = 0.5  # share of the bytes that must have come from the disk


def disk_gbs(paths: Sequence[Path]) -> float:
    """Return the GB/s at which the first of the files is read that works, 0 if none does."""
    for path in paths[:3]:
        try:
            rate = _read_rate(path)
        except (OSError, AttributeError, ValueError, psutil.Error) as error:
            log.info("%s does not tell the disk's speed: %s", path, error)
            continue
        if rate:
            return rate
    return 0.0


def _read_rate(path: Path) -> float:
    """Read the beginning of a file past the cache. Returns GB/s, 0 if it came from RAM after all."""
    if path.stat().st_size < LEAST_BYTES:
        return 0.0
    before, began, total = _from_disk(), time.perf_counter(), 0
    with mmap.mmap(-1, CHUNK) as buffer, open(_opened(path), "rb", buffering=0) as file:
        while total < MOST_BYTES and time.perf_counter() - began < MOST_S:
            num = file.readinto(buffer)
            total += num or 0
            if not num:
                break
    taken, after = time.perf_counter() - began, _from_disk()
    if total < LEAST_BYTES or (after >= 0 and after - before < FROM_DISK * total):
        return 0.0
    return 1e-9 * total / taken


def _opened(path: Path) -> int:
    """Return a descriptor whose reads come from the disk. Raises OSError, AttributeError."""
    if sys.platform == "win32":
        return _opened_unbuffered(path)
    descriptor = os.open(path, os.O_RDONLY)
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_NOCACHE, 1)
    else:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def _opened_unbuffered(path: Path) -> int:
    """Open a file on Windows without its cache; reads must be of whole sectors into aligned memory."""
    if sys.platform != "win32":
        raise OSError("only Windows opens files so")
    import ctypes
    import msvcrt

    read, share, existing, no_buffering = 0x80000000, 0x7, 3, 0x20000000
    create = ctypes.windll.kernel32.CreateFileW
    create.restype = ctypes.c_void_p
    handle = create(str(path), read, share, None, existing, no_buffering, None)
    if handle in (None, ctypes.c_void_p(-1).value):
        raise ctypes.WinError()
    return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)


def _from_disk() -> int:
    """Return the bytes that this process made the disk read, -1 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return -1
    return psutil.Process().io_counters().read_bytes
