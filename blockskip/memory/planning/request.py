"""A request to the planner, and the limits of GPU memory, RAM and disk that it sets. No torch."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blockskip.core import idle_worker
from blockskip.core.presets import ModelRow, reserve_table
from blockskip.core.settings import Precision, Settings
from blockskip.core.stages import PLANNED
from blockskip.memory import monitor
from blockskip.memory.planning.requirements import SPARE_RAM_GIB, StageMemory, stage_memory

_Known = dict[tuple[Settings, tuple[str, ...]], dict[str, StageMemory]]
RAM_FOR_SYSTEM = 0.25  # share of RAM left to the system: 12 of 16 GiB are planned with


def free_vram_gib() -> float:
    """Return the graphics memory that a run could have now, in GiB: what is unused, and what a
    process that keeps a model open gives back; -1 without a GPU."""
    free = monitor.usage().vram_free_gib
    return free + idle_worker.held_gib() if free >= 0 else monitor.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """A request to the planner.

    settings: from the user and the presets. fixed: names of the plan's fields that the user decided
    (“front” includes “back”); the planner decides the others. disk_gib: free on the disk. free_gib:
    free on the GPU now (inf: unknown). free_ram_gib: RAM that is free now (inf: unknown); it decides
    only how many weights wait there. more_gib: beside the settings' budget, to tell what a larger one
    would change. system: Windows, Linux, … ("": this one). known: what `memory` computed.
    """

    settings: Settings
    fixed: frozenset[str] = frozenset()
    disk_gib: float = math.inf
    free_gib: float = math.inf
    free_ram_gib: float = math.inf
    more_gib: float = 0.0
    system: str = ""
    known: _Known = field(default_factory=dict, repr=False, compare=False)

    def memory(
        self, row: ModelRow, settings: Settings, names: Sequence[str] = PLANNED
    ) -> dict[str, StageMemory]:
        """Return `stage_memory`, computed once for this request and those made from it: the search
        meets most settings again when it tells what more memory would change."""
        key = settings, tuple(names)
        if key not in self.known:
            self.known[key] = stage_memory(row, settings, names)
        return self.known[key]

    def with_fixed(self, **fields: Any) -> PlanRequest:
        """Return a copy with these fields of the plan decided."""
        return replace(
            self, settings=self.settings.changed(**fields), fixed=self.fixed | fields.keys()
        )

    @property
    def budget_gib(self) -> float:
        """GPU memory that a run may use in total, in GiB."""
        return self.settings.budget_gib + self.more_gib

    @property
    def reserve_gib(self) -> float:
        """GiB never planned with: the desktop's share, CUDA's context, the allocator's gaps."""
        table, desktop = reserve_table(), desktop_gib(self.budget_gib, self.system)
        gaps = table["allocator"] * min(self.budget_gib, self.free_gib)
        return desktop + table["context"] + gaps

    @property
    def usable_gib(self) -> float:
        """GiB of the GPU that stages may use: budget or free memory, less the reserve."""
        return min(self.budget_gib, self.free_gib) - self.reserve_gib

    @property
    def usable_ram_gib(self) -> float:
        """GiB of RAM that a run may use; the rest is left to the system."""
        return self.settings.ram_gib * (1 - RAM_FOR_SYSTEM)

    @property
    def ram_to_fill_gib(self) -> float:
        """GiB of RAM that a run may fill with waiting weights, beside the rest that it needs."""
        return min(self.usable_ram_gib, self.free_ram_gib - SPARE_RAM_GIB)


def desktop_gib(budget_gib: float, system: str = "") -> float:
    """Return the GiB of the GPU left to the desktop. system: Windows, Linux, … ("": this one)."""
    table = reserve_table()
    share = "windows" if (system or platform.system()) == "Windows" else "other"
    return table[share + "_big" if budget_gib >= table["big_from"] else share]


def precisions(system: str = "") -> list[Precision]:
    """Return the precisions of frozen weights, best first. NF4 needs bitsandbytes, which
    pyproject.toml leaves out on a Mac. system: as for `desktop_gib`."""
    return ["full", "int8"] if is_mac(system) else ["full", "int8", "nf4"]


def is_mac(system: str = "") -> bool:
    """Return whether it is a Mac, whose GPU shares its memory with the processor."""
    return (system or platform.system()) == "Darwin"


def peak_gib(needs: dict[str, StageMemory]) -> float:
    """Return the largest GPU memory of any stage, in GiB."""
    return max(need.vram_gib for need in needs.values())


def totals(request: PlanRequest, needs: dict[str, StageMemory]) -> dict[str, float]:
    """Return the GiB of GPU memory and RAM at the worst stage, and of the disk in total. Where both
    are the same memory, it counts as RAM too."""
    shared = is_mac(request.system)
    return {
        "card": peak_gib(needs),
        "ram": max(need.ram_gib + shared * need.vram_gib for need in needs.values()),
        "disk": sum(need.disk_gib for need in needs.values()),
    }


def limits(request: PlanRequest) -> dict[str, float]:
    """Return the GiB that can be planned with, under the names of `totals`."""
    return {"card": request.usable_gib, "ram": request.usable_ram_gib, "disk": request.disk_gib}


def exceeded_limits(request: PlanRequest, needs: dict[str, StageMemory]) -> list[str]:
    """Return the names among card, ram and disk that are too small."""
    available = limits(request)
    return [name for name, gib in totals(request, needs).items() if gib > available[name]]
