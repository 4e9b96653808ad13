"""A timeline of what runs at the same time: how much of the copying hides behind computing, and how
often the program waits for the card.

torch's profiler writes a file that chrome://tracing and ui.perfetto.dev show. On a card, copies of
weights and kernels are rows of it; on the CPU there is nothing to copy to.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

Spans = Sequence[tuple[float, float]]


@contextmanager
def trace(path: Path, told: dict) -> Iterator[None]:
    """Write the timeline of what happens inside; on a card `told` then has copy_ms, copy_hidden (a
    share), idle (of the card, a share) and waits (by name, how often)."""
    from torch.profiler import ProfilerActivity, profile

    # on a card what the processor does would be most of the file
    kind = ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        yield
    path.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(path))
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    told |= overlap_stats(events)


def overlap_stats(events: Sequence[dict]) -> dict:
    """What `trace` tells, of a trace's events; {} where no card worked."""
    copies, kernels = gpu_spans(events)
    if not kernels:
        return {}
    copying, working = covered_length(copies), merge_spans([*copies, *kernels])
    return {
        "copy_ms": copying / 1000,
        "copy_hidden": overlap_length(copies, kernels) / copying if copies else 1.0,
        "idle": 1 - covered_length(kernels) / (working[-1][1] - working[0][0]),
        "waits": dict(waits(events)),
    }


def waits(events: Sequence[dict]) -> Counter:
    """How often the program waited for the card, by what it called."""
    return Counter(
        e["name"]
        for e in events
        if e.get("cat") == "cuda_runtime" and "Synchronize" in e.get("name", "")
    )


def covered_length(spans: Spans) -> float:
    """Of the time that they cover."""
    return sum(b - a for a, b in merge_spans(spans))


def gpu_spans(events: Sequence[dict]) -> tuple[Spans, Spans]:
    """When the card was given bytes from RAM and when it computed, in µs, of a trace's events."""

    def spans(wanted: Callable[[dict], bool]) -> Spans:
        return [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("dur") and wanted(e)]

    return (
        spans(lambda e: e.get("cat") == "gpu_memcpy" and "HtoD" in e["name"]),
        spans(lambda e: e.get("cat") == "kernel"),
    )


def merge_spans(spans: Spans) -> list[tuple[float, float]]:
    """The same time in spans that do not overlap, in order."""
    found: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def overlap_length(one: Spans, other: Spans) -> float:
    """For how long both go on."""
    return covered_length(one) + covered_length(other) - covered_length([*one, *other])
