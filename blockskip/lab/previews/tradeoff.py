"""Measure the speed of fast previews against their quality: every method on the same prompts and
noise.

Quality is fidelity to the exact sampler's pictures: the mean pixel distance and, on the demo model,
the share of the prompt that its judge sees. Speed is in counted FLOPs and in seconds relative to
the exact sampler's. Methods take turns batch by batch in one process. On a CPU, seconds are process
time, so that other work does not count. Measured batches are kept, so a stopped measurement
resumes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from blockskip.core import files
from blockskip.core.errors import BadInput
from blockskip.core.paths import adapter_file
from blockskip.lab.demo_world.captions import fresh_captions
from blockskip.lab.evaluation.demo_judge import PLACES, judge_and_photos, named_attributes
from blockskip.lab.measuring.model_session import ModelSession
from blockskip.lab.measuring.sheets import make_strip, split_strip
from blockskip.lab.previews.distil import captions
from blockskip.lab.previews.sampling_methods import (
    EXACT,
    SamplingMethod,
    file_stem,
    sampling_methods,
)
from blockskip.runs.checkpoints import load_lora
from blockskip.runs.demo_judge import load_judge
from blockskip.runs.run import Run
from blockskip.sampling import dynamic_patches, patch_adapters
from blockskip.sampling.key_steps import KeySteps, choose_key_steps, skip_losses
from blockskip.sampling.sample import SAMPLE_BATCH
from blockskip.training.lora import restore


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. run: samples its pet with its LoRA, None for the untrained model. adapters:
    their file, None for the model's own if it has one. steps: sampling steps, a table for each."""

    work: Path
    model: str = "demo"
    run: Run | None = None
    adapters: Path | None = None
    prompts: int = 64
    steps: tuple[int, ...] = (50, 12)
    budget_gib: float = 8.0


class UncorrectedPatches(dynamic_patches.PatchScheduler):
    """Larger patches without correction of the coarse velocities, as in the paper (DDiT)."""

    def correction(self, *_: object) -> Tensor:
        return torch.zeros(())


