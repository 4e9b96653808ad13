"""Measure a model at its true size on a small machine, with memory as resident set size.

`blockskip lab fullsize` writes a FLUX.1-dev-shaped checkpoint with random weights. On the CPU, at a
small latent size, it computes residual windows, takes training steps at (19,10) and saves a
checkpoint, counting how often each weight is read. Then it runs the same inputs through diffusers'
group offloading to disk, block by block. `--part text` encodes captions with a text encoder of
T5-XXL's size.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blockskip.core.settings import ALL_BLOCKS, Settings, settings_to_dict
from blockskip.core.units import GIB
from blockskip.lab.bench import worker
from blockskip.lab.full_size import random_model
from blockskip.lab.measuring.process_memory import MemoryWatch
from blockskip.memory.block_wrappers import per_caption_blocks
from blockskip.memory.placement import on_device, replace_modules
from blockskip.memory.streaming import offload
from blockskip.models.families.base import Text
from blockskip.models.families.flux import Flux
from blockskip.models.sources.tensor_reader import index_folder
from blockskip.training.residuals import WindowInputs, full_velocity

CPU = torch.device("cpu")
LogFn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure. skip: blocks (front, back). side_px and text_tokens: of a draw."""

    work: Path
    shape: dict
    skip: tuple[int, int] = (19, 10)
    draws: int = 16  # per window
    batch: int = 8
    windows: int = 2
    side_px: int = 64
    text_tokens: int = 16
    precision: str = "full"
    middle: str = "stays"
    compare: bool = True
    rounds: int = 3  # of the comparison


def run_full_size(job: Job, say: LogFn = lambda line: None) -> dict:
    """Run the job and return a JSON-ready report. Raises UserError if the disk is too small."""
    folder = job.work / "transformer"
    total = _write_weights(random_model.flux(job.shape), folder, say)
    report = {
        "weights": "random",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "checkpoint_bytes": total,
        "settings": {k: v for k, v in asdict(job).items() if k not in ("work", "shape")},
        "training": _train(job, total, say),
    }
    if job.compare:
        report["beside_diffusers"] = _compare(job, folder, say)
    return report


def _write_weights(model: nn.Module, folder: Path, say: LogFn) -> int:
    return random_model.write_checkpoint(
        model,
        folder,
        progress=lambda n, total: say(f"written {n / GIB:.1f} of {total / GIB:.1f} GiB"),
    )


def _training_job(job: Job) -> tuple[worker.Job, Settings]:
    """Return the job in the form of the benchmark's worker, with its settings."""
    per_window = job.draws // job.batch
    settings = Settings.of(
        s_min_px=job.side_px,
        s_max_px=2 * job.side_px,
        text_tokens=job.text_tokens,
        front=job.skip[0],
        back=job.skip[1],
        batch=job.batch,
        steps=job.windows * per_window,
        window_steps=per_window,
        recomputed=ALL_BLOCKS,
        middle=job.middle,
        precision=job.precision,
        ram_weights_gib=0,
    )
    common = {"name": "fullsize", "shape": job.shape, "folder": str(job.work), "dtype": "bfloat16"}
    return worker.Job(settings=settings_to_dict(settings), windows=True, **common), settings


def _inputs(job: Job) -> WindowInputs:
    num, cells, shape = job.draws, job.side_px // Flux.pixel_multiple, job.shape
    source = torch.Generator().manual_seed(0)

    def noise(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=source).bfloat16()

    return WindowInputs(
        noise(num, cells * cells, shape["in_channels"]),
        Text(
            noise(num, job.text_tokens, shape["joint_attention_dim"]),
            noise(num, shape["pooled_projection_dim"]),
        ),
        torch.rand(num, generator=source),
        job.side_px,
    )


