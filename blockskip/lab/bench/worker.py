"""Run one contender of the benchmark: `python -m blockskip.lab.bench.worker JOB REPORT`.

Each runs in its own process, so that its peak is its own. It runs the real loop: a residual window,
then every step it serves. The first step is not timed (memory is touched and kernels are loaded),
the window is. On a GPU an untimed window comes first, for the same reason. Instead of timing, a job
can count FLOPs, and bytes by storage (lab/measuring/peak_memory.py).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from blockskip.core.settings import Settings, settings_from_dict
from blockskip.core.units import GIB
from blockskip.data.photos import Photo
from blockskip.data.schedule import build_schedule
from blockskip.lab.ablation.baselines import SwapTrainer
from blockskip.lab.bench.timeline import trace
from blockskip.lab.full_size.random_model import flux
from blockskip.lab.measuring.peak_memory import PeakMeter
from blockskip.lab.measuring.process_memory import MemoryWatch, memory_now
from blockskip.lab.measuring.subprocess_job import serve
from blockskip.memory import int8_products
from blockskip.memory.placement import pick_device
from blockskip.memory.planning.oom_fallback import is_out_of_memory
from blockskip.memory.quantised_cache import cache_folder, quantise_blocks
from blockskip.memory.streaming import WeightStore, offload
from blockskip.memory.vram_cap import context_gib, limit_vram, room_gib, set_torch_backends
from blockskip.models.families.base import Text
from blockskip.models.families.flux import Flux
from blockskip.models.sources.tensor_reader import index_folder
from blockskip.sampling.arithmetic import choose_products
from blockskip.training.draws import TrainingData
from blockskip.training.residuals import full_velocity
from blockskip.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of one process. Its settings have a single window: steps equals window_steps.

    windows: use residual windows (BlockSkip), else a trainer of lab/ablation/baselines.py. shape:
    of the FLUX transformer. folder: holds `transformer/` and the windows. cap_gib: of GPU memory, 0
    for none.
    """

    name: str
    settings: dict
    windows: bool
    shape: dict
    dtype: str
    folder: str
    count: bool = False
    cap_gib: float = 0.0
    swapped: int = 0  # blocks loaded for every pass, without windows; 0: as set
    timeline: str = ""  # path prefix of profiler traces, one per stage; tracing slows the run
    most_steps: int = 0  # 0: all


@dataclass
class BenchRun:
    """A trainer, the store of its weights, and the costs of its stages."""

    device: torch.device
    settings: Settings
    trainer: Trainer
    store: WeightStore
    job: Job
    stages: dict[str, dict] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager that records the seconds and peak memory (GiB) of a stage."""
        card = torch.cuda if self.device.type == "cuda" else None
        if card:
            card.synchronize()
            card.reset_peak_memory_stats()
        figures: dict = {}
        path = Path(f"{self.job.timeline}-{name}.json")
        with MemoryWatch() as watch, trace(path, figures) if self.job.timeline else nullcontext():
            yield
            self.synchronize()
        figures |= watch.to_dict() | {"seconds": watch.seconds}
        if card:
            figures["allocated_gib"] = card.max_memory_allocated() / GIB
            figures["reserved_gib"] = card.max_memory_reserved() / GIB
        self.stages[name] = figures

    def synchronize(self) -> None:
        """Wait until the device has finished its queued work."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()


def open_streamed(
    job: Job, settings: Settings, device: torch.device
) -> tuple[torch.nn.Module, WeightStore]:
    """Return the empty transformer, quantised if set, and the store that loads its weights."""
    folder, dtype = Path(job.folder), getattr(torch, job.dtype)
    model, index = flux(job.shape, dtype), index_folder(folder / "transformer")
    if settings.plan.precision != "full":
        cache, blocks = _quantised_folder(job, settings), Flux().blocks(model)
        index = quantise_blocks(
            model,
            blocks,
            index,
            settings.plan.precision,
            cache,
            "random",
            device,
            rotates=settings.plan.int8_products,
        )
    # on the CPU, resident weights would not be streamed at all
    keep_bytes = settings.plan.ram_weights_gib * GIB if device.type != "cpu" else 0
    return model, offload(model, index, keep_bytes)


def _quantised_folder(job: Job, settings: Settings) -> Path:
    kind = settings.plan.precision + "-rotated" * settings.plan.int8_products
    return cache_folder(Path(job.folder), f"random-{job.dtype}", kind)


