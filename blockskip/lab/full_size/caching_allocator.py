"""A model of torch's caching allocator, to see how much it reserves for recorded allocations.

The rules are those of c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h (pytorch
2.13, one stream): sizes are rounded up to 512 bytes; up to 1 MiB they come from segments of 2 MiB,
below 10 MiB from segments of 20 MiB, others from segments of their own size rounded up to 2 MiB.
The smallest free piece that is large enough is used, and cut if more than 1 MiB (in small segments
512 bytes) remains. Freed pieces merge with free neighbours. At the limit segments without a used
piece are returned, and only then is an allocation refused.

large_segment_size_mb: instead of 20 MiB. max_split_size_mb: pieces from this size up are not cut;
they serve only sizes from there up, and less than 20 MiB smaller than they are.

expandable_segments: each pool is one segment that grows, by 2 or 20 MiB, and is cut wherever it
fits. Pages without a used piece can be returned, so what is needed are the pages that are in use.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from blockskip.core.torch_allocator import LARGE_SEGMENT_MB, MAX_SPLIT_MB

MIB = 1 << 20
ROUND, SMALL, LARGE = 512, MIB, 10 * MIB
SMALL_SEGMENT, LARGE_SEGMENT, ROUND_LARGE = 2 * MIB, 20 * MIB, 2 * MIB
ROUNDED = 20 * MIB  # by which an uncut piece may be too large


@dataclass(eq=False, slots=True)
class Piece:
    """A part of a segment. before, after: its neighbours there."""

    start: int
    size: int
    small: bool
    used: bool = False
    before: Piece | None = None
    after: Piece | None = None

    @property
    def key(self) -> tuple[int, int]:
        """The order in which free pieces are tried."""
        return self.size, self.start

    @property
    def is_segment(self) -> bool:
        return self.before is None and self.after is None


@dataclass
class CachingAllocator:
    """Allocates from segments. limit: bytes that may be reserved at once.

    max_split, large_segment: torch's settings, in bytes; by default torch's own values. allocated, reserved: bytes now; peak_allocated, peak_reserved: at the most. returns: how often
    the limit was hit and segments were returned, for which the real one waits for the GPU.
    """

    limit: float = math.inf
    max_split: float = math.inf
    large_segment: int = LARGE_SEGMENT
    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    returns: int = 0
    _free: dict[bool, list[Piece]] = field(default_factory=lambda: {True: [], False: []})
    _end: int = 0

    def allocate(self, num_bytes: int) -> Piece:
        """Return a piece of at least this size. Raises MemoryError beyond the limit."""
        size = max(ROUND, _up(num_bytes, ROUND))
        piece = self._cached(size) or self._new_segment(size)
        self._cut(piece, size)
        piece.used = True
        self.allocated += piece.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return piece

    def free(self, piece: Piece) -> None:
        """Take a piece back and merge it with free neighbours."""
        self.allocated -= piece.size
        piece.used = False
        for neighbour in (piece.before, piece.after):
            if neighbour is not None and not neighbour.used:
                self._take_out(neighbour)
                _merge(piece, neighbour)
        self._put(piece)

    def _cached(self, size: int) -> Piece | None:
        pieces = self._free[size <= SMALL]
        place = _place(pieces, size)
        if place == len(pieces):
            return None
        found = pieces[place].size
        oversized = size >= self.max_split
        if (found >= self.max_split) != oversized or (oversized and found >= size + ROUNDED):
            return None
        return pieces.pop(place)

    def _new_segment(self, size: int) -> Piece:
        small = size <= SMALL
        segment = SMALL_SEGMENT if small else self.large_segment
        if size >= LARGE:
            segment = _up(size, ROUND_LARGE)
        if self.reserved + segment > self.limit:
            self.returns += 1
            self._return_oversized(size)
            if self.reserved + segment > self.limit:
                self._return([p for pieces in self._free.values() for p in pieces if p.is_segment])
            if self.reserved + segment > self.limit:
                raise MemoryError(f"{segment} bytes beside {self.reserved}, of {self.limit}")
        piece = Piece(self._end, segment, small)
        self._end += segment
        self._reserve(segment)
        return piece

    def _return_oversized(self, size: int) -> None:
        """Return the smallest uncut segment that is large enough, or as many of the largest."""
        enough = max(size, self.max_split)
        pieces, returned = self._free[False], 0.0
        if (place := _place(pieces, enough)) < len(pieces):
            self._return([pieces[place]])
            return
        while pieces and returned < enough and pieces[-1].size >= self.max_split:
            returned += pieces[-1].size
            self._return([pieces[-1]])

    def _return(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._take_out(piece)
            self.reserved -= piece.size

    def _reserve(self, num_bytes: int) -> None:
        self.reserved += num_bytes
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _cut(self, piece: Piece, size: int) -> None:
        rest = piece.size - size
        if rest >= ROUND if piece.small else rest > SMALL and size < self.max_split:
            self._put(_split(piece, size))

    def _put(self, piece: Piece) -> None:
        insort(self._free[piece.small], piece, key=lambda each: each.key)

    def _take_out(self, piece: Piece) -> None:
        pieces = self._free[piece.small]
        del pieces[_place(pieces, *piece.key)]


@dataclass
class ExpandableAllocator(CachingAllocator):
    """Allocates from segments that grow. reserved: bytes of the pages in use."""

    _tails: dict[bool, Piece] = field(default_factory=dict)
    _pages: Counter = field(default_factory=Counter)  # (pool, page) → used pieces on it

    def allocate(self, num_bytes: int) -> Piece:
        """Return a piece of at least this size. Never refuses."""
        piece = super().allocate(num_bytes)
        fresh = [page for page in self._pages_of(piece) if not self._pages[page]]
        self._pages.update(self._pages_of(piece))
        self._reserve(len(fresh) * _page(piece.small))
        return piece

    def free(self, piece: Piece) -> None:
        """Take a piece back and merge it with free neighbours."""
        self._pages.subtract(self._pages_of(piece))
        empty = [page for page in self._pages_of(piece) if not self._pages[page]]
        self.reserved -= len(empty) * _page(piece.small)
        super().free(piece)

    def _pages_of(self, piece: Piece) -> list[tuple[bool, int]]:
        page = _page(piece.small)
        pages = range(piece.start // page, (piece.start + piece.size - 1) // page + 1)
        return [(piece.small, number) for number in pages]

    def _cached(self, size: int) -> Piece | None:
        """Return the smallest free piece that is large enough, the segment's end last."""
        pieces = self._free[size <= SMALL]
        place = _place(pieces, size)
        if place + 1 < len(pieces) and pieces[place] is self._tails[size <= SMALL]:
            place += 1
        return pieces.pop(place) if place < len(pieces) else None

    def _new_segment(self, size: int) -> Piece:
        """Return the segment's end, grown."""
        small = size <= SMALL
        tail = self._tails.get(small)
        if tail is None or tail.used:
            new = Piece(tail.start + tail.size if tail else 0, 0, small, before=tail)
            if tail is not None:
                tail.after = new
            tail = self._tails[small] = new
        else:
            self._take_out(tail)
        tail.size += _up(size - tail.size, _page(small))
        return tail

    def _cut(self, piece: Piece, size: int) -> None:
        if piece.size - size >= ROUND:
            self._put(_split(piece, size))

    def _put(self, piece: Piece) -> None:
        super()._put(piece)
        if piece.after is None:
            self._tails[piece.small] = piece