def _train(job: Job, total: int, say: LogFn) -> dict:
    """Run windows, steps and a checkpoint; return bytes read, seconds and memory peaks."""
    training, settings = _training_job(job)
    model, store = worker.open_streamed(training, settings, CPU)
    steps, windows, earlier_reads = [], [], Counter()
    window_seconds: list[float] = []

    @contextmanager
    def timed(_: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        window_seconds.append(time.perf_counter() - began)

    with MemoryWatch() as watch:
        trainer = worker.make_trainer(training, settings, model, CPU, stage=timed)
        earlier_bytes = 0
        for event in trainer.run():
            steps.append(event.seconds)
            if (trainer.step - 1) % trainer.settings.plan.window_steps == 0:
                reads, bytes_read = (
                    Counter(store.stats.reads),
                    store.stats.read_bytes - earlier_bytes,
                )
                most_reads = max((reads - earlier_reads).values())
                windows.append({"read_bytes": bytes_read, "most_often_read": most_reads})
                earlier_reads, earlier_bytes = reads, store.stats.read_bytes
                say(
                    f"window {len(windows)}: {bytes_read / GIB:.2f} GiB read, no weight more than {most_reads}×"
                )
            say(f"step {event.step}: loss {event.loss:.4f}, {event.seconds:.2f} s")
        trainer.save(job.work / "checkpoint.safetensors")
    return {
        "peak": watch.to_dict(),
        "windows": windows,
        "window_seconds": round(sum(window_seconds) / len(window_seconds), 2),
        "step_seconds": [round(s, 2) for s in steps],
        "first_window_read_once_bytes": total,
        "brought_bytes": store.stats.transferred_bytes,
    }


def _compare(job: Job, folder: Path, say: LogFn) -> dict:
    """Run the full model on the same draws, streamed by us and by diffusers in turn, each with the
    page cache evicted. Returns differences of block outputs, seconds per draw and peaks."""
    inputs = _inputs(job)
    model, store = worker.open_streamed(*_training_job(job), CPU)
    other = _group_offloaded(job, folder)
    tensors = (inputs.noisy, inputs.text, inputs.t)
    model_inputs = Flux().inputs(model.config, *tensors, inputs.side_px)
    sides = {
        "ours": (model, folder, lambda: full_velocity(model, Flux(), inputs, job.draws, CPU)),
        "diffusers": (other, job.work / "offload", lambda: other(**model_inputs)[0]),
    }
    outputs: dict[str, dict[str, tuple[Tensor, ...]]] = {}
    watches: dict[str, list[MemoryWatch]] = {name: [] for name in sides}
    for n in range(job.rounds):
        for name, (side, files, forward) in sides.items():
            random_model.evict_page_cache(files)
            with _recorded_outputs(side) as blocks, torch.no_grad(), MemoryWatch() as watch:
                velocity = forward()
            outputs[name] = blocks | {"velocity": (velocity,)}
            watches[name].append(watch)
            say(f"round {n + 1}, {name}: {watch.seconds / job.draws:.3f} s a draw")
    differences = {
        name: max(
            float((a.float() - b.float()).abs().max())
            for a, b in zip(tensors, outputs["diffusers"][name], strict=True)
        )
        for name, tensors in outputs["ours"].items()
    }
    output = differences.pop("velocity")
    faster = [b.seconds / a.seconds for a, b in zip(*watches.values(), strict=True)]
    return {
        "draws": job.draws,
        **{name: _watch_summary(job, each) for name, each in watches.items()},
        "times_faster": [round(times, 2) for times in faster],
        "ours_read_bytes": store.stats.read_bytes // job.rounds,
        "blocks_compared": len(differences),
        "largest_difference_of_a_block": max(differences.values()),
        "largest_difference_of_the_output": output,
    }


def _watch_summary(job: Job, watches: list[MemoryWatch]) -> dict:
    seconds = [watch.seconds / job.draws for watch in watches]
    return {
        "anon_gib": round(max(watch.anon_gib for watch in watches), 3),
        "file_gib": round(max(watch.file_gib for watch in watches), 3),
        "seconds_a_draw": round(statistics.median(seconds), 3),
        "each": [round(value, 3) for value in seconds],
    }


@contextmanager
def _recorded_outputs(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, ...]]]:
    """Context manager that yields the outputs of every block, by its name."""
    outputs: dict[str, tuple[Tensor, ...]] = {}
    handles = [
        block.register_forward_hook(
            lambda _m, _i, output, name=name: outputs.__setitem__(name, tuple(output))
        )
        for name, block in Flux().blocks(model)
    ]
    yield outputs
    for handle in handles:
        handle.remove()


def _group_offloaded(job: Job, folder: Path) -> nn.Module:
    """Return the model with diffusers' group offloading, a file per block. diffusers needs the
    whole model first, so its weights are memory-mapped."""
    from safetensors.torch import load_file

    model = random_model.flux(job.shape)
    for shard in sorted(folder.glob("*.safetensors")):
        model.load_state_dict(load_file(shard), assign=True, strict=False)
    (job.work / "offload").mkdir(exist_ok=True)
    model.enable_group_offload(
        onload_device=CPU,
        offload_device=CPU,
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(job.work / "offload"),
    )
    return model


@torch.no_grad()
def fullsize_text(
    work: Path, shape: dict, captions: int = 1, tokens: int = 512, say: LogFn = lambda line: None
) -> dict:
    """Encode captions with a random text encoder of that shape, and return the costs."""
    folder = work / "text_encoder_2"
    total = _write_weights(random_model.t5(shape), folder, say)
    random_model.evict_page_cache(folder)
    model = random_model.t5(shape)
    store = offload(model, index_folder(folder))
    ids = torch.randint(
        0, shape["vocab_size"], (captions, tokens), generator=torch.Generator().manual_seed(0)
    )
    with (
        MemoryWatch() as watch,
        replace_modules(model, per_caption_blocks(model, CPU)),
        on_device(CPU, model),
    ):
        embeds = model(ids)[0]
    return {
        "weights": "random",
        "checkpoint_bytes": total,
        "captions": captions,
        "tokens": tokens,
        "finite": bool(embeds.isfinite().all()),
        "read_bytes": store.stats.read_bytes,
        "most_often_read": max(store.stats.reads.values()),
        "peak": watch.to_dict(),
    }
