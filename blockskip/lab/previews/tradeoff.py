"""Speed of previews against what it costs: every way of sampling on the same prompts and noise, in turn.

Fidelity is to the exact sampler's pictures: the mean distance of pixels, and on the demo model what
its judge sees of what the prompts ask. Speed is in operations, counted, and in seconds, in parts of
the exact sampler's, one batch after the other in one process; on a processor its own seconds, so that
other work does not count. A batch that is measured is kept, so a measurement that was stopped goes on.
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
from blockskip.runs.demo_judge import load_judge
from blockskip.runs.image_session import load_lora
from blockskip.runs.run import Run
from blockskip.sampling import dynamic_patches, patch_adapters
from blockskip.sampling.key_steps import KeySteps, choose_key_steps, skip_losses
from blockskip.sampling.sample import SAMPLE_BATCH
from blockskip.training.lora import restore


@dataclass(frozen=True, kw_only=True)
class Plan:
    """run: whose pet is drawn with its LoRA, None: the model as it comes. adapters: of larger patches;
    None: the model's, if there are some. steps: of sampling, each in a table of its own."""

    work: Path
    model: str = "demo"
    run: Run | None = None
    adapters: Path | None = None
    prompts: int = 64
    steps: tuple[int, ...] = (50, 12)
    budget_gib: float = 8.0


class UncorrectedPatches(dynamic_patches.PatchScheduler):
    """As in the paper: coarse velocities as they are."""

    def correction(self, *_: object) -> Tensor:
        return torch.zeros(())


