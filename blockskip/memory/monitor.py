"""Memory in use: RAM from psutil, the whole GPU from NVML, this process's share of it from torch.

This module never imports torch. The studio calls `usage` and does not load torch. In the worker,
which does, `memory_event` takes it from `sys.modules`. Unknown values are -1, never a guess.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import psutil

from blockskip.core.events import Memory
from blockskip.core.units import GIB
from blockskip.memory import cards

log = logging.getLogger(__name__)
UNKNOWN = -1.0


@dataclass(frozen=True)
class Usage:
    """Memory of one process, of this machine and of the GPU (all programs), in GiB."""

    rss_gib: float
    ram_used_gib: float
    ram_total_gib: float
    vram_used_gib: float
    vram_total_gib: float

    @property
    def vram_free_gib(self) -> float:
        """Unused GPU memory, in GiB; -1 without a GPU."""
        known = self.vram_total_gib > 0
        return self.vram_total_gib - self.vram_used_gib if known else UNKNOWN


def usage(pid: int | None = None) -> Usage:
    """Return the memory in use. pid: the process to report the RAM of; None means this one."""
    ram = psutil.virtual_memory()
    used, total = _card()
    return Usage(
        rss_gib=_rss(pid),
        ram_used_gib=(ram.total - ram.available) / GIB,
        ram_total_gib=ram.total / GIB,
        vram_used_gib=used,
        vram_total_gib=total,
    )


def free_ram_gib() -> float:
    """Return the RAM that is free now, in GiB, with what this process and those that it started
    hold, since a run takes their place."""
    me, held = psutil.Process(), 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended
            held += process.memory_info().rss
    return (psutil.virtual_memory().available + held) / GIB


def memory_event(folder: Path | None = None, run_gib: float = UNKNOWN) -> Memory:
    """Return the worker's memory as an event. vram_gib includes the allocator's unused blocks.

    folder: the run's folder, to report the free space of its drive. run_gib: the size of that
    folder, passed in because it is slow to measure.
    """
    torch, (used, total) = _cuda(), _card()
    now = usage()
    reserved = torch.cuda.memory_reserved() / GIB if torch else UNKNOWN
    if torch and total < 0:
        free_bytes, total_bytes = torch.cuda.mem_get_info()
        used, total = (total_bytes - free_bytes) / GIB, total_bytes / GIB
    return Memory(
        rss_gib=now.rss_gib,
        ram_used_gib=now.ram_used_gib,
        vram_gib=reserved,
        ram_total_gib=now.ram_total_gib,
        vram_used_gib=used,
        vram_total_gib=total,
        disk_free_gib=disk_free_gib(folder) if folder else UNKNOWN,
        disk_run_gib=run_gib,
        card_celsius=card_celsius(),
    )


def disk_free_gib(folder: Path) -> float:
    """Return the free space on a folder's drive, in GiB; -1 if unknown."""
    try:
        return shutil.disk_usage(folder).free / GIB
    except OSError:
        return UNKNOWN


@dataclass(frozen=True)
class Commit:
    """What Windows can promise to all programs: RAM and page file, in GiB. It counts a card's
    memory in use too (EveryDream2 issue 163, ollama issue 8825)."""

    limit_gib: float
    free_gib: float
    page_file_gib: float


def commit() -> Commit | None:
    """Return Windows' commit limit, None on other systems, which promise more than they have."""
    status = _memory_status()
    if status is None:
        return None
    limit, physical = status.page_file_total / GIB, status.physical_total / GIB
    return Commit(limit, status.page_file_free / GIB, limit - physical)


@dataclass(frozen=True)
class Activity:
    """What may slow this process down. Counts are from the beginning of the process or the system.

    full: share of the GPU's memory in use. held_gib: by torch's allocator. retries: times that it
    freed its unused blocks to serve a request. programs: ids of the others on the GPU. swapped_gib:
    by the whole system. read_gib: from the disk, by this process. others_cpu_s: processor time of
    all other processes together.
    """

    full: float = UNKNOWN
    held_gib: float = UNKNOWN
    retries: int = 0
    celsius: float = UNKNOWN
    programs: frozenset[int] = frozenset()
    ram_free: float = 1.0  # share of the RAM
    swapped_gib: float = 0.0
    read_gib: float = 0.0
    others_cpu_s: float = 0.0


def activity() -> Activity:
    """Return what may slow this process down now."""
    torch, now, me = _cuda(), usage(), psutil.Process()
    read, swapped = 0.0, 0.0
    with suppress(psutil.Error, AttributeError, OSError):  # not every system tells
        read = me.io_counters().read_bytes / GIB
    with suppress(psutil.Error, RuntimeError, OSError):
        swap = psutil.swap_memory()
        swapped = (swap.sin + swap.sout) / GIB
    return Activity(
        full=now.vram_used_gib / now.vram_total_gib if now.vram_total_gib > 0 else UNKNOWN,
        held_gib=torch.cuda.memory_reserved() / GIB if torch else UNKNOWN,
        retries=torch.cuda.memory_stats().get("num_alloc_retries", 0) if torch else 0,
        celsius=card_celsius(),
        programs=frozenset(card_processes()),
        ram_free=1 - now.ram_used_gib / now.ram_total_gib,
        swapped_gib=swapped,
        read_gib=read,
        others_cpu_s=_busy_cpu_s() - sum(me.cpu_times()[:2]),
    )


