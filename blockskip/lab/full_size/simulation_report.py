"""Compare simulated stages with their plan, and with what torch's allocator makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.core.stages import PLANNED
from blockskip.core.units import GIB
from blockskip.lab.full_size.caching_allocator import ExpandableAllocator, needed, replay
from blockskip.lab.full_size.simulate import Peak, simulate
from blockskip.memory.planning.requirements import stage_memory


def report(settings: Settings, stages: Sequence[str] = PLANNED) -> dict:
    """Return simulated peaks and FLOPs beside the planner's figures for the same settings.

    reserved_gib: what torch's allocator must reserve with the settings of core/torch_allocator.py,
    reserved_ratio: that ÷ the peak; growing_ratio: where segments grow; default_ratio: with torch's
    own settings.
    """
    planned = stage_memory(model_row(settings.model), settings)
    stage_reports = {}
    for name, peak in simulate(settings, stages).items():
        need = planned[name].vram_gib
        stage_reports[name] = {
            "vram_gib": round(peak.vram_gib, 3),
            "planned_gib": round(need, 3),
            "planner_off": round(need / peak.vram_gib - 1, 4),
            "held_gib": round(peak.held_gib, 3),
            "tflop": round(peak.tflop, 2),
            "int8_share": round(peak.int8_tflop / peak.tflop, 3),
            **_reserved(peak),
        }
    return {"model": settings.model, "settings": settings.flat(), "stages": stage_reports}


def _reserved(peak: Peak) -> dict[str, float]:
    reserved = needed(peak.events)[0] / GIB
    growing = replay(peak.events, ExpandableAllocator()).peak_reserved / GIB
    default = needed(peak.events, own_settings=False)[0] / GIB
    return {
        "reserved_gib": round(reserved, 3),
        "reserved_ratio": round(reserved / peak.vram_gib, 3),
        "growing_ratio": round(growing / peak.vram_gib, 3),
        "default_ratio": round(default / peak.vram_gib, 3),
    }
