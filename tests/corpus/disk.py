"""A disk that loses power: the files that it may hold afterwards.

Until fsync of a file returns, any of its writes may be missing, be zeros, or be there in part. Until
fsync of a folder returns, any of its new, renamed and deleted names may be as before. fsync of a
file keeps no name, as POSIX has it: that is more than a journalling file system loses, which keeps
the order of names. Renaming is all or nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corpus.recorder import CHANGES, Operation

SECTOR = 512  # bytes that a drive writes whole
NEVER = 1 << 60
MOST_BYTES = 300 << 20  # of contents that are remembered
KINDS = ("dropped", "names", "zeros", "data", "torn", "ordered", "mixed-0", "mixed-1")
GONE, ZERO, KEPT = -3, -2, -1  # what becomes of a write; from 0 on: the bytes that are kept
State = dict[str, bytes | None]  # path → content, None for a folder


@dataclass
class Change:
    """A change of names or of a file's content. edits: (folder, name, thing, whether it is there
    now); things are numbers, 0 is the root. synced: the operation after which it is kept for sure."""

    index: int
    edits: tuple[tuple[int, str, int, bool], ...] = ()
    file: int = -1
    operation: Operation | None = None
    synced: int = NEVER
    waits: set[int] = field(default_factory=set)  # folders that were not synced since


class Disk:
    """All operations of a recording on a disk that was empty."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.names: list[Change] = []
        self.writes: dict[int, list[Change]] = {}  # by file
        self._folders: dict[int, dict[str, int]] = {0: {}}  # as a running system sees them
        self._inodes: dict[int, int] = {}
        self._numbers = itertools.count(1)
        self._contents: dict[tuple, bytes] = {}
        self._hashes: dict[int, str] = {}  # by id of a content that is remembered
        self._bytes = 0
        for index, operation in enumerate(operations):
            self._apply(index, operation)

    def cuts(self) -> list[int]:
        """Return the operations after which power is cut: all that change or sync something; of many
        writes to a file in a row the first, a middle one and the last."""
        kinds, found = (*CHANGES, "fsync"), []
        numbered = [(i, o) for i, o in enumerate(self.operations) if o.kind in kinds]
        for (kind, _), group in itertools.groupby(numbered, lambda n: (n[1].kind, n[1].path)):
            some = [index for index, _ in group]
            few = {some[0], some[len(some) // 2], some[-1]}
            found += sorted(few) if kind == "write" else some
        return found

    def state(self, at: int, kind: str, seed: int = 0) -> State:
        """Return what is left if power is cut after operation `at`. kind: one of KINDS."""
        fate = _Fate(self, at, kind, seed)
        entries: dict[int, dict[str, int]] = {}
        for change in self.names:
            if change.index <= at and fate.keeps(change):
                for folder, name, thing, there in change.edits:
                    _edit(entries.setdefault(folder, {}), name, thing, there)
        return dict(self._walk(0, "", entries, fate))

    def digest(self, state: State, shown: Callable[[str, bytes], bytes | None]) -> str:
        """Return a hash of one of its states. shown: what counts of a file, None for all of it."""
        total = hashlib.sha256()
        for path, data in sorted(state.items()):
            total.update(f"{path}\0{self._hash(path, data, shown)}\0".encode())
        return total.hexdigest()

    def _hash(self, path: str, data: bytes | None, shown: Callable) -> str:
        if data is None:
            return "folder"
        if (part := shown(path, data)) is not None:
            return hashlib.sha256(part).hexdigest()
        if id(data) not in self._hashes:
            self._hashes[id(data)] = hashlib.sha256(data).hexdigest()
        return self._hashes[id(data)]

    def whole(self) -> State:
        """Return what a running system sees at the end."""
        return self.state(len(self.operations), "kept")

    def _walk(self, folder: int, path: str, entries: dict, fate: _Fate) -> Iterator[tuple]:
        for name, thing in sorted(entries.get(folder, {}).items()):
            inner = f"{path}{name}"
            if thing in self._folders:
                yield inner, None
                yield from self._walk(thing, f"{inner}/", entries, fate)
            else:
                yield inner, self._content(thing, fate)

    def _content(self, file: int, fate: _Fate) -> bytes:
        done = [(c, fate.of(c)) for c in self.writes.get(file, []) if c.index <= fate.at]
        key = tuple((change.index, how) for change, how in done if how != GONE)
        if key not in self._contents:
            data = bytearray()
            for change, how in done:
                assert change.operation is not None
                _write(data, change.operation, how)
            self._remember(key, bytes(data))
        return self._contents[key]

    def _remember(self, key: tuple, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            self._contents.clear()
            self._hashes.clear()
            self._bytes = len(data)
        self._contents[key] = data

    def _apply(self, index: int, operation: Operation) -> None:
        kind = operation.kind
        if kind in ("write", "cut", "grow"):
            file = self._inodes[operation.inode]
            self.writes.setdefault(file, []).append(Change(index, (), file, operation))
        elif kind == "fsync":
            self._sync(index, operation)
        elif kind in CHANGES:
            edits = self._edits(operation)
            waits = {folder for folder, *_ in edits}
            self.names.append(Change(index, edits, waits=waits))
            for folder, name, thing, there in edits:
                _edit(self._folders[folder], name, thing, there)

    def _edits(self, operation: Operation) -> tuple[tuple[int, str, int, bool], ...]:
        folder, name = self._place(operation.path)
        if operation.kind == "create":
            thing = self._inodes[operation.inode] = next(self._numbers)
            return ((folder, name, thing, True),)
        if operation.kind == "mkdir":
            thing = next(self._numbers)
            self._folders[thing] = {}
            return ((folder, name, thing, True),)
        thing = self._folders[folder][name]
        if operation.kind == "unlink":
            return ((folder, name, thing, False),)
        new = (*self._place(operation.to), thing, True)
        return (new,) if operation.kind == "link" else ((folder, name, thing, False), new)

    def _place(self, path: str) -> tuple[int, str]:
        """Return the folder of a path and the name in it."""
        *parents, name = path.split("/")
        folder = 0
        for parent in parents:
            folder = self._folders[folder][parent]
        return folder, name

    def _sync(self, index: int, operation: Operation) -> None:
        folder = self._folder(operation.path)
        if folder is None:
            for change in self.writes.get(self._inodes[operation.inode], []):
                change.synced = min(change.synced, index)
            return
        for change in self.names:
            change.waits.discard(folder)
            if not change.waits:
                change.synced = min(change.synced, index)

    def _folder(self, path: str) -> int | None:
        try:
            thing, _ = self._place(f"{path}/" if path else "")
        except KeyError:  # it was deleted
            return None
        return thing if thing in self._folders else None


class _Fate:
    """What becomes of each change if power is cut after operation `at`."""

    def __init__(self, disk: Disk, at: int, kind: str, seed: int) -> None:
        self.at, self.kind = at, kind
        self._chance = random.Random(f"{seed} {at} {kind}")
        self._drawn: dict[int, int] = {}
        earlier = [i for i, o in enumerate(disk.operations[: at + 1]) if o.kind == "fsync"]
        # a journal of names is written in order, at the latest by the next fsync of anything
        self._journal = self._chance.randint(earlier[-1] if earlier else 0, at)

    def keeps(self, change: Change) -> bool:
        """Return whether a change of names is kept."""
        if change.synced <= self.at or self.kind in ("kept", "torn", "names", "zeros"):
            return True
        if self.kind == "ordered":
            return change.index <= self._journal
        return self.kind.startswith("mixed") and self._chance.random() < 0.5

    def of(self, change: Change) -> int:
        """Return what becomes of a change of a file: GONE, ZERO, KEPT or the bytes kept."""
        if change.synced <= self.at or self.kind in ("kept", "data"):
            return KEPT
        assert change.operation is not None
        size = len(change.operation.data)
        if self.kind == "torn":
            return size // 2 if change.index == self.at and size else KEPT
        if self.kind == "zeros":
            return ZERO
        if self.kind in ("dropped", "names"):
            return GONE
        if change.index not in self._drawn:
            torn = self._chance.randrange(0, max(1, size), SECTOR) if size else KEPT
            self._drawn[change.index] = self._chance.choice((GONE, ZERO, KEPT, torn))
        return self._drawn[change.index]


def _edit(entries: dict[str, int], name: str, thing: int, there: bool) -> None:
    if there:
        entries[name] = thing
    elif entries.get(name) == thing:
        del entries[name]


def _write(data: bytearray, operation: Operation, how: int) -> None:
    if how == GONE:
        return
    if operation.kind == "cut":
        del data[operation.at :]
    kept = operation.data[:how] if how >= 0 else operation.data
    data.extend(bytes(max(0, operation.at + len(kept) - len(data))))
    if operation.kind == "write" and how != ZERO:
        data[operation.at : operation.at + len(kept)] = kept


def lay_out(state: State, folder: Path) -> None:
    """Write a state into a folder."""
    for path, data in state.items():
        if data is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).write_bytes(data)


def read_back(folder: Path) -> State:
    """Return what lies in a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }
