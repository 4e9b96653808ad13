"""Memory that the weights of streamed blocks pass through, on the host and on the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class HostBuffer:
    """One of two host buffers. It grows to the largest block; pinned if a device copies from it."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0, dtype=torch.uint8)
        # recorded after the device's last copy from the buffer
        self.copied: torch.cuda.Event | None = None

    def reserve(self, num_bytes: int, pinned: bool) -> Tensor:
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None
        if len(self.buffer) < num_bytes:
            self.buffer = torch.empty(0, dtype=torch.uint8)
            self.buffer = host_empty((num_bytes,), torch.uint8, pinned)
        return self.buffer[:num_bytes]


class DeviceBuffers:
    """The device memory of passing blocks: that of a block that has left is used for the one after
    next, without going back to torch's allocator, whose gaps it would fill and leave.

    Only equal sizes are exchanged, and a buffer that the next block does not fit leaves with its
    own block, so two neighbours are all that is ever held (planned by `_window_card`). What is
    queued for the block that has left comes before `WeightStore._copy`'s `ready` event.
    """

    def __init__(self) -> None:
        self._running: Tensor | None = None  # of the last block taken
        self._left: Tensor | None = None  # of the block before it

    def reserve(self, num_bytes: int, device: torch.device) -> Tensor:
        """Return memory for the next block. Raises OutOfMemoryError, and keeps nothing then."""
        left = self._fitting(self._left, num_bytes, device)
        self._running = self._fitting(self._running, num_bytes, device)
        self._left = None
        if left is not None:
            return left
        try:
            return torch.empty(num_bytes, dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError:
            self.clear()
            raise

    def taken(self, buffer: Tensor) -> None:
        """Note that the block in `buffer` runs now, and the one before it does no longer."""
        self._running, self._left = buffer, self._running

    def clear(self) -> None:
        """Keep nothing: the memory of a block that runs leaves with it."""
        self._running = self._left = None

    @staticmethod
    def _fitting(buffer: Tensor | None, num_bytes: int, device: torch.device) -> Tensor | None:
        fits = buffer is not None and (len(buffer), buffer.device.type) == (num_bytes, device.type)
        return buffer if fits else None


def host_empty(shape: Sequence[int], dtype: torch.dtype, pinned: bool) -> Tensor:
    """Return an uninitialised tensor in RAM, pinned if asked for and if the system has enough.

    Copies from pageable memory are correct too, only slower.
    """
    if pinned:
        try:
            return torch.empty(*shape, dtype=dtype, pin_memory=True)
        except RuntimeError:
            log.warning("no pinned memory of shape %s; pageable instead", tuple(shape))
    return torch.empty(*shape, dtype=dtype)
