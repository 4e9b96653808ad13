"""Format the run of a peer's script beside ours as a page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from blockskip.lab.bench.peer import ABOUT

HEAD = "|seconds, whole process|of them the processor's|training, s a draw|peak RSS MiB|likeness|in a place|bare class word"
TITLE = "# A peer's script beside ours"


def markdown(report: dict) -> str:
    """Return the report as a page."""
    plan, machine = report["plan"], report["machine"]
    script, tokens = report["script"], report["tokens"]
    versions = ", ".join(f"{name} {number}" for name, number in report["packages"].items())
    lines = [
        TITLE,
        "",
        f"    {report['command']}",
        "",
        f"diffusers' `{script['name']}` and this program train a LoRA on the demo FLUX, on the processor, "
        f"one after the other: the same photos, {plan['steps']} steps of 8 draws at 64 px, the same rank, "
        f"layers and rate, {plan['threads']} thread(s). {len(report['rounds'])} round(s), "
        f"seed {plan['seed']}, demo pet {plan['pet']}. {machine['processor']}, {machine['system']}; "
        f"{machine['date']}.",
        "",
        *_table(report),
        "",
        f"- The script is unmodified but for its text length: {tokens['before']} became {tokens['after']} in "
        f"{tokens['places']} places, since the demo model's encoder has 32 positions. sha256 of the original: "
        f"`{script['sha256']}`. It ran with {versions}.",
        "- Nobody makes sample pictures, and latents are encoded beforehand. Seconds and memory are of whole "
        "processes, imports included: medians over rounds.",
        "- Likeness: the demo judge on pictures sampled the same way with every LoRA file "
        f"({plan['images']} a prompt, mean over rounds). “In a place”: on the beach and in the snow. Low is "
        "good for the bare class word.",
        "- “A draw”: training alone, windows included, over all uses of draws.",
    ]
    return "\n".join(lines) + "\n"


def _table(report: dict) -> list[str]:
    rounds, plan = report["rounds"], report["plan"]
    rows = [HEAD.split("|"), ["---"] + ["---:"] * HEAD.count("|")]
    for name, about in ABOUT.items():
        rows.append([about, *_cells([figures[name] for figures in rounds], plan["steps"] * 8)])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cells(figures: Sequence[dict], draws: int) -> list[str]:
    seconds, processor, training, peak = (
        statistics.median(each[key] for each in figures)
        for key in ("seconds", "processor_seconds", "training_seconds", "peak_mib")
    )
    pet, beach, snow, bare = (
        statistics.mean(each["likeness"][key] for each in figures)
        for key in ("pet", "beach", "snow", "class_word")
    )
    numbers = f"{seconds:.0f}", f"{processor:.0f}", f"{training / draws:.4f}", f"{peak:.0f}"
    return [*numbers, f"{pet:.3f}", f"{(beach + snow) / 2:.3f}", f"{bare:.3f}"]
