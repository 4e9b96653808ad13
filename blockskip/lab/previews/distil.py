"""Train the adapters for larger patches (sampling/dynamic_patches.py) to reproduce the velocity of
the model's own patches.

There are two stages, and each resumes where it was stopped:

    record   sample pictures of prompts and keep the latents of every step
    learn    minimise ‖v_coarse - v_model‖² at points on these paths, the model frozen, one patch
             size after the other

On a GPU every block is loaded for its forward and again for its backward, as in training.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from blockskip.core import presets, safetensors_files
from blockskip.core.errors import BadInput
from blockskip.core.flow_matching import generator
from blockskip.core.presets import ModelRow
from blockskip.lab.demo_world.parallel import save as save_state
from blockskip.lab.measuring.json_lines import append_line
from blockskip.lab.measuring.model_session import ModelSession
from blockskip.memory.layerwise import layerwise
from blockskip.memory.placement import on_device, replace_modules
from blockskip.models.families.base import Text, get_family
from blockskip.sampling import patch_adapters
from blockskip.sampling.sample import SAMPLE_BATCH
from blockskip.training.skipping import streamed_blocks

UNCONDITIONAL_SHARE = 0.25  # of draws without a caption, since guidance needs that velocity too
SAVE_EVERY_S = 60.0  # seconds
SUBJECTS = (*"cat dog rabbit horse parrot woman man car house".split(), "bowl of fruit")
PLACES = (
    *("", " on the beach", " in the snow", " in a city at night", " in a forest", " on a table"),
    *(" in front of a mountain", ", studio light, white background", ", close-up"),
    ", oil painting",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of `lab distil`. out: the adapters' file. prompts: pictures to sample. steps: of
    training, per patch size. batch: draws per step. minutes: time limit, 0 for none."""

    work: Path
    model: str
    out: Path
    prompts: int = 256
    steps: int = 2000
    batch: int = 8
    lr: float = 4e-3  # of 1e-3, 3e-3 and 8e-3, higher was better in 150 steps on the demo model
    seed: int = 0
    budget_gib: float = 24.0
    minutes: float = 0.0


