"""How fast this computer was measured to be (memory/measure_speed.py), kept in the data folder, and
the rates that plans count with. No torch.

What was measured counts for one graphics card, driver and version of torch, and is measured again
when one of them changes.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir
from blockskip.core.presets import ModelRow, compiling_table
from blockskip.core.settings import Settings
from blockskip.memory import monitor
from blockskip.memory.planning.duration import Rates, run_seconds, usual_rates

log = logging.getLogger(__name__)
FORMAT = 1
NARROW = 512  # up to this width, a model's blocks are as slow as the demo model's
Rate = Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]
_STRICT = ConfigDict(extra="forbid")
T = TypeVar("T")
ByThreads = Annotated[dict[int, T], Field(min_length=1)]


@dataclass(frozen=True)
class Computer:
    """What a measurement counts for. card, driver: "" without an NVIDIA card."""

    card: str
    driver: str
    torch: str
    cores: int


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class PassRates:
    """Of passes through blocks. tflops: of their products, all else that a pass does included.
    launch_ms: of a pass of next to nothing. backward: times that a backward pass takes of a forward
    one through as many products."""

    tflops: Rate
    launch_ms: Amount
    backward: Rate


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class Speed:
    """What was measured. 0: not measured.

    device: cuda, cpu, …. product_tflops: of large square products, by type; float32 is the
    processor's. wide: blocks of FLUX.1's width in the card's 16 bits, None if they were not tried.
    wide_int8: those that multiply in 8 bits, rounding included. narrow: the demo model's, by the
    number of threads. encode_mps, decode_mps: megapixels a second through the demo model's VAE,
    likewise. disk_gbs: of a file that RAM does not hold. start_s: from a process's start to an open
    model.
    """

    format: int = FORMAT
    computer: Computer
    device: str
    product_tflops: dict[str, Rate]
    wide: PassRates | None = None
    wide_int8: PassRates | None = None
    narrow: ByThreads[PassRates]
    encode_mps: ByThreads[Rate]
    decode_mps: ByThreads[Rate]
    memory_gbs: Rate
    to_card_gbs: Amount = 0.0
    from_card_gbs: Amount = 0.0
    disk_gbs: Amount = 0.0
    context_gib: Amount = 0.0
    start_s: Amount = 0.0


def this_computer() -> Computer:
    """Return the card, its driver and torch's version, without loading torch."""
    return Computer(
        monitor.card_name(), monitor.driver_version(), _torch_version(), os.cpu_count() or 1
    )


@cache  # the page asks every second, and an update ends this process
def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def save(speed: Speed) -> None:
    """Keep a measurement in the data folder. Raises OSError."""
    files.write_json(_path(), to_json(speed))


def load() -> Speed | None:
    """Return the measurement of this computer, None if there is none, it is damaged, or the card,
    the driver or torch have changed since."""
    try:
        speed = files.read_json(_path(), Speed)
    except FileNotFoundError:
        return None
    except (OSError, UserError) as error:
        _warn(str(error))
        return None
    return speed if (speed.format, speed.computer) == (FORMAT, this_computer()) else None


@cache
def _warn(problem: str) -> None:
    """Say once that the measurement is not used: a page asks for it every second."""
    log.warning("the measured speed is not used: %s", problem)


def is_known() -> bool:
    """Return whether this computer was measured, a card with FLUX.1's blocks too: it may have had no
    room for them."""
    speed = load()
    return speed is not None and (speed.device != "cuda" or speed.wide is not None)


def measured_rates(speed: Speed, row: ModelRow, settings: Settings) -> Rates | None:
    """Return the rates of a run, None if what it runs on was not measured."""
    if settings.device not in ("auto", speed.device):
        return None
    passes, on_cpu = _passes(speed, row, settings), speed.device == "cpu"
    if passes is None:
        return None
    usual, rounds = usual_rates(), passes is speed.wide_int8
    return Rates(
        tflops=passes.tflops,
        launch_ms=passes.launch_ms,
        backward=passes.backward,
        launches_wait=on_cpu,
        memory_gbs=math.inf if rounds else speed.memory_gbs,  # rounding is part of its passes
        bus_gbs=math.inf if on_cpu else speed.to_card_gbs or usual.bus_gbs,
        disk_gbs=speed.disk_gbs or usual.disk_gbs,
        encode_mps=_of_threads(speed.encode_mps, settings) if row.demo else math.inf,
        decode_mps=_of_threads(speed.decode_mps, settings) if row.demo else math.inf,
        start_s=speed.start_s,
    )


def compiling_pays(row: ModelRow, settings: Settings) -> bool:
    """Return whether compiled blocks save more of a run's time than compiling takes."""
    speed, table = load(), compiling_table()
    measured = measured_rates(speed, row, settings) if speed else None
    seconds = run_seconds(row, settings, measured or usual_rates())
    return seconds * table["saves"] > table["seconds"]


def _passes(speed: Speed, row: ModelRow, settings: Settings) -> PassRates | None:
    if row.width <= NARROW:
        return _of_threads(speed.narrow, settings)
    if speed.device == "cpu":
        tflops = speed.product_tflops.get("float32")
        return PassRates(tflops=tflops, launch_ms=0, backward=1) if tflops else None
    return speed.wide_int8 if settings.plan.int8_products and speed.wide_int8 else speed.wide


def _of_threads(measured: dict[int, T], settings: Settings) -> T:
    """Return what was measured with as many threads as a run has, else with the next fewer."""
    most = max(measured)
    wanted = settings.threads or most
    return measured[max((num for num in measured if num <= wanted), default=min(measured))]


def describe(speed: Speed) -> list[str]:
    """Return what was measured, a clause each."""
    blocks = speed.wide or speed.narrow[max(speed.narrow)]
    kind = "FLUX.1's width" if speed.wide else "the demo model's width"
    clauses = [f"{name}: {rate:.3g} TFLOP/s" for name, rate in speed.product_tflops.items()]
    in_int8 = f" ({speed.wide_int8.tflops:.3g} in 8 bits)" if speed.wide and speed.wide_int8 else ""
    clauses.append(
        f"blocks of {kind}: {blocks.tflops:.3g} TFLOP/s{in_int8}, {blocks.launch_ms:.2g} ms each"
    )
    if speed.to_card_gbs:
        copies = f"copies: {speed.to_card_gbs:.3g} GB/s to the card, {speed.from_card_gbs:.3g} back"
        clauses += [copies, f"context: {speed.context_gib:.2g} GiB"]
    disk = f"{speed.disk_gbs:.2g} GB/s" if speed.disk_gbs else "not measured (the files are in RAM)"
    return [*clauses, f"memory: {speed.memory_gbs:.3g} GB/s", f"disk: {disk}"]


def to_json(speed: Speed) -> dict:
    """Return a measurement, JSON-ready."""
    return json.loads(TypeAdapter(Speed).dump_json(speed))


def _path() -> Path:
    return data_dir() / "speed.json"
