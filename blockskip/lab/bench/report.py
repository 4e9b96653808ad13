"""A benchmark's report as a table for people, with the machine it was made on."""

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
Weights are random, of the model's true shape. "s a draw" and all else "a draw" is for one use of a draw
in training, its share of the residual window included; median of the rounds, ratios inside a round
(least to most). "ceiling": plain LoRA's counted floating point operations over the contender's; "share":
measured over ceiling. "TFLOP": a draw, counted on the real run. "weights" and "window": brought to where
they work, a draw, after the first time; {bus}. Peak: {peak}"""


def machine() -> dict:
    """What this was measured on: no names of people or folders."""
    import torch  # which must not wake the card: this process would keep a part of it

    found = {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "ram_gib": round(psutil.virtual_memory().total / GIB, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
    if name := monitor.card_name():
        found |= {"card": name, "driver": monitor.driver_version(), "cuda": torch.version.cuda}
    from importlib.metadata import version

    return found | {name: version(name) for name in ("torch", "diffusers", "peft", "bitsandbytes")}


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def command(plan: Plan) -> str:
    """The command that repeats the measurement."""
    said = {
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
    options = " ".join(f"--{name} {value}" for name, value in said.items() if value)
    return f"blockskip lab bench --work DIR {options}"


def markdown(report: dict) -> str:
    """The whole report as a page."""
    said = report["machine"]
    cards = "".join(f"{said[key]}, " for key in ("card", "cuda") if key in said)
    threads = report["plan"]["threads"] or "torch's choice of"
    lines = [
        "# Side by side: plain LoRA, QLoRA, block swap, ours",
        "",
        f"    {report['command']}",
        "",
        f"{report['params'] / 1e9:.2f} B parameters, random weights, {report['dtype']}. "
        f"{said['processor']}, {said['cores']} cores, {threads} threads, "
        f"{cards}{said['ram_gib']} GiB of RAM, {said['system']}; "
        + ", ".join(f"{n} {said[n]}" for n in ("torch", "diffusers", "peft", "bitsandbytes"))
        + f"; {said['date']}; {report['plan']['rounds']} rounds.",
        "",
        *table(report),
        "",
        _small_print(report),
    ]
    lines += ["", *_plans(report)] if any("against_plan" in r for r in report["contenders"]) else []
    return "\n".join(lines) + "\n"


def table(report: dict) -> list[str]:
    """One line a contender."""
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
            bus="over the bus", peak="the most torch had allocated of the card."
        )
    measured = [row for row in report["contenders"] if "before_gib" in row]
    before = [row["before_gib"] for row in measured]
    stored = ", ".join(f"{r['name']} {r['storage_gib']:.2f}" for r in measured)
    peak = (
        "of the whole process in RAM, anonymous and files'; of it the program before any model "
        f"{min(before):.2f} to {max(before):.2f} GiB; in brackets without that. Of tensors alone, "
        f"counted by storage, GiB: {stored}."
        if before
        else "unknown."
    )
    return SMALL_PRINT.format(bus="here from the file into RAM", peak=peak)


def _plans(report: dict) -> list[str]:
    """The rungs: planned beside measured, stage by stage."""
    lines = [
        "| rung | stage | planned GiB | peak GiB | plan off | whole process GiB | within the cap |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in report["contenders"]:
        for stage, said in row.get("against_plan", {}).items():
            kept = "yes" if said["within_cap"] else "NO"
            lines.append(
                f"| {row['name']} | {stage} | {said['planned_gib']:.2f} | {said['peak_gib']:.2f} "
                f"| {said['planner_off']:+.1%} | {said['whole_process_gib']:.2f} | {kept} |"
            )
    return lines
