"""Tables of a plan and of a simulation for the terminal."""

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
    """Return the plan as a table: one row a stage, all sizes in GiB."""
    data = plan.to_dict()
    span = data["span"]
    table = Table(
        title=f"{data['model']}: {plan.settings.budget_gib:g} GiB of graphics memory, "
        f"{plan.settings.ram_gib:g} GiB of RAM",
        caption=f"{span['front']} + {span['back']} blocks skipped ({100 * span['ratio']:.0f} %) · "
        f"{_precision(data)} · {_crops(**data['patches'])} · {data['text_tokens']} text tokens · "
        f"{data['window_draws']} draws a window",
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


def _precision(data: dict) -> str:
    """Describe what is stored, and what is computed if that has 8 bits too."""
    computed = ", computed in 8 bits" if data["arithmetic"] == "int8" else ""
    return f"{data['precision']}{computed}"


def _crops(schedule: str, s_min: int, s_max: int) -> str:
    """Describe the crops: “dynamic crops of 256 to 512 px, trained at 256”; sides in pixels."""
    if schedule == "full":
        return f"whole pictures of {s_max} px"
    sides = f"{s_max}" if schedule == "resize" else f"{s_min} to {s_max}"
    return f"{schedule} crops of {sides} px, trained at {s_min}"


def peaks_table(report: dict) -> Table:
    """Return the report of `lab simulate` as a table: simulated beside planned GiB."""
    table = Table(title=f"{report['model']}, simulated as meta tensors")
    table.add_column("stage")
    for name in ("simulated GiB", "planned GiB", "difference", "reserved GiB", "TFLOP"):
        table.add_column(name, justify="right")
    for name, stage in report["stages"].items():
        table.add_row(
            _STAGE_TITLES[name],
            f"{stage['vram_gib']:.3f}",
            f"{stage['planned_gib']:.3f}",
            f"{stage['planner_off']:+.2%}",
            f"{stage['reserved_gib']:.3f}",
            f"{stage['tflop']:.2f}",
        )
    return table