def make_trainer(
    job: Job, settings: Settings, model: torch.nn.Module, device: torch.device, **options: object
) -> Trainer:
    """Return the job's trainer with random latents (num_draws, T, 64) and one random caption."""
    side, shape = settings.plan.s_max_px, job.shape
    photo = Photo(path=Path("none.png"), caption="", width=side, height=side, sha="")
    draws = build_schedule([photo], settings, Flux.pixel_multiple)
    source, cells = torch.Generator().manual_seed(0), settings.plan.side_px // Flux.pixel_multiple
    latents = torch.randn(len(draws), cells * cells, shape["in_channels"], generator=source)
    embeds = torch.randn(
        1, settings.plan.text_tokens, shape["joint_attention_dim"], generator=source
    ).to(getattr(torch, job.dtype))
    pooled = torch.randn(1, shape["pooled_projection_dim"], generator=source).to(embeds.dtype)
    data = TrainingData(draws, latents, Text(embeds, pooled), [0], 0, 0)
    trainer_type = SwapTrainer if job.swapped else Trainer
    options |= {"swapped": job.swapped} if job.swapped else {}
    folder = Path(job.folder) / "windows" / job.name
    shutil.rmtree(folder, ignore_errors=True)  # an old window would be reused
    trainer = trainer_type(model, Flux(), settings, data, device, folder, "bench", **options)
    if settings.plan.int8_products and int8_products.available(device):
        choose_products(
            model,
            _quantised_folder(job, settings),
            lambda: full_velocity(model, Flux(), trainer.inputs(range(1)), 1, device),
        )
    return trainer


def work(job: Job) -> dict:
    """Run the job and return its costs, JSON-ready. Figures "a draw" count each use of a draw."""
    import peft  # noqa: F401  counts as part of the program, not of the model

    settings = settings_from_dict(job.settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = pick_device(settings.device)
    context = 0.0
    if device.type == "cuda":
        set_torch_backends()
        context = context_gib()
        if job.cap_gib:
            limit_vram(device, job.cap_gib)
    model, store = open_streamed(job, settings, device)
    before = sum(part for part in memory_now() if part > 0)
    report = {"name": job.name, "device": str(device), "context_gib": context}
    try:
        if job.count:
            return report | _count_flops(job, settings, model, device)
        with MemoryWatch() as watch:
            trainer = make_trainer(job, settings, model, device)
            bench = BenchRun(device, settings, trainer, store, job)
        opening = watch.to_dict()
        timed = _time_stages(bench)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not is_out_of_memory(error, room_gib):
            raise
        return report | {"failed": f"out of memory: {str(error).splitlines()[0][:200]}"}
    peaks = [opening, *bench.stages.values()]
    peak = max(peak["anon_gib"] + max(0.0, peak["file_gib"]) for peak in peaks)
    memory = {"before_gib": before, "peak_gib": peak, "opening": opening}
    return report | timed | {"memory": memory, "stages": bench.stages}


def _time_stages(bench: BenchRun) -> dict:
    settings, trainer, stats = bench.settings, bench.trainer, bench.store.stats
    uses = settings.steps * settings.plan.draws_per_step
    if bench.device.type != "cpu":
        trainer.make_window(0).unlink()  # loads kernels, as earlier windows of a run do
    before = stats.transferred_bytes
    with bench.stage("residuals"):
        path = trainer.make_window(0)  # `run` reuses it
    window_bytes = path.stat().st_size
    marks, losses = [time.perf_counter()], []
    with bench.stage("train"):
        for event in trainer.run():
            bench.synchronize()
            marks.append(time.perf_counter())
            losses.append(event.loss)
            if len(losses) == bench.job.most_steps:
                break
    steps = [b - a for a, b in zip(marks, marks[1:], strict=False)]
    timed = steps[1:] or steps
    window_s = bench.stages["residuals"]["seconds"] / uses
    step_s = sum(timed) / len(timed) / settings.plan.draws_per_step
    return {
        "draws": uses,
        "window_seconds_a_draw": window_s,
        "step_seconds_a_draw": step_s,
        "seconds_a_draw": window_s + step_s,
        "step_seconds": steps,
        "losses": losses,
        "weight_bytes_a_draw": (stats.transferred_bytes - before) / uses,
        "window_bytes_a_draw": window_bytes / uses,
    }


def _count_flops(
    job: Job, settings: Settings, model: torch.nn.Module, device: torch.device
) -> dict[str, float]:
    """Count the FLOPs per draw of a window and its first step and, on the CPU, the peak bytes."""
    with PeakMeter() as meter:
        trainer = make_trainer(job, settings, model, device)
        before = meter.flops  # of measuring the errors of products in 8 bits
        trainer.make_window(0)
        window = meter.flops - before
        losses = [next(iter(trainer.run())).loss]
        step = meter.flops - before - window
    per_step = settings.plan.draws_per_step
    counts = {
        "window_flops_a_draw": window / (settings.steps * per_step),
        "step_flops_a_draw": step / per_step,
        "losses": losses,
    }
    counts["flops_a_draw"] = counts["window_flops_a_draw"] + counts["step_flops_a_draw"]
    if device.type == "cpu":
        counts["storage_gib"] = meter.peak_bytes / GIB
    return counts


if __name__ == "__main__":
    serve(lambda job: work(Job(**job)))
