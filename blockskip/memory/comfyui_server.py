"""ComfyUI at work on this PC: what its models hold of the card, the request to free it, and whether
it lists a LoRA.

Only this PC is asked, and only a server that answers as ComfyUI does. Does not import torch.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import psutil
from pydantic import Field, TypeAdapter, ValidationError

from blockskip.core.errors import WrongState
from blockskip.core.units import GIB
from blockskip.memory import monitor

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
USUAL_PORTS = (8188, 8000)  # of ComfyUI, and of ComfyUI Desktop
TIMEOUT_S = 1.0
LISTING_S = 5.0  # what it may take to look through its folders
FREEING_S = 8.0  # what it may take to free the models, which it does after the picture in work
MAX_ANSWER = 8 << 20  # bytes; some have ten thousands of LoRAs
_Bytes = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True)
class Server:
    """A running ComfyUI. held_gib: of the card, by its models. pid: 0 if unknown."""

    port: int
    held_gib: float
    pid: int = 0


@dataclass
class _System:
    comfyui_version: str


@dataclass
class _Device:
    vram_total: _Bytes
    torch_vram_total: _Bytes


@dataclass
class _Stats:
    """The part of ComfyUI's /system_stats that is read."""

    system: _System
    devices: list[_Device]


@dataclass
class _Execution:
    queue_remaining: _Bytes


@dataclass
class _Queue:
    """ComfyUI's answer to GET /prompt."""

    exec_info: _Execution


def find(pids: frozenset[int]) -> Server | None:
    """Return the ComfyUI that uses the card, None if there is none. pids: programs on the card."""
    for port, pid in _ports(pids).items():
        held = _held_gib(port)
        if held is not None:
            return Server(port, held, pid)
    return None


def free(server: Server) -> float:
    """Ask ComfyUI to free its models, and wait for it. Return what it freed, in GiB.

    Raises WrongState if it did not answer, or will do it only after the picture that it makes.
    """
    if _held_gib(server.port) is None:  # another program may have its port by now
        raise WrongState("ComfyUI does not answer any more.", "Close it if it still runs.")
    _request(server.port, "POST", "/free", {"unload_models": True, "free_memory": True})
    deadline = time.monotonic() + FREEING_S
    while time.monotonic() < deadline:
        held = _held_gib(server.port)
        if held is None or held < server.held_gib / 2:
            return server.held_gib - (held or 0.0)
        time.sleep(0.2)
    queue = _read(_Queue, _request(server.port, "GET", "/prompt"))
    if queue and queue.exec_info.queue_remaining:
        raise WrongState(
            "ComfyUI is making a picture: it frees its models when that is done.", "Wait for it."
        )
    raise WrongState("ComfyUI was asked, but kept its models.", "Close ComfyUI to free them.")


def lists_lora(name: str, pids: frozenset[int]) -> bool | None:
    """Return whether a running ComfyUI lists this LoRA, None if none answers. pids: programs on the
    card.

    ComfyUI looks into its folders when it is asked. Its page does so when R is pressed.
    """
    answers = [_loras(port) for port in _ports(pids)]
    lists = [names for names in answers if names is not None]
    return any(_slashes(name) in map(_slashes, names) for names in lists) if lists else None


def _loras(port: int) -> list[str] | None:
    """Return the LoRAs that the ComfyUI at that port lists, None if none answers there."""
    if _read(_Stats, _request(port, "GET", "/system_stats")) is None:
        return None
    return _read(list[str], _request(port, "GET", "/models/loras", timeout_s=LISTING_S))


def _slashes(name: str) -> str:
    return name.replace("\\", "/")  # it may run in another system, such as WSL


def _ports(pids: frozenset[int]) -> dict[int, int]:
    """Return the ports where ComfyUI may answer, with the process: those of Python programs on the
    card, then the usual ones."""
    ports: dict[int, int] = {}
    for pid in sorted(pids):
        with suppress(psutil.Error):  # it ended, or is another user's
            process = psutil.Process(pid)
            if "python" in process.name().lower():
                listening = (c for c in process.net_connections("tcp") if c.status == "LISTEN")
                ports |= {connection.laddr.port: pid for connection in listening}
    return ports | {port: 0 for port in USUAL_PORTS if port not in ports}


def _held_gib(port: int) -> float | None:
    """Return what the ComfyUI at that port holds of our card, None if none answers there."""
    stats = _read(_Stats, _request(port, "GET", "/system_stats"))
    total = monitor.usage().vram_total_gib
    if stats is None or total < 0:
        return None
    on_card = [d for d in stats.devices if abs(d.vram_total / GIB - total) < 0.05 * total]
    return on_card[0].torch_vram_total / GIB if on_card else None


def _request(
    port: int, method: str, path: str, body: dict | None = None, timeout_s: float = TIMEOUT_S
) -> bytes:
    """Return a server's answer, b"" for none. Neither proxies nor redirects are followed."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.read(MAX_ANSWER) if answer.status == 200 else b""
    except (OSError, http.client.HTTPException) as error:
        log.debug("port %d: %s", port, error)
        return b""
    finally:
        connection.close()


def _read(schema: Any, answer: bytes) -> Any:
    """Return an answer as `schema`, None if it is none of ComfyUI's."""
    try:
        return TypeAdapter(schema).validate_json(answer)
    except ValidationError:
        return None