class Sampler(ModelSession):
    """A model with its adapters, and prompts to sample. judge_metric: what `judge` tells of a picture. Raises
    UserError when the model is not there."""

    judge_metric = "as asked"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.model, plan.budget_gib)
        path = plan.adapters or adapter_file(plan.model)
        there = path.exists() and self.family.patch_modules
        self.adapters = patch_adapters.load(path, self.transformer, self.family)[0] if there else {}
        self.prompts = self.prompts_for(plan)
        self.text = self.encode([*self.prompts, ""])
        self._mag_ratios: dict[int, list[float]] = {}
        self._skip_losses: dict[int, Tensor] = {}

    def prompts_for(self, plan: Plan) -> list[str]:
        """The prompts."""
        # what the demo's judge is asked about
        self.scene_captions = fresh_captions(plan.prompts, seed=7) if self.row.demo else []
        return [text for text, *_ in self.scene_captions] or captions(
            self.row, plan.prompts, seed=1
        )

    def judge(self, images: Sequence[Image.Image]) -> Tensor | None:
        """Of a picture of each prompt, the share of what its caption names that the demo's judge sees;
        None: no judge."""
        if not self.scene_captions:
            return None
        shares = []
        for said, caption in zip(load_judge().attributes(images), self.scene_captions, strict=True):
            asked = named_attributes(*caption)
            shares.append(sum(said[name] == value for name, value in asked.items()) / len(asked))
        return torch.tensor(shares)

    def methods(self, steps: int) -> list[SamplingMethod]:
        """What is measured with so many steps, the exact one first."""
        return [EXACT, *sampling_methods(steps, bool(self.adapters))]

    def run(
        self, way: SamplingMethod, rows: range, steps: int
    ) -> tuple[list[Image.Image], list[int], list[int]]:
        """Pictures of the prompts `rows`; of their steps the factors, and how often all blocks worked
        (0: they rested, 2: once for the step before; in the first step they do once)."""
        dynamic, cache = (
            None,
            FirstBlockCacheConfig(way.first_block_threshold) if way.first_block_threshold else None,
        )
        if way.schedule:
            kind = dynamic_patches.PatchScheduler if way.with_correction else UncorrectedPatches
            dynamic = kind(self.transformer, self.family, self.adapters, way.schedule)
        if way.mag_threshold:
            ratios = self.mag_ratios(steps)
            cache = MagCacheConfig(way.mag_threshold, num_inference_steps=steps, mag_ratios=ratios)
        if way.num_key_steps:
            cache = KeySteps(frozenset(self.key_steps(steps, way.num_key_steps)))
        seeds = [100_003 + row for row in rows]
        with self._count_passes() as passes:
            text, negative = self.text.rows(rows), self.text.rows([-1])
            images = self.sample(text, negative, seeds, steps, cache, dynamic)
        # a block works once for each part of a batch that goes through it alone
        passes = [times // passes[0] for times in passes[:: len(passes) // steps]]
        return images, dynamic.factors if dynamic else [1] * steps, passes

    def key_steps(self, steps: int, num: int) -> tuple[int, ...]:
        """Which `num` of so many steps are computed; measured on the last prompts."""
        if steps not in self._skip_losses:
            recorded = KeySteps(None)
            self._sample_calibration(steps, recorded)
            sigmas = self.pipe.scheduler.sigmas.tolist()
            self._skip_losses[steps] = skip_losses(recorded.deltas, sigmas)
        return choose_key_steps(self._skip_losses[steps], num)

    def provenance(self) -> dict:
        """What measurements depend on, beside ways and steps; JSON-ready."""
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
        """Inside, every call of the model adds to a list how often its last block worked."""
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
        """What MagCache has to know of a model, on the last prompts; the library prints it."""
        if steps not in self._mag_ratios:
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                self._sample_calibration(
                    steps, MagCacheConfig(num_inference_steps=steps, calibrate=True)
                )
            lists = [line for line in said.getvalue().splitlines() if line.startswith("[")]
            self._mag_ratios[steps] = json.loads(lists[-1])
        return self._mag_ratios[steps]

    def _sample_calibration(self, steps: int, cache: object) -> None:
        """The last prompts, with other noise than theirs, for what `cache` is to hear."""
        num = len(self.prompts)
        rows = range(max(0, num - SAMPLE_BATCH), num)
        seeds = [7 + row for row in rows]
        self.sample(self.text.rows(rows), self.text.rows([-1]), seeds, steps, cache)


class TunedSampler(Sampler):
    """The demo model with a run's LoRA, and prompts for its pet: as it is, and in two places. Raises
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
        """As the model comes: what is measured once a model serves all pets."""
        restore(self._lora, {name: torch.zeros_like(one) for name, one in self._lora.items()})
        super()._sample_calibration(steps, cache)
        restore(self._lora, self._trained_weights)

    def judge(self, images: Sequence[Image.Image]) -> Tensor:
        """Likeness to the run's photos, by the demo's judge."""
        return load_judge().identity(images, self._photos)

    def provenance(self) -> dict:
        return super().provenance() | {
            "run": self._run_hash,
            "lora": weights_hash(self._trained_weights),
        }


def weights_hash(weights: dict[str, Tensor]) -> str:
    """Of names and numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        found.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()


def open_sampler(plan: Plan) -> Sampler:
    """Of the plan's run, or of its model as it comes. Raises UserError."""
    return TunedSampler(plan) if plan.run else Sampler(plan)


def measure(plan: Plan, sampler: Sampler, say: Callable[[str], None]) -> None:
    """All ways, batch by batch in turn, so that whatever else the machine does hits all alike. The
    pictures of a way and batch are a PNG, `measured.json` beside them says the rest. Raises UserError
    when what is there was measured on something else."""
    path, now = plan.work / "measured-on.json", sampler.provenance()
    if path.exists() and files.read_json(path) != now:
        raise BadInput(
            f"{plan.work} holds measurements of another model, adapters or prompts.",
            "Give --work a new folder.",
        )
    files.write_json(path, now)
    for steps in plan.steps:
        every = sampler.methods(steps)
        for start in range(0, len(sampler.prompts), SAMPLE_BATCH):
            rows = range(start, min(start + SAMPLE_BATCH, len(sampler.prompts)))
            folder = plan.work / f"{steps}-{start:03d}"
            path = folder / "measured.json"
            known = files.read_json(path) if path.exists() else {}
            missing = [way for way in every if way.name not in known]
            if not missing:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            new = {way.name: _measure_batch(sampler, way, rows, steps, folder) for way in missing}
            files.write_json(path, known | new)
            say(f"{steps} steps: {rows.stop}/{len(sampler.prompts)} pictures of {len(every)} ways")


def _measure_batch(
    sampler: Sampler, way: SamplingMethod, rows: range, steps: int, folder: Path
) -> dict:
    if way.mag_threshold:  # what is measured once a model is no picture's time
        sampler.mag_ratios(steps)
    if way.num_key_steps:
        sampler.key_steps(steps, way.num_key_steps)
    clock = time.process_time if sampler.device.type == "cpu" else time.perf_counter
    began = clock()
    images, factors, passes = sampler.run(way, rows, steps)
    found = {"seconds": clock() - began, "factors": factors, "passes": passes}
    if rows.start == 0:
        with FlopCounterMode(display=False) as counter:
            sampler.run(way, rows, steps)
        found["flops"] = counter.get_total_flops()
    make_strip(images).save(folder / f"{file_stem(way)}.png")
    return found


def pictures(plan: Plan, way: SamplingMethod, steps: int) -> list[Image.Image]:
    """What a way made, in the prompts' order."""
    paths = [folder / f"{file_stem(way)}.png" for folder in batch_folders(plan, steps)]
    return [image for path in paths for image in split_strip(path)]


def measurements(plan: Plan, way: SamplingMethod, steps: int) -> list[dict]:
    """What was measured of a way, batch by batch."""
    return [
        files.read_json(folder / "measured.json")[way.name] for folder in batch_folders(plan, steps)
    ]


def batch_folders(plan: Plan, steps: int) -> list[Path]:
    """Folders of the batches that are measured, in the prompts' order."""
    return [path.parent for path in sorted(plan.work.glob(f"{steps}-*/measured.json"))]
