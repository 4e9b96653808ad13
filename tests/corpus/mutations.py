"""Mutations of files that know nothing of what is in them, and wrong values of every type."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutation = Callable[[Path], None]
_HUGE = 2_000_000  # bytes
DEEP = 20_000  # levels of nesting: beyond Python's recursion limit

# values that a text file's reader may meet where it wants another type
WRONG_VALUES: tuple[Any, ...] = (
    "",
    "24",
    "x" * 5000,
    -1,
    0,
    2**63,
    -0.5,
    math.nan,
    math.inf,
    True,
    [],
    [1, "a"],
    {},
    {"a": {"b": []}},
)


def _write(data: bytes) -> Mutation:
    return lambda path: path.write_bytes(data)


def _missing(path: Path) -> None:
    path.unlink()


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside.txt").write_text("a file in it", encoding="utf-8")


def _cut(share: float) -> Mutation:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flipped(seed: int, bits: int = 1) -> Mutation:
    """Return a mutation that flips `bits` bits, the same ones for the same seed and size."""

    def mutate(path: Path) -> None:
        data, chance = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(bits if data else 0):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(data))

    return mutate


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _latin(path: Path) -> None:
    path.write_bytes("süß = \xe4\n".encode("cp1252") + path.read_bytes())


def _utf16(path: Path) -> None:
    path.write_bytes(path.read_bytes().decode("utf-8", "replace").encode("utf-16"))


def _with_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _nul_inside(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\x00" + data[len(data) // 2 :])


def _linked_to_itself(path: Path) -> None:
    path.unlink()
    try:
        path.symlink_to(path.name)
    except OSError:  # Windows allows links to administrators only
        shutil.rmtree(path, ignore_errors=True)


FILE_MUTATIONS: dict[str, Mutation] = {
    "missing": _missing,
    "empty": _write(b""),
    "blank": _write(b"  \n\n"),
    "no-utf8": _latin,
    "utf16": _utf16,
    "marked": _with_mark,
    "zeroed": _zeroed,
    "nul": _nul_inside,
    "folder": _folder_instead,
    "loop": _linked_to_itself,
    "cut-half": _cut(0.5),
    "cut-last": _cut(0.99),
    "huge": _write(b"x" * _HUGE),
    "huge-line": _write(b'{"event": "note", "text": "' + b"y" * _HUGE + b'"}\n'),
    "nested-list": _write(b"[" * DEEP),
    "nested-closed": _write(b"[" * DEEP + b"]" * DEEP + b"\n"),
    "nested-object": _write(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "nested-toml": _write(b"a = " + b"[" * DEEP + b"]" * DEEP + b"\n"),
    "list": _write(b"[]\n"),
    "list-of-null": _write(b"[null]\n"),
    "number": _write(b"5\n"),
    "null": _write(b"null\n"),
    "string": _write(b'"a"\n'),
    "true": _write(b"true\n"),
    "nan": _write(b"NaN\n"),
    "big-number": _write(b"1" * 5000 + b"\n"),
    "object": _write(b"{}\n"),
    "surrogate": _write(b'{"pet": "\\ud800", "command": "\\ud800", "prompt": "\\ud800"}\n'),
    **{f"flip-{n}": flipped(n) for n in range(3)},
}


def keys_of(table: Any, prefix: tuple = ()) -> list[tuple]:
    """Return the path of every key of nested tables and lists, outermost first."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    found: list[tuple] = []
    for key, value in items:
        found.append((*prefix, key))
        if isinstance(value, dict | list):
            found += keys_of(value, (*prefix, key))
    return found


def with_value(table: Any, keys: tuple, value: Any) -> Any:
    """Return a copy of nested tables with the value at the path `keys` changed."""
    copy = dict(table) if isinstance(table, dict) else list(table)
    copy[keys[0]] = value if len(keys) == 1 else with_value(table[keys[0]], keys[1:], value)
    return copy


def without(table: Any, keys: tuple) -> Any:
    """Return a copy of nested tables without the key at the path `keys`."""
    copy = dict(table) if isinstance(table, dict) else list(table)
    if len(keys) == 1:
        del copy[keys[0]]
    else:
        copy[keys[0]] = without(table[keys[0]], keys[1:])
    return copy
