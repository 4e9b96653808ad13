"""A timeline of what runs at the same time, and how much of the copying hides behind computing.

torch's profiler writes a file that chrome://tracing and ui.perfetto.dev show. On a card, copies of
weights and kernels are rows of it; on the CPU there is nothing to copy to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

Spans = Sequence[tuple[float, float]]


def traced(path: Path, work: Callable[[], dict]) -> dict:
    """Do `work` under the profiler and write its timeline; adds copy_ms and copy_hidden on a card."""
    from torch.profiler import ProfilerActivity, profile

    wanted = [ProfilerActivity.CPU]
    wanted += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=wanted) as profiler:
        told = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(path))
    copies, kernels = busy(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])
    if not copies:
        return told
    copying = sum(b - a for a, b in merged(copies))
    return told | {
        "copy_ms": copying / 1000,
        "copy_hidden": shared(copies, kernels) / copying,
    }


def busy(events: Sequence[dict]) -> tuple[Spans, Spans]:
    """When the card was given bytes from RAM and when it computed, in µs, of a trace's events."""

    def spans(wanted: Callable[[dict], bool]) -> Spans:
        return [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("dur") and wanted(e)]

    return (
        spans(lambda e: e.get("cat") == "gpu_memcpy" and "HtoD" in e["name"]),
        spans(lambda e: e.get("cat") == "kernel"),
    )


def merged(spans: Spans) -> list[tuple[float, float]]:
    """The same time in spans that do not overlap, in order."""
    found: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def shared(one: Spans, other: Spans) -> float:
    """For how long both go on."""
    total, left, right = 0.0, merged(one), merged(other)
    i = j = 0
    while i < len(left) and j < len(right):
        start, stop = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        total += max(0.0, stop - start)
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return total
