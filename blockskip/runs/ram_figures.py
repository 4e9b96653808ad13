"""Say how much memory a stage was planned with, beside what it took. Does not import torch."""

from __future__ import annotations

from blockskip.core import stages
from blockskip.core.settings import Settings
from blockskip.memory.planning.planner import planned_memory

SHARED = ("cpu", "mps")  # devices whose memory is RAM
_NAMES = {
    stages.TEXT: "Reading the captions",
    stages.LATENTS: "Turning photos into latents",
    stages.RESIDUALS: "Computing the skipped blocks",
    stages.TRAIN: "Training",
    stages.PREVIEW: "Sampling pictures",
}


def of_ram(settings: Settings, stage: str, taken_gib: float, device: str) -> str:
    """Return the sentence about RAM. stage: outside of those that are planned it is the largest
    plan of all. taken_gib: < 0 if unknown. device: as torch names it."""
    shared = device.partition(":")[0] in SHARED
    needs = {
        name: need.ram_gib + shared * need.vram_gib
        for name, need in planned_memory(settings).items()
    }
    return _sentence(stage, needs.get(stage, max(needs.values())), taken_gib, "RAM")


def of_card(settings: Settings, stage: str, taken_gib: float) -> str:
    """Return the sentence about graphics memory, like `of_ram`."""
    needs = {name: need.vram_gib for name, need in planned_memory(settings).items()}
    planned = needs.get(stage, max(needs.values()))
    return _sentence(stage, planned, taken_gib, "graphics memory")


def _sentence(stage: str, planned_gib: float, taken_gib: float, memory: str) -> str:
    doing = _NAMES.get(stage, "The run")
    taken = f"took up to {taken_gib:.1f}" if taken_gib >= 0 else "ended before it was measured"
    return f"{doing} was planned with {planned_gib:.1f} GiB of {memory} and {taken}."
