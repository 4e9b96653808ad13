"""A plan, or what the simulation found, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from blockskip.core import stages

if TYPE_CHECKING:
    from blockskip.memory.planning.planner import Plan

_STAGE_TITLES = {
    stages.TEXT: "reading captions",
    stages.LATENTS: "photos to latents",
    stages.RESIDUALS: "skipped blocks, a window",
    stages.TRAIN: "training",
    stages.PREVIEW: "previews",
}


def plan_table(plan: Plan) -> Table:
    """One line a stage, all sizes in GiB."""
    said = plan.to_dict()
    span = said["span"]
    table = Table(
        title=f"{said['model']}: {plan.settings.budget_gib:g} GiB of graphics memory, "
        f"{plan.settings.ram_gib:g} GiB of RAM",
        caption=f"{span['front']} + {span['back']} blocks skipped ({span['ratio']:.0%}) · "
        f"{said['precision']} · {_crops(**said['patches'])} · {said['text_tokens']} text tokens · "
        f"{said['window_draws']} draws a window",
    )
    table.add_column("stage")
    for name in ("graphics memory", "RAM", "disk"):
        table.add_column(name, justify="right")
    for name, need in plan.stages.items():
        sizes = (need.vram_gib, need.ram_gib, need.disk_gib)
        table.add_row(_STAGE_TITLES[name], *(f"{size:.2f}" for size in sizes))
    table.add_section()
    total = (plan.peak_vram_gib, plan.ram_gib, plan.disk_gib)
    table.add_row("in all", *(f"{size:.2f}" for size in total))
    return table


def _crops(schedule: str, s_min: int, s_max: int) -> str:
    """“dynamic crops of 256 to 512 px, trained at 256”; sides in pixels."""
    if schedule == "full":
        return f"whole pictures of {s_max} px"
    sides = f"{s_max}" if schedule == "resize" else f"{s_min} to {s_max}"
    return f"{schedule} crops of {sides} px, trained at {s_min}"


def peaks_table(report: dict) -> Table:
    """What `lab simulate` reports: simulated and planned GiB side by side."""
    table = Table(title=f"{report['model']}, simulated as meta tensors")
    table.add_column("stage")
    for name in ("simulated GiB", "planned GiB", "difference", "TFLOP"):
        table.add_column(name, justify="right")
    for name, said in report["stages"].items():
        table.add_row(
            _STAGE_TITLES[name],
            f"{said['vram_gib']:.3f}",
            f"{said['planned_gib']:.3f}",
            f"{said['planner_off']:+.2%}",
            f"{said['tflop']:.2f}",
        )
    return table
