"""The offer of a tool's download (presets/tools.toml), wherever the page could use the tool."""

from __future__ import annotations

import threading
import time

from blockskip.core.repositories import tool_row
from blockskip.core.units import GIB
from blockskip.models.sources import download_process, tools
from blockskip.models.sources.download_process import Download
from blockskip.models.sources.tools import ToolStatus
from blockskip.studio import strings
from blockskip.studio.formatting import action_button, e, size
from blockskip.studio.model_view import folded_offer

REFRESH_S = 5.0
_lock = threading.Lock()
_cached: dict[str, tuple[float, str, ToolStatus]] = {}  # (time, state of the download, status)


def is_ready(name: str) -> bool:
    """Return whether a tool is on this computer, as of the last REFRESH_S seconds."""
    return _status(name, download_process.progress(tool_row(name))).state == "ready"


def offer(name: str, summary: str) -> str:
    """Return what a tool does, its licence and size, and its download: begin, watch, pause. "" if
    the tool is ready.

    summary: the line that is shown while the offer is folded.
    """
    download = download_process.progress(tool_row(name))
    status = _status(name, download)
    if status.state == "ready":
        return ""
    running = download is not None and download.state == "running"
    about, button = (
        f"{strings.translated(status.title)}. {strings.translated(status.about)}",
        _button(status, running),
    )
    return folded_offer(summary, about, status, download, button)


def _button(status: ToolStatus, running: bool) -> str:
    if running:
        return action_button("fetch_stop", strings.MODEL_FETCH_STOP, model=status.name)
    needed = size(status.download_gib * GIB)
    if status.state == "partial":
        return action_button("fetch", strings.MODEL_FETCH_MORE, model=status.name)
    return (
        f'<p class="hint">{e(strings.TOOL_NEEDS.format(need=needed))}</p>'
        f"{action_button('fetch', strings.TOOL_FETCH.format(need=needed), model=status.name)}"
    )


def _status(name: str, download: Download | None) -> ToolStatus:
    state = download.state if download else ""
    with _lock:
        at, known_state, status = _cached.get(name, (0.0, "", None))
        if status is None or state != known_state or time.monotonic() - at > REFRESH_S:
            status = tools.tool_status(name)
            _cached[name] = time.monotonic(), state, status
        return status


def refresh() -> None:
    """Discard what is known of the tools."""
    with _lock:
        _cached.clear()
