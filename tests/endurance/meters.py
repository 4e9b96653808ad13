"""What a process and a data folder hold, and whether it stays: samples, trends and their bounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20
# of the processor, which other programs hardly change
OWN = "own memory, MiB"
KEPT = "kept worker's own memory, MiB"  # between trainings; see LATEST
ANSWER = "answer, ms of the processor"
# of KEPT the least of so many samples counts: what large pictures took is given back two or three
# trainings later
LATEST = 5
WARM_UP = 0.2  # share of the samples that come before all is loaded and cached once
BLOCKS = 20  # means of neighbouring samples, which depend on each other, over which a line is laid
STUDENT_95 = 2.101  # quantile of t with BLOCKS − 2 degrees of freedom
# growth over a whole part of the soak, measured from the warm-up on, that counts as flat
BOUNDS = {
    "RSS, MiB": 24.0,
    OWN: 24.0,
    KEPT: 24.0,
    "handles": 4.0,
    "threads": 4.0,
    "children": 1.0,
    "temporary files": 4.0,
    ANSWER: math.inf,  # judged by SLOWER
}
SLOWER = 1.25  # times: the last tenth of the answers beside the first after the warm-up
TEMPORARY = (".tmp", ".part", ".incomplete")


def of_process(process: psutil.Process) -> dict[str, float]:
    """Return what a process holds. Raises psutil.Error if it has ended."""
    with process.oneshot():
        memory = process.memory_full_info()
        # pages of libraries are another process's too whenever a child runs
        own = memory.rss - memory.shared if hasattr(memory, "shared") else memory.uss
        handles = process.num_handles() if hasattr(process, "num_handles") else process.num_fds()
        return {
            "RSS, MiB": memory.rss / MIB,
            OWN: own / MIB,
            "handles": float(handles),
            "threads": float(process.num_threads()),
            "children": float(len(process.children(recursive=True))),
        }


def processor_ms(process: psutil.Process) -> float:
    """Return the milliseconds that a process has worked so far, without its children. Raises
    psutil.Error if it has ended."""
    times = process.cpu_times()
    return 1000 * (times.user + times.system)


def temporary_files(*folders: Path) -> float:
    """Return how many temporary files and folders lie in these folders."""
    return float(sum(path.suffix in TEMPORARY for folder in folders for path in folder.rglob("*")))


def sizes(data: Path) -> dict[str, int]:
    """Return the bytes of state files and logs that a data folder has: of the studio by name, of
    runs as one sum each."""
    own = {path.name: path.stat().st_size for path in data.iterdir() if path.is_file()}
    for name in ("worker.log", "painter.log", "events.jsonl", "run.toml"):
        own[f"runs/*/{name}"] = sum(p.stat().st_size for p in data.glob(f"runs/*/{name}"))
    return {name: size for name, size in own.items() if size}


@dataclass(frozen=True)
class Trend:
    """How a measure went on after the warm-up. growth: of a line over the whole rest, with its 95 %
    interval low to high. start: its value after the warm-up. ratio: of the medians of the last
    and the first tenth."""

    name: str
    start: float
    growth: float
    low: float
    high: float
    ratio: float

    @property
    def is_flat(self) -> bool:
        """Whether the line grows by no more than its bound, with 95 % certainty; answers: whether
        the last tenth is not slower."""
        bound = BOUNDS[self.name]
        return self.high <= bound if math.isfinite(bound) else self.ratio <= SLOWER


def trend(name: str, values: Sequence[float]) -> Trend:
    """Return the trend of equally spaced samples. Raises ValueError for fewer than 2 a block."""
    if name == KEPT:
        values = [min(values[max(0, k + 1 - LATEST) : k + 1]) for k in range(len(values))]
    rest = list(values[int(len(values) * WARM_UP) :])
    if len(rest) < 2 * BLOCKS:
        raise ValueError(f"{name}: {len(rest)} samples are too few")
    edges = [round(k * len(rest) / BLOCKS) for k in range(BLOCKS + 1)]
    means = [statistics.fmean(rest[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    middle = (BLOCKS - 1) / 2
    squares = sum((k - middle) ** 2 for k in range(BLOCKS))
    slope = sum((k - middle) * mean for k, mean in enumerate(means)) / squares
    line = [statistics.fmean(means) + slope * (k - middle) for k in range(BLOCKS)]
    spread = sum((a - b) ** 2 for a, b in zip(means, line, strict=True)) / (BLOCKS - 2)
    error = STUDENT_95 * math.sqrt(spread / squares)
    tenth = max(1, len(rest) // 10)
    first, last = statistics.median(rest[:tenth]), statistics.median(rest[-tenth:])
    return Trend(
        name,
        start=line[0],
        growth=slope * BLOCKS,
        low=(slope - error) * BLOCKS,
        high=(slope + error) * BLOCKS,
        ratio=last / first if first else 1.0,
    )


def trends(samples: Sequence[dict[str, float]]) -> list[Trend]:
    """Return the trend of every measure of these samples."""
    return [trend(name, [sample[name] for sample in samples]) for name in samples[0]]
