"""The other programs on the graphics card, by name, and the ComfyUI among them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psutil

from blockskip.memory import comfyui_server, monitor

KEPT_S = 5.0  # the page asks every second
MAX_NAMED = 5
LEAST_GIB = 0.1  # less is not worth asking for
_lock = threading.Lock()
_cached: tuple[float, CardPrograms] | None = None


@dataclass(frozen=True)
class CardPrograms:
    """names: of programs with their GPU memory in GiB, largest first; -1 where Windows does not tell.
    comfyui: the server whose models could be freed, if one runs."""

    names: dict[str, float]
    comfyui: comfyui_server.Server | None = None

    @property
    def freeable_gib(self) -> float:
        """GiB that ComfyUI's models hold."""
        return self.comfyui.held_gib if self.comfyui else 0.0


def card_programs() -> CardPrograms:
    """Return what runs on the card, as of the last seconds."""
    global _cached
    with _lock:
        if _cached is None or time.monotonic() - _cached[0] > KEPT_S:
            _cached = time.monotonic(), _look()
        return _cached[1]


def free_comfyui() -> float:
    """Ask ComfyUI to free its models. Return the GiB freed. Raises WrongState."""
    global _cached
    server = _look().comfyui
    try:
        return comfyui_server.free(server) if server else 0.0
    finally:
        with _lock:
            _cached = None


def _look() -> CardPrograms:
    if monitor.usage().vram_total_gib < 0:
        return CardPrograms({})
    held = monitor.card_processes()
    comfyui = comfyui_server.find(frozenset(held))
    if comfyui and comfyui.held_gib < LEAST_GIB:
        comfyui = None
    names: dict[str, float] = {}
    for pid, gib in sorted(held.items(), key=lambda each: -each[1]):
        name = "ComfyUI" if comfyui and pid == comfyui.pid else _name(pid)
        known = names.get(name, monitor.UNKNOWN)
        names[name] = gib if known < 0 else known + max(gib, 0.0)  # a browser has many processes
    ordered = sorted(names.items(), key=lambda each: -each[1])
    return CardPrograms(dict(ordered[:MAX_NAMED]), comfyui)


def _name(pid: int) -> str:
    """Return a program's name without “.exe”, or its number if the system does not tell."""
    try:
        return psutil.Process(pid).name().removesuffix(".exe") or f"process {pid}"
    except psutil.Error:
        return f"process {pid}"
