"""What is used now: RAM from psutil, the whole graphics card from NVML, our share of it from torch.

Nothing here imports torch. The studio asks `usage` and never loads it; the worker has loaded it,
and then `memory_event` finds it in `sys.modules`. Whatever cannot be known is -1, never a guess.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import psutil

from blockskip.core.events import Memory
from blockskip.core.units import GIB

log = logging.getLogger(__name__)
UNKNOWN = -1.0


@dataclass(frozen=True)
class Usage:
    """Memory in GiB: of one process, of this machine, of the graphics card (all programs)."""

    rss_gib: float
    ram_used_gib: float
    ram_total_gib: float
    vram_used_gib: float
    vram_total_gib: float

    @property
    def vram_free_gib(self) -> float:
        """Graphics memory no program uses, -1 without a card."""
        known = self.vram_total_gib > 0
        return self.vram_total_gib - self.vram_used_gib if known else UNKNOWN


def usage(pid: int | None = None) -> Usage:
    """What is used now. pid: the process whose RAM is asked for; None means this one."""
    ram = psutil.virtual_memory()
    used, total = _card()
    return Usage(
        rss_gib=_rss(pid),
        ram_used_gib=(ram.total - ram.available) / GIB,
        ram_total_gib=ram.total / GIB,
        vram_used_gib=used,
        vram_total_gib=total,
    )


def memory_event(folder: Path | None = None, run_gib: float = UNKNOWN) -> Memory:
    """The worker's memory now. vram_gib is what torch holds of the card, its reserve included.
    folder: the run's, whose drive is looked at. run_gib: what it takes, which takes long to ask."""
    torch, (used, total) = _cuda(), _card()
    now = usage()
    ours = torch.cuda.memory_reserved() / GIB if torch else UNKNOWN
    if torch and total < 0:
        free, everything = torch.cuda.mem_get_info()
        used, total = (everything - free) / GIB, everything / GIB
    return Memory(
        rss_gib=now.rss_gib,
        ram_used_gib=now.ram_used_gib,
        vram_gib=ours,
        ram_total_gib=now.ram_total_gib,
        vram_used_gib=used,
        vram_total_gib=total,
        disk_free_gib=disk_free_gib(folder) if folder else UNKNOWN,
        disk_run_gib=run_gib,
        card_celsius=card_celsius(),
    )


def disk_free_gib(folder: Path) -> float:
    """Room on the drive that a folder is on."""
    try:
        return shutil.disk_usage(folder).free / GIB
    except OSError:
        return UNKNOWN


def card_name() -> str:
    """Of the card that `usage` tells of, "" without one."""
    nvml = _nvml()
    return str(nvml.nvmlDeviceGetName(_device(nvml))) if nvml else ""


def driver_version() -> str:
    """The version of NVIDIA's driver, "" without one."""
    nvml = _nvml()
    return str(nvml.nvmlSystemGetDriverVersion()) if nvml else ""


def card_celsius() -> float:
    """The card's temperature now."""
    return _temperature("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU")


def slowdown_celsius() -> float:
    """The temperature at which the card slows itself down."""
    return _temperature("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN")


def _temperature(question: str, which: str) -> float:
    nvml = _nvml()
    if nvml is None:
        return UNKNOWN
    try:
        degrees = getattr(nvml, question)(_device(nvml), getattr(nvml, which))
        return float(degrees) if degrees > 0 else UNKNOWN
    except (nvml.NVMLError, AttributeError) as error:  # a card, or a version, that does not tell
        log.debug("NVML does not tell a temperature: %s", error)
        return UNKNOWN


def card_peaks_gib() -> tuple[float, float]:
    """The most the card held since `reset_card_peaks`: of tensors, and of all that torch keeps
    for them; (-1, -1) without a card."""
    torch = _cuda()
    if torch is None:
        return UNKNOWN, UNKNOWN
    return torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB


def reset_card_peaks() -> None:
    """Forget the card's peaks, not what is there."""
    torch = _cuda()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_rss_gib() -> float:
    """The most RAM this process has used."""
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return info.peak_wset / GIB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def _rss(pid: int | None) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / GIB
    except (psutil.Error, ValueError):
        return UNKNOWN


def _cuda() -> ModuleType | None:
    """torch, if this process has already woken its CUDA; asking must not wake it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _card() -> tuple[float, float]:
    """(used, total) of the card that torch would take first; (-1, -1) without one."""
    nvml = _nvml()
    if nvml is None:
        return UNKNOWN, UNKNOWN
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(_device(nvml))
        return info.used / GIB, info.total / GIB
    except nvml.NVMLError as error:
        log.debug("NVML does not tell the memory: %s", error)
        return UNKNOWN, UNKNOWN


@cache
def _nvml() -> ModuleType | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml if pynvml.nvmlDeviceGetCount() > 0 else None
    except (
        Exception
    ) as error:  # no package, no driver, or a driver in a bad state: all mean "unknown"
        log.debug("NVML is not there: %s", error)
        return None


def _device(nvml: ModuleType) -> object:
    """The NVML device that torch works on, or would."""
    torch = _cuda()
    if torch is None:
        return _handle(nvml, "")
    return _handle(nvml, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))


@cache
def _handle(nvml: ModuleType, uuid: str) -> object:
    """The NVML device of a UUID; of the user's choice in CUDA_VISIBLE_DEVICES; or the largest."""
    if uuid:
        return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if first.isdigit() and int(first) < len(handles):
        return handles[int(first)]
    return max(handles, key=lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).total)
