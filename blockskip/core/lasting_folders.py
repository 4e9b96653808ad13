"""Folders whose names survive a power cut: a new, renamed or deleted name is on the disk only once
its folder is synced."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

# network drives and others without such a call, or a folder that may only be written
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on the disk. Raises OSError if the drive fails.

    Windows has no such call. NTFS keeps the order of names, so that older ones are there too.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_tree(folder: Path) -> None:
    """Return once all that lies in a folder is on the disk. Raises OSError."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(Path(parent, name), "r+b") as file:  # Windows demands it to be writable
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Create a folder and its parents, if they are missing, and return once they are on the disk.
    Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def make_private(folder: Path) -> None:
    """Create a folder that only this user can open, or close an existing one of this user to
    others. Raises OSError if it cannot be created.

    Windows has no such modes; there, a user's profile is private.
    """
    make_folder(folder, mode=0o700)
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # a file system without modes
        status = folder.stat()
        if status.st_uid == os.geteuid() and status.st_mode & 0o077:
            folder.chmod(0o700)
