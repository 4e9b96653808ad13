"""A simulated device with two streams whose work runs late, in any order that their events allow."""

from __future__ import annotations

import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

REAL_EMPTY, REAL_COPY = torch.empty, Tensor.copy_


class Event:
    def __init__(self, card: Card) -> None:
        self.card, self.done = card, False

    def wait(self) -> None:
        self.card.main.wait_event(self)

    def synchronize(self) -> None:
        self.card.run(until=lambda: self.done)


class Stream:
    """A queue of (event to wait for or None, work)."""

    def __init__(self, card: Card) -> None:
        self.card, self.queue = card, deque()
        card.streams.append(self)

    def submit(self, work: Callable[[], object], after: Event | None = None) -> None:
        self.queue.append((after, work))

    def wait_event(self, event: Event) -> None:
        if self.card.ordered or self is self.card.main:
            self.submit(lambda: None, after=event)

    def record_event(self) -> Event:
        event = Event(self.card)
        self.submit(lambda: setattr(event, "done", True))
        return event

    @property
    def ready(self) -> bool:
        return bool(self.queue) and (self.queue[0][0] is None or self.queue[0][0].done)


class OnCard(Tensor):
    """A tensor in RAM that says it is on the card, and is written to when a stream comes to it."""

    card: Card

    @property
    def is_cuda(self) -> bool:
        return self.card.kind == "cuda"

    @property
    def device(self) -> torch.device:
        return torch.device(self.card.kind, 0)

    def copy_(self, source: Tensor, non_blocking: bool = False) -> Tensor:
        current = getattr(self.card.local, "stream", self.card.main)
        current.submit(lambda: REAL_COPY(self.plain(), source))
        if not non_blocking:
            self.card.run()
        return self

    def plain(self) -> Tensor:
        return self.as_subclass(Tensor)


class Card:
    """The device. hurry: the stream that runs as far ahead as it may, "main" | "copies" | "any".

    ordered: whether the copying stream heeds events. kind: the device's type. limit: bytes that it
    has. allocated: how often memory was allocated. live: bytes in use; most: at the most.
    """

    def __init__(self, hurry: str, ordered: bool = True, kind: str = "cuda") -> None:
        self.hurry, self.ordered, self.kind = hurry, ordered, kind
        self.streams: list[Stream] = []
        self.main, self.local, self.chance = Stream(self), threading.local(), random.Random(0)
        self.allocated = self.live = self.most = 0
        self.limit = float("inf")

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run the streams' work until it is all done, or `until` holds."""
        while not until() and any(stream.queue for stream in self.streams):
            ready = [stream for stream in self.streams if stream.ready]
            if self.hurry == "any":
                self.chance.shuffle(ready)
            if self.hurry == "copies":
                ready.reverse()
            ready[0].queue.popleft()[1]()

    def empty(self, *shape: object, device: object = None, **how: object) -> Tensor:
        if device is None or torch.device(device).type != self.kind:
            return REAL_EMPTY(*shape, device=device, **how)
        tensor = REAL_EMPTY(*shape, **how)
        size = tensor.untyped_storage().nbytes()
        if self.live + size > self.limit:
            raise torch.OutOfMemoryError("no room on the simulated card")
        self.allocated, self.live = self.allocated + 1, self.live + size
        self.most = max(self.most, self.live)
        weakref.finalize(tensor.untyped_storage(), self._free, size)
        return tensor.as_subclass(type("OnThisCard", (OnCard,), {"card": self}))

    def _free(self, size: int) -> None:
        self.live -= size

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.local.stream = stream
        yield
        del self.local.stream

    def install(self, monkeypatch) -> None:
        monkeypatch.setattr(torch, "empty", self.empty)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(self))
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.main)
