"""assets/evidence/endurance.md and its plots: what the long run found, findings first."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
from endurance import meters

from blockskip.lab.measuring import plots

COMMAND = "./launch.sh test tests/endurance --long"
PARTS = {  # part → (heading, what x counts, for how many samples' distance)
    "runs": ("{n} trainings one after the other in one studio", "training"),
    "ticks": ("{n} ticks of eight tabs at one studio", "tick of each tab"),
    "worker": ("{steps:,} steps and {pictures:,} pictures in one worker", "sample"),
    "disk": ("A disk that fills and empties {n} times", "time"),
}
MOST_POINTS = 50  # of a curve
INTRODUCTION = """# Months, and too little memory

{findings}

A measure is flat if the line through it after the warm-up (the first {warm_up:.0%} of the samples) grows over all the rest by no more than its bound, with
95 % certainty: {bounds}. The line is laid over the means of {blocks} blocks of neighbouring samples.
Of the kept worker's memory, the least of the last {latest} trainings counts, since what large pictures took is given back some trainings later.
Answers are flat if the last tenth of them takes at most {slower:g} times as much of the processor as the first. A new folder of data begins each part.

Made by `{command}` on {date}: {machine}; {minutes:.0f} minutes. The machine was shared.
"""


def write(found: dict[str, dict], folder: Path) -> list[str]:
    """Write the page and its plots. Returns what was not flat or not right."""
    wrong: list[str] = []
    sections = []
    for part in PARTS:
        if part in found:
            sections += _soaked(part, found[part], folder, wrong)
    if "asleep" in found:
        sections += _slept(found["asleep"]["said"], wrong)
    if "limits" in found:
        sections += _limited(found["limits"]["rows"], wrong)
    head = INTRODUCTION.format(
        findings=_findings(found, wrong),
        warm_up=meters.WARM_UP,
        blocks=meters.BLOCKS,
        latest=meters.LATEST,
        slower=meters.SLOWER,
        bounds="; ".join(f"{n}: {b:g}" for n, b in meters.BOUNDS.items() if b < 1e9),
        command=COMMAND,
        date=f"{datetime.date.today():%Y-%m-%d}",
        machine=_machine(),
        minutes=sum(part["seconds"] for part in found.values()) / 60,
    )
    text = "\n".join([head, *(f"{section}\n" for section in sections)])
    (folder / "endurance.md").write_text(text, encoding="utf-8", newline="\n")
    return wrong


def _findings(found: dict[str, dict], wrong: Sequence[str]) -> str:
    lines = []
    soaked = [part for part in PARTS if part in found]
    measures = sum(len(found[part]["samples"][0]) for part in soaked)
    lines.append(
        f"{measures} measures in {len(soaked)} parts of a soak: "
        + ("all flat, nothing lost." if not wrong else f"not right: {'; '.join(wrong)}.")
    )
    if "limits" in found:
        rows = found["limits"]["rows"]
        ends = Counter(row["ended"] for row in rows)
        words = ", ".join(f"{name} {count}" for name, count in ends.most_common())
        silent = sum("silent" in row["ended"] for row in rows)
        lines.append(
            f"Of {len(rows)} limits of memory: {words}; ended silently: {silent}. Every run was "
            "resumed without its limit afterwards."
        )
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def _machine() -> str:
    gib = psutil.virtual_memory().total / 2**30
    return f"{platform.system()}, {psutil.cpu_count()} cores, {gib:.0f} GiB of RAM, Python {platform.python_version()}"


def _soaked(part: str, found: dict, folder: Path, wrong: list[str]) -> list[str]:
    heading, across = PARTS[part]
    samples, counts = found["samples"], {"n": len(found["samples"])} | found
    counts["n"] = found.get("count", counts["n"])
    title = heading.format(**counts)
    trends = meters.trends(samples)
    wrong += [f"{title}: {each.name}" for each in trends if not each.is_flat]
    wrong += [f"{title}: {each}" for each in found.get("wrong", ())]
    rows = [("measure", "after the warm-up", "growth until the end (95 %)", "last / first", "flat")]
    rows += [
        (
            each.name,
            f"{each.start:.1f}",
            f"{each.growth:+.1f} ({each.low:+.1f} to {each.high:+.1f})",
            f"{each.ratio:.2f}",
            "yes" if each.is_flat else "**no**",
        )
        for each in trends
    ]
    plot = folder / f"endurance-{part}.svg"
    plot.write_text(_plot(title, across, samples), encoding="utf-8", newline="\n")
    sections = [f"## {title}", _table(rows), f"![Measures over the {across}s]({plot.name})"]
    if found.get("said"):
        sections.append(_actions(found["said"]))
    if len(found["sizes"]) > 1:
        sections.append(_grown(found["sizes"]))
    return sections


def _plot(title: str, across: str, samples: Sequence[dict[str, float]]) -> str:
    """Return each measure beside its mean after the warm-up, over the samples."""
    first, each = int(len(samples) * meters.WARM_UP), -(-len(samples) // MOST_POINTS)
    series = []
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        usual = sum(values[first:]) / len(values[first:])
        if usual:
            points = [
                (k + 1, *[sum(part) / len(part) / usual] * 3)
                for k in range(0, len(values), each)
                if (part := values[k : k + each])
            ]
            series.append(plots.Series(name.partition(",")[0], points))
    return plots.lines(title, across, "beside the mean after the warm-up", series)


def _grown(sizes: Sequence[dict[str, int]]) -> str:
    """Return the files whose size changed, per sample since the warm-up."""
    first, last = sizes[int(len(sizes) * meters.WARM_UP)], sizes[-1]
    between = len(sizes) - 1 - int(len(sizes) * meters.WARM_UP)
    rows = [("file", "bytes at the end", "bytes more each time")]
    for name, size in last.items():
        each = (size - first.get(name, 0)) / between
        if each:
            rows.append((f"`{name}`", f"{size:,}", f"{each:,.0f}"))
    return _table(rows)


def _actions(said: dict[str, dict[str, int]]) -> str:
    ways = sorted({way for counts in said.values() for way in counts})
    rows = [("while the disk is full", *ways)]
    rows += [(name, *(counts.get(way, 0) for way in ways)) for name, counts in said.items()]
    return _table(rows)


def _slept(said: Sequence[Sequence[str]], wrong: list[str]) -> list[str]:
    wrong += [f"{what}: {how}" for what, how in said if how.isupper() or "ANOTHER" in how]
    rows = [("what slept", "afterwards"), *map(tuple, said)]
    return ["## Sleep and wake", _table(rows)]


def _limited(rows: Sequence[dict], wrong: list[str]) -> list[str]:
    table = [("limit", "from", "MiB", "end", "after a resume", "what is said")]
    for row in rows:
        limit = row["limit"]
        where = "in all" if limit["stage"] == "start" else "more"
        cells = (limit["kind"], limit["stage"], f"{limit['mib']:g} {where}")
        table.append((*cells, row["ended"], row["adapter"], row["said"].replace("|", "/")))
        if "silent" in row["ended"] or not row["adapter"].startswith("equal"):
            wrong.append(f"{' '.join(cells)}: {row['ended']}, {row['adapter']}")
    words = (
        "`cgroup`: the kernel ends the worker with SIGKILL. `data`: RLIMIT_DATA, so that allocations "
        "fail, as on Windows. The limit begins with the stage and leaves so much beyond what the "
        "worker holds then. *After a resume* without the limit, the LoRA is compared with that of a "
        "run that had none: equal to the byte, or, where less memory was taken by dividing batches, "
        "to the share of what was learnt."
    )
    return ["## Twenty limits of memory", words, _table(table)]


def _table(rows: Sequence[tuple]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