class Sampler(ModelSession):
    """A model with its adapters and the prompts to sample. judge_metric: the name of `judge`'s
    score. Raises UserError if the model is missing."""

    judge_metric = "as asked"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.model, plan.budget_gib)
        path = plan.adapters or adapter_file(plan.model)
        usable = path.exists() and self.family.patch_modules
        self.adapters = (
            patch_adapters.load(path, self.transformer, self.family)[0] if usable else {}
        )
        self.prompts = self.prompts_for(plan)
        self.text = self.encode([*self.prompts, ""])
        self._mag_ratios: dict[int, list[float]] = {}
        self._skip_losses: dict[int, Tensor] = {}

    def prompts_for(self, plan: Plan) -> list[str]:
        """Return the prompts to sample."""
        # the scenes that the demo judge is asked about
        self.scene_captions = fresh_captions(plan.prompts, seed=7) if self.row.demo else []
        return [text for text, *_ in self.scene_captions] or captions(
            self.row, plan.prompts, seed=1
        )

    def judge(self, images: Sequence[Image.Image]) -> Tensor | None:
        """Return, for one picture per prompt, the share (n,) of its caption's attributes that the
        demo judge sees. Returns None without a judge."""
        if not self.scene_captions:
            return None
        shares = []
        for answers, caption in zip(
            load_judge().attributes(images), self.scene_captions, strict=True
        ):
            asked = named_attributes(*caption)
            shares.append(sum(answers[name] == value for name, value in asked.items()) / len(asked))
        return torch.tensor(shares)

    def methods(self, steps: int) -> list[SamplingMethod]:
        """Return the methods to measure, the exact one first."""
        return [EXACT, *sampling_methods(steps, bool(self.adapters))]

    def run(
        self, method: SamplingMethod, rows: range, steps: int
    ) -> tuple[list[Image.Image], list[int], list[int]]:
        """Sample the prompts `rows`. Returns the pictures and, for each step, its patch factor and
        its number of full passes (0: cached, 2: one redoes the step before; always 1 in the
        first)."""
        dynamic, cache = (
            None,
            FirstBlockCacheConfig(method.first_block_threshold)
            if method.first_block_threshold
            else None,
        )
        if method.schedule:
            scheduler_type = (
                dynamic_patches.PatchScheduler if method.with_correction else UncorrectedPatches
            )
            dynamic = scheduler_type(self.transformer, self.family, self.adapters, method.schedule)
        if method.mag_threshold:
            ratios = self.mag_ratios(steps)
            cache = MagCacheConfig(
                method.mag_threshold, num_inference_steps=steps, mag_ratios=ratios
            )
        if method.num_key_steps:
            cache = KeySteps(frozenset(self.key_steps(steps, method.num_key_steps)))
        seeds = [100_003 + row for row in rows]
        with self._count_passes() as passes:
            text, negative = self.text.rows(rows), self.text.rows([-1])
            images = self.sample(text, negative, seeds, steps, cache, dynamic)
        # a block runs once for each part of a batch, so counts are relative to the first step's
        passes = [num // passes[0] for num in passes[:: len(passes) // steps]]
        return images, dynamic.factors if dynamic else [1] * steps, passes

    def key_steps(self, steps: int, num: int) -> tuple[int, ...]:
        """Return the `num` key steps to compute, chosen by measurements on the last prompts."""
        if steps not in self._skip_losses:
            recorded = KeySteps(None)
            self._sample_calibration(steps, recorded)
            sigmas = self.pipe.scheduler.sigmas.tolist()
            self._skip_losses[steps] = skip_losses(recorded.deltas, sigmas)
        return choose_key_steps(self._skip_losses[steps], num)

    def provenance(self) -> dict:
        """Return what measurements depend on besides methods and steps, JSON-ready."""
        weights = {
            f"{factor}.{name}": tensor
            for factor, adapter in self.adapters.items()
            for name, tensor in adapter.state_dict().items()
        }
        return {
            "model": self.source.fingerprint(),
            "adapters": weights_hash(weights),
            "prompts": self.prompts,
        }

    @contextlib.contextmanager
    def _count_passes(self) -> Iterator[list[int]]:
        """Context manager that yields a list: for every model call, how often its last block
        ran."""
        passes: list[int] = []

        def count(*_: object) -> None:
            passes[-1] += 1

        hooks = [
            self.transformer.register_forward_pre_hook(lambda *_: passes.append(0)),
            self.family.blocks(self.transformer)[-1][1].register_forward_hook(count),
        ]
        try:
            yield passes
        finally:
            for hook in hooks:
                hook.remove()

    def mag_ratios(self, steps: int) -> list[float]:
        """Return MagCache's ratios, calibrated on the last prompts. diffusers only prints them."""
        if steps not in self._mag_ratios:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                self._sample_calibration(
                    steps, MagCacheConfig(num_inference_steps=steps, calibrate=True)
                )
            lists = [line for line in printed.getvalue().splitlines() if line.startswith("[")]
            self._mag_ratios[steps] = json.loads(lists[-1])
        return self._mag_ratios[steps]

    def _sample_calibration(self, steps: int, cache: object) -> None:
        """Sample the last prompts with other noise, so that `cache` records its calibration."""
        num = len(self.prompts)
        rows = range(max(0, num - SAMPLE_BATCH), num)
        seeds = [7 + row for row in rows]
        self.sample(self.text.rows(rows), self.text.rows([-1]), seeds, steps, cache)


class TunedSampler(Sampler):
    """The demo model with a run's LoRA, and prompts for its pet, alone and in two places. Raises
    UserError for a run on another model."""

    judge_metric = "likeness"

    def __init__(self, plan: Plan) -> None:
        self._run_hash, self._photos = plan.run.fingerprint(), judge_and_photos(plan.run)[1]
        s = plan.run.settings()
        if s.model != plan.model:
            raise BadInput(
                f"Run “{plan.run.name}” trains {s.model}, not {plan.model}.",
                f"Give --model {s.model}, or another run.",
            )
        super().__init__(plan)
        self._lora = self.add_lora(s)
        self._trained_weights = load_lora(plan.run)
        restore(self._lora, self._trained_weights)

    def prompts_for(self, plan: Plan) -> list[str]:
        subject = plan.run.settings().subject_caption
        every = [subject, *(f"{subject} {place}" for place in PLACES.values())]
        return [every[k % len(every)] for k in range(plan.prompts)]

    def _sample_calibration(self, steps: int, cache: object) -> None:
        """Calibrate without the LoRA, since one calibration per model serves all pets."""
        restore(self._lora, {name: torch.zeros_like(weight) for name, weight in self._lora.items()})
        super()._sample_calibration(steps, cache)
        restore(self._lora, self._trained_weights)

    def judge(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the likeness (n,) to the run's photos by the demo judge."""
        return load_judge().identity(images, self._photos)

    def provenance(self) -> dict:
        return super().provenance() | {
            "run": self._run_hash,
            "lora": weights_hash(self._trained_weights),
        }


def weights_hash(weights: dict[str, Tensor]) -> str:
    """Return a SHA-256 hash of names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def open_sampler(plan: Plan) -> Sampler:
    """Open the sampler of the plan's run, or of its untrained model. Raises UserError."""
    return TunedSampler(plan) if plan.run else Sampler(plan)


def measure(plan: Plan, sampler: Sampler, say: Callable[[str], None]) -> None:
    """Measure all methods in turn, batch by batch, so that other work on the machine affects all
    alike. The pictures of a method and batch are a PNG, its figures in `measured.json` beside it.
    Raises UserError if the folder holds measurements of another model, adapters or prompts."""
    path, provenance = plan.work / "measured-on.json", sampler.provenance()
    if path.exists() and files.read_json(path) != provenance:
        raise BadInput(
            f"{plan.work} holds measurements of another model, adapters or prompts.",
            "Give --work a new folder.",
        )
    files.write_json(path, provenance)
    for steps in plan.steps:
        methods = sampler.methods(steps)
        for start in range(0, len(sampler.prompts), SAMPLE_BATCH):
            rows = range(start, min(start + SAMPLE_BATCH, len(sampler.prompts)))
            folder = plan.work / f"{steps}-{start:03d}"
            path = folder / "measured.json"
            known = files.read_json(path) if path.exists() else {}
            missing = [method for method in methods if method.name not in known]
            if not missing:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            new = {
                method.name: _measure_batch(sampler, method, rows, steps, folder)
                for method in missing
            }
            files.write_json(path, known | new)
            say(
                f"{steps} steps: {rows.stop}/{len(sampler.prompts)} pictures of {len(methods)} ways"
            )


def _measure_batch(
    sampler: Sampler, method: SamplingMethod, rows: range, steps: int, folder: Path
) -> dict:
    if method.mag_threshold:  # calibrated once per model, so not counted as a picture's time
        sampler.mag_ratios(steps)
    if method.num_key_steps:
        sampler.key_steps(steps, method.num_key_steps)
    clock = time.process_time if sampler.device.type == "cpu" else time.perf_counter
    began = clock()
    images, factors, passes = sampler.run(method, rows, steps)
    figures = {"seconds": clock() - began, "factors": factors, "passes": passes}
    if rows.start == 0:
        with FlopCounterMode(display=False) as counter:
            sampler.run(method, rows, steps)
        figures["flops"] = counter.get_total_flops()
    make_strip(images).save(folder / f"{file_stem(method)}.png")
    return figures


def pictures(plan: Plan, method: SamplingMethod, steps: int) -> list[Image.Image]:
    """Return the pictures of a method in the prompts' order."""
    paths = [folder / f"{file_stem(method)}.png" for folder in batch_folders(plan, steps)]
    return [image for path in paths for image in split_strip(path)]


def measurements(plan: Plan, method: SamplingMethod, steps: int) -> list[dict]:
    """Return the figures of a method, batch by batch."""
    return [
        files.read_json(folder / "measured.json")[method.name]
        for folder in batch_folders(plan, steps)
    ]


def batch_folders(plan: Plan, steps: int) -> list[Path]:
    """Return the folders of the measured batches in the prompts' order."""
    return [path.parent for path in sorted(plan.work.glob(f"{steps}-*/measured.json"))]