class Distillation(ModelSession):
    """The open model with its prompts. Raises UserError if the model is missing or cannot work on
    larger patches."""

    def __init__(self, plan: Plan) -> None:
        self.plan, row = plan, presets.model_row(plan.model)
        if get_family(row.family).patch_modules is None:
            raise BadInput(
                f"{row.title} cannot work on larger patches here.",
                "The preview speeds “fast” and “fastest” use a step cache for it.",
            )
        super().__init__(plan.model, plan.budget_gib)
        self.linears = dict(patch_adapters.feed_forward(self.transformer, self.family))
        self.rank = patch_adapters.rank_for(self.transformer, self.family)
        self.text = self.encode([*captions(self.row, plan.prompts, plan.seed), ""])

    def latent_files(self) -> list[Path]:
        """Return the paths of the recorded latents, SAMPLE_BATCH pictures each."""
        num = math.ceil(self.plan.prompts / SAMPLE_BATCH)
        return [self.plan.work / f"latents-{i:03d}.safetensors" for i in range(num)]

    def record(self, index: int) -> None:
        """Sample and write one file of latents: `latents` (steps, pictures, …), `times`
        (steps,)."""
        rows = range(index * SAMPLE_BATCH, min((index + 1) * SAMPLE_BATCH, self.plan.prompts))
        kept, plain = {}, self.transformer.forward
        names = list(inspect.signature(type(self.transformer).forward).parameters)[1:]

        def forward(*positional: object, **named: object) -> object:
            model_inputs = dict(zip(names, positional, strict=False)) | named
            t = float(model_inputs["timestep"].flatten()[0])
            kept.setdefault(
                t, model_inputs[self.family.latents_arg][-len(rows) :].detach().half().cpu()
            )
            return plain(**model_inputs)

        self.transformer.forward = forward
        try:
            seeds = [self.plan.seed * 100_003 + row for row in rows]
            self.sample(self.text.rows(rows), self.text.rows([-1]), seeds)
        finally:
            del self.transformer.forward
        times = torch.tensor(list(kept)) / max(kept)
        tensors = {"latents": torch.stack(list(kept.values())), "times": times}
        safetensors_files.save_tensors(self.latent_files()[index], tensors)

    def draws(self, step: int, factor: int) -> tuple[Tensor, Text, Tensor]:
        """Return latents (B, …), captions and t (B,) of a training step: random points on the
        recorded paths, interpolated linearly between two steps. Deterministic in seed, factor and
        step."""
        source = generator(self.plan.seed, f"distil-{factor}-{step}")
        number = int(torch.randint(len(self.latent_files()), (), generator=source))
        saved = load_file(self.latent_files()[number])
        steps, num = saved["latents"].shape[:2]
        size = (self.plan.batch,)
        rows = torch.randint(num, size, generator=source)
        at = torch.randint(steps - 1, size, generator=source)
        part = torch.rand(size, generator=source)
        captionless = torch.rand(size, generator=source) < UNCONDITIONAL_SHARE
        neighbours = (saved["latents"][at + i, rows].float() for i in (0, 1))
        latents = torch.lerp(*neighbours, part.reshape(-1, *[1] * (saved["latents"].dim() - 2)))
        t = torch.lerp(saved["times"][at], saved["times"][at + 1], part)
        texts = torch.where(captionless, self.plan.prompts, number * SAMPLE_BATCH + rows).tolist()
        return latents.to(getattr(torch, self.row.dtype)), self.text.rows(texts), t

    def model_inputs(self, latents: Tensor, text: Text, t: Tensor) -> dict:
        """Return the arguments of the model's forward, as in previews."""
        s, on_device = self.settings, (tensor.to(self.device) for tensor in (latents, text, t))
        model_inputs = self.family.inputs(self.transformer.config, *on_device, s.preview_px)
        if model_inputs.get("guidance") is not None:
            model_inputs["guidance"] = torch.full_like(model_inputs["guidance"], s.preview_guidance)
        return model_inputs

    @contextmanager
    def as_teacher(self) -> Iterator[None]:
        """Context manager in which the model runs with its own patches."""
        if self.device.type == "cpu":
            yield
            return
        with replace_modules(
            self.transformer, layerwise(self.transformer, self.family, 1, self.device)
        ):
            yield

    @contextmanager
    def as_student(self, adapter: patch_adapters.PatchAdapter) -> Iterator[None]:
        """Context manager in which the model runs on larger patches, forward and backward."""
        with patch_adapters.adapter_installed(self.transformer, self.family, adapter, self.linears):
            if self.device.type == "cpu":
                yield
                return
            blocks = self.family.blocks(self.transformer)
            with replace_modules(
                self.transformer, streamed_blocks(blocks, range(len(blocks)), self.device)
            ):
                yield

    def error(self, adapter: patch_adapters.PatchAdapter, step: int) -> tuple[Tensor, Tensor]:
        """Return (mean squared error, mean square of the target velocity) for the draws of a step.
        Accumulates gradients in the adapter if they are enabled."""
        latents, text, t = self.draws(step, adapter.factor)
        model_inputs = self.model_inputs(latents, text, t)
        with torch.no_grad(), self.as_teacher():
            target = self.family.predict(self.transformer, model_inputs).float()
        with self.as_student(adapter):
            velocity = patch_adapters.velocity(
                self.family, adapter, self.transformer, model_inputs, t
            )
            loss = (velocity.float() - target).square().mean()
            if torch.is_grad_enabled():
                loss.backward()  # inside: checkpointed blocks run again
        return loss.detach(), target.square().mean()