def _busy_cpu_s() -> float:
    """Return the seconds that all processors together have worked since the system started."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX. What it calls page file is RAM and page file together."""

    _fields_: ClassVar = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *(
            (f"{kind}_{which}", ctypes.c_uint64)
            for kind in ("physical", "page_file", "virtual")
            for which in ("total", "free")
        ),
        ("extended_free", ctypes.c_uint64),
    ]


def _memory_status() -> Any:
    windll = getattr(ctypes, "windll", None)
    if windll is None:
        return None
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    return status if windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def card_processes() -> dict[int, float]:
    """Return the GPU memory in GiB of each process on the card, by its id; -1 where unknown.

    Windows does not tell it. This process and those that it started are left out.
    """
    found: dict[int, float] = {}
    for kind in ("Compute", "Graphics"):
        for process in _ask(f"nvmlDeviceGet{kind}RunningProcesses") or ():
            held = process.usedGpuMemory
            gib = UNKNOWN if held is None else held / GIB
            found[process.pid] = max(gib, found.get(process.pid, UNKNOWN))
    me = psutil.Process()
    for own in (me, *me.children(recursive=True)):
        found.pop(own.pid, None)
    return found


def card_name() -> str:
    """Return the name of the GPU that `usage` reports on, "" without one."""
    return str(_ask("nvmlDeviceGetName") or "")


def compute_capability() -> float:
    """Return the GPU's compute capability, such as 8.6; -1 without one or if it is not NVIDIA's."""
    capability = _ask("nvmlDeviceGetCudaComputeCapability")
    return float("{}.{}".format(*capability)) if capability else UNKNOWN


def driver_version() -> str:
    """Return the version of NVIDIA's driver, "" without one."""
    nvml = _nvml()
    if nvml is None:
        return ""
    try:
        return str(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError as error:  # it was updated meanwhile
        log.debug("the driver does not tell its version: %s", error)
        return ""


def card_celsius() -> float:
    """Return the GPU's temperature, in °C; -1 if unknown."""
    return _temperature("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU")


def slowdown_celsius() -> float:
    """Return the temperature at which the GPU throttles, in °C; -1 if unknown."""
    return _temperature("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN")


def _temperature(function: str, constant: str) -> float:
    degrees = _ask(function, constant)
    return float(degrees) if degrees is not None and degrees > 0 else UNKNOWN


def pin_card() -> None:
    """Let this process and those that it starts use only the card that `usage` reports on.

    CUDA and NVML number cards differently. A UUID means the same to both. Call this before CUDA is
    initialised.
    """
    if uuids := list(card_sizes_gib()):
        os.environ.setdefault(cards.ALLOWED, ",".join(uuids))
        os.environ[cards.VISIBLE] = uuids[0]


def card_sizes_gib() -> dict[str, float]:
    """Return the memory of every card that training may use by UUID, the chosen one first."""
    nvml = _nvml()
    try:
        return {uuid: size / GIB for uuid, size in cards.usable(nvml).items()} if nvml else {}
    except nvml.NVMLError as error:  # type: ignore[union-attr]  # without NVML nothing is raised
        log.debug("the cards are not known: %s", error)
        return {}


def card_peaks_gib() -> tuple[float, float]:
    """Return the peak (allocated, reserved) by torch since `reset_card_peaks`, in GiB.

    (-1, -1) without a GPU in use.
    """
    torch = _cuda()
    if torch is None:
        return UNKNOWN, UNKNOWN
    return torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB


def reset_card_peaks() -> None:
    """Reset torch's peak counters; current usage stays."""
    torch = _cuda()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_rss_gib() -> float:
    """Return the peak RAM of this process, in GiB."""
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
    """Return torch if this process has already initialised CUDA. The check never initialises it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _card() -> tuple[float, float]:
    """Return (used, total) of torch's default GPU, in GiB; (-1, -1) without one."""
    info = _ask("nvmlDeviceGetMemoryInfo")
    return (UNKNOWN, UNKNOWN) if info is None else (info.used / GIB, info.total / GIB)


def _ask(function: str, *constants: str) -> Any:
    """Return NVML's answer about torch's default GPU, None without one or if it does not tell."""
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        arguments = [getattr(nvml, name) for name in constants]
        return getattr(nvml, function)(_device(nvml), *arguments)
    except (nvml.NVMLError, AttributeError) as error:  # not every GPU and version tells everything
        log.debug("%s: %s", function, error)
        return None


@cache
def _nvml() -> ModuleType | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml if pynvml.nvmlDeviceGetCount() > 0 else None
    except Exception as error:  # no package, no driver, or a broken driver: all mean "unknown"
        log.debug("NVML is not available: %s", error)
        return None


def _device(nvml: ModuleType) -> object:
    """Return the NVML device that torch uses, or would use. Raises NVMLError if there is none."""
    torch = _cuda()
    used = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid) if torch else ""
    return cards.handle(nvml, used or cards.chosen_uuid(nvml))
