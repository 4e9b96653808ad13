"""Which graphics cards are used, known by their UUIDs, from CUDA_VISIBLE_DEVICES as CUDA reads it.

A process uses one. Others are for other runs of the queue.

Does not import torch. A MIG instance, a part of a card, counts as a card.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

VISIBLE = "CUDA_VISIBLE_DEVICES"
ALLOWED = "BLOCKSKIP_CARDS"  # what VISIBLE named, or would have, before one was chosen


def chosen_uuid(nvml: ModuleType) -> str:
    """Return the UUID of the card that training uses, "" if CUDA may use none. Raises NVMLError.

    It is the first one that CUDA_VISIBLE_DEVICES names, by number (as nvidia-smi counts), UUID or
    the beginning of one. CUDA ignores what follows an invalid name. Without the variable it is the
    card with the most memory.
    """
    visible = os.environ.get(VISIBLE)
    if visible and _exists(nvml, visible):  # chosen before
        return visible
    known = dict(_cards(nvml))
    if visible is None:
        largest = max(known.values(), key=lambda card: _total(nvml, card), default=None)
        return next((uuid for uuid, card in known.items() if card is largest), "")
    return _named(nvml, visible.split(",")[0].strip(), known)


def usable(nvml: ModuleType) -> dict[str, int]:
    """Return the memory in bytes of every card that training may use, the chosen one first. Raises
    NVMLError."""
    known, first = dict(_cards(nvml)), chosen_uuid(nvml)
    if not first:
        return {}
    allowed = os.environ.get(ALLOWED, os.environ.get(VISIBLE))
    named = list(known)
    if allowed is not None:
        named = [_named(nvml, name.strip(), known) for name in allowed.split(",")]
        named = named[: named.index("")] if "" in named else named
    return {uuid: _total(nvml, known[uuid]) for uuid in (first, *named) if uuid in known}


def handle(nvml: ModuleType, uuid: str) -> object:
    """Return the NVML device of a UUID. torch's UUIDs lack the prefix. Raises NVMLError."""
    if not uuid:
        raise nvml.NVMLError(nvml.NVML_ERROR_NOT_FOUND)
    if uuid.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _named(nvml: ModuleType, name: str, known: dict[str, object]) -> str:
    """Return the UUID of the card that CUDA takes `name` for, "" for none."""
    if name.isdecimal():
        return _numbered(nvml, int(name))
    matches = [uuid for uuid in _all_uuids(nvml, known) if uuid.startswith(name)]
    named = name.startswith(("GPU-", "MIG-")) and (name in matches or len(matches) == 1)
    return (name if name in matches else matches[0]) if named else ""


def _exists(nvml: ModuleType, uuid: str) -> bool:
    try:
        return uuid.startswith(("GPU-", "MIG-")) and handle(nvml, uuid) is not None
    except nvml.NVMLError:
        return False


def _numbered(nvml: ModuleType, number: int) -> str:
    if number >= nvml.nvmlDeviceGetCount():
        return ""
    card = nvml.nvmlDeviceGetHandleByIndex(number)
    return next((uuid for uuid, _ in _parts(nvml, card)), _uuid(nvml, card))


def _cards(nvml: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield UUID and device of every card, of its MIG instances where it has any."""
    for number in range(nvml.nvmlDeviceGetCount()):
        card = nvml.nvmlDeviceGetHandleByIndex(number)
        yield from list(_parts(nvml, card)) or [(_uuid(nvml, card), card)]


def _parts(nvml: ModuleType, card: object) -> Iterator[tuple[str, object]]:
    """Yield UUID and device of a card's MIG instances."""
    try:
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)
            yield _uuid(nvml, part), part
    except (nvml.NVMLError, AttributeError):  # no MIG, or no further instance
        return


def _all_uuids(nvml: ModuleType, known: dict[str, object]) -> list[str]:
    """Return the UUIDs of cards and of MIG instances."""
    count = nvml.nvmlDeviceGetCount()
    whole = [_uuid(nvml, nvml.nvmlDeviceGetHandleByIndex(number)) for number in range(count)]
    return list(dict.fromkeys([*whole, *known]))


def _uuid(nvml: ModuleType, card: object) -> str:
    uuid = nvml.nvmlDeviceGetUUID(card)
    return uuid.decode("ascii") if isinstance(uuid, bytes) else str(uuid)


def _total(nvml: ModuleType, card: object) -> int:
    return nvml.nvmlDeviceGetMemoryInfo(card).total