def distil(plan: Plan, say: Callable[[str], None]) -> bool:
    """Train the adapters until they are done or the time is up, and return whether they are done.
    Raises UserError."""
    began = time.perf_counter()

    def late() -> bool:
        return bool(plan.minutes) and time.perf_counter() - began > plan.minutes * 60

    plan.work.mkdir(parents=True, exist_ok=True)
    job = Distillation(plan)
    for index, path in enumerate(job.latent_files()):
        if not path.exists():
            job.record(index)
            say(f"sampled {min((index + 1) * SAMPLE_BATCH, plan.prompts)}/{plan.prompts} pictures")
        if late():
            return False
    adapters, errors = {}, {}
    with on_device(job.device, job.transformer) if job.device.type == "cuda" else nullcontext():
        for factor in patch_adapters.FACTORS:
            adapter = train_adapter(job, factor, say, late)
            if adapter is None:
                return False
            adapters[factor], errors[factor] = adapter, held_out_error(job, adapter)
            say(f"size {factor}: {errors[factor]:.4f} of the velocity's square is missed")
    facts = {
        "model": plan.model,
        "prompts": plan.prompts,
        "steps": plan.steps,
        "batch": plan.batch,
        "seed": plan.seed,
        "missed": {str(factor): round(error, 5) for factor, error in errors.items()},
    }
    patch_adapters.save(plan.out, adapters, facts)
    return True


def train_adapter(
    job: Distillation, factor: int, say: Callable[[str], None], late: Callable[[], bool]
) -> patch_adapters.PatchAdapter | None:
    """Train and return the adapter of a patch size, or None if the time is up. A step depends only
    on the seed and its number, so a resumed training reaches the same weights."""
    plan, path = job.plan, job.plan.work / f"factor-{factor}.pt"
    torch.manual_seed(plan.seed + factor)
    adapter = patch_adapters.PatchAdapter(job.transformer, job.family, factor, job.rank).to(
        job.device
    )
    optimiser = torch.optim.AdamW(adapter.parameters(), plan.lr, weight_decay=0.0)
    step, saved = 0, time.perf_counter()
    if path.exists():
        state = torch.load(path, weights_only=True)
        adapter.load_state_dict(state["adapter"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    began, first_step, missed, target_square = saved, step, 0.0, 0.0
    while step < plan.steps:
        for group in optimiser.param_groups:
            group["lr"] = _rate(plan, step)
        loss, square = job.error(adapter, step)
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step, missed, target_square = step + 1, missed + float(loss), target_square + float(square)
        done, stop = step == plan.steps, late()
        if done or stop or time.perf_counter() - saved > SAVE_EVERY_S:
            left = (time.perf_counter() - began) / (step - first_step) * (plan.steps - step)
            row = {"factor": factor, "step": step, "missed": round(missed / target_square, 5)}
            append_line(plan.work / "log.jsonl", row)
            progress = f"size {factor}: step {step}/{plan.steps}, missed {row['missed']}"
            say(f"{progress}, {left:.0f} s left")
            state = {"adapter": adapter.state_dict(), "optimiser": optimiser.state_dict()}
            save_state(state | {"step": step}, path)
            saved, missed, target_square = time.perf_counter(), 0.0, 0.0
        if stop and not done:
            return None
    return adapter


def _rate(plan: Plan, step: int) -> float:
    """Return the learning rate of a step: a warm-up of 50 steps, then a sin² decay to zero."""
    warm, remaining = min(1.0, (step + 1) / 50), 1 - step / plan.steps
    return plan.lr * warm * math.sin(math.pi / 2 * remaining) ** 2


@torch.no_grad()
def held_out_error(job: Distillation, adapter: patch_adapters.PatchAdapter, num: int = 16) -> float:
    """Return an adapter's squared error relative to the velocity's mean square, on draws that no
    training step used."""
    errors = [job.error(adapter, -1 - i) for i in range(num)]
    return float(sum(loss for loss, _ in errors) / sum(size for _, size in errors))


def captions(row: ModelRow, num: int, seed: int) -> list[str]:
    """Return `num` captions to sample: for the demo model its world's, every third with the trigger
    word, else combinations of subjects and places."""
    if row.demo:
        from blockskip.lab.demo_world import captions as world

        return [
            f"a photo of sks {pet.species} {world.PLACES[scene.background][0]}"
            if i % 3 == 0
            else text
            for i, (text, pet, scene) in enumerate(world.fresh_captions(num, seed + 50))
        ]
    texts = [f"a photo of a {subject}{place}" for subject, place in product(SUBJECTS, PLACES)]
    order = torch.randperm(len(texts), generator=generator(seed, "distil")).tolist()
    return [texts[order[i % len(texts)]] for i in range(num)]