def _up(size: float, to: int) -> int:
    return math.ceil(size / to) * to


def _page(small: bool) -> int:
    return SMALL_SEGMENT if small else LARGE_SEGMENT


def _place(pieces: list[Piece], size: float, start: int = 0) -> int:
    """Return the index of the first free piece of at least this size."""
    return bisect_left(pieces, (size, start), key=lambda each: each.key)


def _split(piece: Piece, size: int) -> Piece:
    """Cut a piece to `size`; return the rest."""
    rest = Piece(piece.start + size, piece.size - size, piece.small, False, piece, piece.after)
    if piece.after is not None:
        piece.after.before = rest
    piece.size, piece.after = size, rest
    return rest


def _merge(piece: Piece, other: Piece) -> None:
    """Make `other`, a neighbour, a part of `piece`."""
    if other is piece.before:
        piece.start, piece.before = other.start, other.before
        if piece.before is not None:
            piece.before.after = piece
    else:
        piece.after = other.after
        if piece.after is not None:
            piece.after.before = piece
    piece.size += other.size


# what a meter records: (number of the allocation, its bytes), and (number, 0) when it is freed
Events = Iterable[tuple[int, int]]


def replay(events: Events, allocator: CachingAllocator) -> CachingAllocator:
    """Let an allocator serve `events`; return it. Raises MemoryError beyond its limit."""
    pieces: dict[int, Piece] = {}
    for number, num_bytes in events:
        if num_bytes:
            pieces[number] = allocator.allocate(num_bytes)
        else:
            allocator.free(pieces.pop(number))
    return allocator


def needed(events: Sequence[tuple[int, int]], own_settings: bool = True) -> tuple[float, int]:
    """Return the bytes that must be reserved to serve `events`, and the returns that this takes.

    It is the first limit, in steps of half a percent above the allocated peak, that suffices.
    own_settings: those of core/torch_allocator.py where segments do not grow, else torch's.
    """
    allocator = replay(events, CachingAllocator())
    settings = (MAX_SPLIT_MB * MIB, LARGE_SEGMENT_MB * MIB) if own_settings else ()
    for step in count():
        limit = allocator.peak_allocated * (1 + step / 200)
        try:
            return limit, replay(events, CachingAllocator(limit, *settings)).returns
        except MemoryError:
            continue
    raise AssertionError("a limit that large suffices")
