"""Format a benchmark's report as a page, and describe the machine."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import psutil

from blockskip.core.units import GIB
from blockskip.lab.bench.contenders import Plan
from blockskip.memory import monitor

HEAD = "contender|s a draw|times faster|ceiling|share|peak GiB|times less|TFLOP".split("|")
HEAD += ["weights MiB", "window MiB"]
SMALL_PRINT = """\
Weights are random, in the model's true shape. Figures "a draw" are for one use of a draw in training,
with its share of the residual window: medians over rounds, with ratios taken within a round (minimum to
maximum). "ceiling": plain LoRA's counted FLOPs over the contender's. "share": measured over ceiling.
"TFLOP": per draw, counted on the real run. "weights" and "window": MiB loaded per draw after the first
time, {bus}. Peak: {peak}"""


def machine() -> dict:
    """Return a description of this machine, without names of people or folders."""
    import torch  # without initialising CUDA, which would take GPU memory in this process

    facts = {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "ram_gib": round(psutil.virtual_memory().total / GIB, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
    if name := monitor.card_name():
        facts |= {"card": name, "driver": monitor.driver_version(), "cuda": torch.version.cuda}
    from importlib.metadata import version

    return facts | {name: version(name) for name in ("torch", "diffusers", "peft", "bitsandbytes")}


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def command(plan: Plan) -> str:
    """Return the command that repeats the measurement."""
    options_by_name = {
        "size": plan.size,
        "contenders": ",".join(plan.contenders),
        "rungs": ",".join(f"{gib:g}" for gib in plan.rungs),
        "side": plan.side_px,
        "text": plan.text_tokens,
        "skip": ",".join(map(str, plan.skip)),
        "draws": plan.draws,
        "baseline-draws": plan.baseline_draws,
        "rounds": plan.rounds,
        "rows": plan.rows,
        "dtype": plan.dtype,
        "device": plan.device,
        "threads": plan.threads,
        "cap": plan.cap_gib,
    }
    options = " ".join(f"--{name} {value}" for name, value in options_by_name.items() if value)
    return f"blockskip lab bench --work DIR {options}"


def markdown(report: dict) -> str:
    """Return the report as a page."""
    machine_facts = report["machine"]
    cards = "".join(f"{machine_facts[key]}, " for key in ("card", "cuda") if key in machine_facts)
    threads = report["plan"]["threads"] or "torch's choice of"
    lines = [
        "# Side by side: plain LoRA, QLoRA, block swap, ours",
        "",
        f"    {report['command']}",
        "",
        f"{report['params'] / 1e9:.2f} B parameters, random weights, {report['dtype']}. "
        f"{machine_facts['processor']}, {machine_facts['cores']} cores, {threads} threads, "
        f"{cards}{machine_facts['ram_gib']} GiB of RAM, {machine_facts['system']}; "
        + ", ".join(
            f"{n} {machine_facts[n]}" for n in ("torch", "diffusers", "peft", "bitsandbytes")
        )
        + f"; {machine_facts['date']}; {report['plan']['rounds']} rounds.",
        "",
        *table(report),
        "",
        _small_print(report),
    ]
    lines += ["", *_plans(report)] if any("against_plan" in r for r in report["contenders"]) else []
    return "\n".join(lines) + "\n"


def table(report: dict) -> list[str]:
    """Return the table's lines, one per contender."""
    rows = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1)]
    rows += [_row(row) for row in report["contenders"]]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _row(row: dict) -> list[str]:
    name = f"`{row['name']}` {row['about']}"
    if "failed" in row:
        return [name, row["failed"]] + [""] * (len(HEAD) - 2)
    times = ["", "", "", ""]
    if "ceiling" in row:
        low, high = row["times_spread"]
        times = [
            f"{row['times_faster']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['ceiling']:.2f}",
            f"{row['share_of_ceiling']:.0%}",
            f"{row['times_less_memory']:.1f} ({row['times_less_above_program']:.1f})",
        ]
    return [
        name,
        f"{row['seconds_a_draw']:.3g}",
        *times[:3],
        f"{row['peak_gib']:.2f}",
        times[3],
        f"{row['tflop_a_draw']:.3g}",
        f"{row['weight_bytes_a_draw'] / 2**20:.1f}",
        f"{row['window_bytes_a_draw'] / 2**20:.2f}",
    ]


def _small_print(report: dict) -> str:
    if report["device"] != "cpu":
        return SMALL_PRINT.format(
            bus="over the bus", peak="the GPU memory that torch had allocated."
        )
    measured = [row for row in report["contenders"] if "before_gib" in row]
    before = [row["before_gib"] for row in measured]
    stored = ", ".join(f"{r['name']} {r['storage_gib']:.2f}" for r in measured)
    peak = (
        "the whole process in RAM, anonymous and file-backed. The program without a model takes "
        f"{min(before):.2f} to {max(before):.2f} GiB, subtracted in brackets. Tensors alone, "
        f"counted by storage, in GiB: {stored}."
        if before
        else "unknown."
    )
    return SMALL_PRINT.format(bus="from the file into RAM", peak=peak)


def _plans(report: dict) -> list[str]:
    """Return the table of rungs, planned and measured memory by stage."""
    lines = [
        "| rung | stage | planned GiB | peak GiB | plan off | whole process GiB | within the cap |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in report["contenders"]:
        for stage, measured in row.get("against_plan", {}).items():
            within = "yes" if measured["within_cap"] else "NO"
            lines.append(
                f"| {row['name']} | {stage} | {measured['planned_gib']:.2f} | {measured['peak_gib']:.2f} "
                f"| {measured['planner_off']:+.1%} | {measured['whole_process_gib']:.2f} | {within} |"
            )
    return lines
