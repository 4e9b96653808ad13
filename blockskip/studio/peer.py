"""Tell which user of this computer a connection over the loopback address comes from.

Linux shows every process's command line to all users, and a browser is given the studio's address,
key included, on its command line. A key is therefore taken from this user's programs alone. Windows
and macOS hide it: other users' command lines there, and macOS starts the browser by a script.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from starlette.types import Scope

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9  # columns
ROOT_UID = 0


def is_other_user(scope: Scope) -> bool:
    """Return whether a request comes from a user who is neither this one nor the administrator.

    False where the system does not tell.
    """
    if not _is_told() or not scope.get("client"):
        return False
    client, server = scope["client"], scope["server"]
    return owner(client, server) not in (os.geteuid(), ROOT_UID)


def owner(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the id of the user whose program holds the client's end of a connection, None if no
    program does."""
    wanted = {(_as_kernel_writes(*client, v6), _as_kernel_writes(*server, v6)) for v6 in (0, 1)}
    for columns in _rows():
        if (columns[_LOCAL], columns[_REMOTE]) in wanted and columns[_INODE] != "0":
            return int(columns[_UID])
    return None


@cache
def _is_told() -> bool:
    """Return whether the kernel lists connections with their users. An administrator's studio takes
    its key from everybody, and Windows' browsers reach Linux in it unlisted."""
    if not sys.platform.startswith("linux") or "microsoft" in platform.release().lower():
        return False
    return os.geteuid() != ROOT_UID and any(True for _ in _rows())


def _rows() -> Iterable[list[str]]:
    for table in _TABLES:
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        yield from (columns for line in lines if len(columns := line.split()) > _INODE)


def _as_kernel_writes(host: str, port: int, v6: int) -> str:
    """Return an address as the kernel's table has it: hexadecimal, in the processor's byte order."""
    address = ipaddress.ip_address(host)
    if v6 and address.version == 4:  # a socket for both, connected by the older one
        address = ipaddress.ip_address(f"::ffff:{host}")
    words = [address.packed[at : at + 4] for at in range(0, len(address.packed), 4)]
    numbers = (int.from_bytes(word, sys.byteorder) for word in words)
    return "".join(f"{number:08X}" for number in numbers) + f":{port:04X}"
