"""Measure overlap on a timeline: the share of copying hidden behind computing, and how often the
program waits for the GPU.

torch's profiler writes a trace for chrome://tracing and ui.perfetto.dev. On a GPU it shows weight
copies and kernels. On the CPU there are no copies.
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
def trace(path: Path, figures: dict) -> Iterator[None]:
    """Context manager that writes a trace to `path`. On a GPU it adds to `figures` copy_ms,
    copy_hidden (a share), idle (the GPU's, a share) and waits (count by name)."""
    from torch.profiler import ProfilerActivity, profile

    # on a GPU, CPU activity would fill most of the file
    kind = ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        yield
    path.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(path))
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    figures |= overlap_stats(events)


def overlap_stats(events: Sequence[dict]) -> dict:
    """Return the figures of `trace` from its events, or {} without GPU kernels."""
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
    """Count the program's waits for the GPU, by the CUDA call."""
    return Counter(
        e["name"]
        for e in events
        if e.get("cat") == "cuda_runtime" and "Synchronize" in e.get("name", "")
    )


def covered_length(spans: Spans) -> float:
    """Return the total time that the spans cover."""
    return sum(b - a for a, b in merge_spans(spans))


def gpu_spans(events: Sequence[dict]) -> tuple[Spans, Spans]:
    """Return the spans (µs) of host-to-device copies and of kernels in a trace's events."""

    def spans(wanted: Callable[[dict], bool]) -> Spans:
        return [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("dur") and wanted(e)]

    return (
        spans(lambda e: e.get("cat") == "gpu_memcpy" and "HtoD" in e["name"]),
        spans(lambda e: e.get("cat") == "kernel"),
    )


def merge_spans(spans: Spans) -> list[tuple[float, float]]:
    """Return the same time as sorted spans that do not overlap."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def overlap_length(first: Spans, second: Spans) -> float:
    """Return for how long both sets of spans overlap."""
    return covered_length(first) + covered_length(second) - covered_length([*first, *second])
