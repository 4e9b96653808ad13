"""Making the adapters of larger patches (sampling/dynamic_patches.py): they learn to give what the model's own patches give.

Two stages, each of which goes on where it was stopped:

    record   the model samples pictures of prompts; the latents of every step are kept
    learn    at places on these paths: ‖v_coarse - v_model‖², the model frozen, one size after the other

On a card every block is brought for its forward, and again for its backward, as in training.
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

UNCONDITIONAL_SHARE = 0.25  # of the draws have no caption: guidance asks for that velocity, too
SAVE_EVERY_S = 60.0  # seconds
SUBJECTS = (*"cat dog rabbit horse parrot woman man car house".split(), "bowl of fruit")
PLACES = (
    *("", " on the beach", " in the snow", " in a city at night", " in a forest", " on a table"),
    *(" in front of a mountain", ", studio light, white background", ", close-up"),
    ", oil painting",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """out: the file of the adapters. prompts: pictures to sample. steps: of learning, each size.
    batch: draws a step. minutes: stop after so many, to go on another time; 0: work through."""

    work: Path
    model: str
    out: Path
    prompts: int = 256
    steps: int = 2000
    batch: int = 8
    lr: float = 4e-3  # of 1e-3, 3e-3 and 8e-3 the higher the better in 150 steps on the demo model
    seed: int = 0
    budget_gib: float = 24.0
    minutes: float = 0.0


class Distillation(ModelSession):
    """The model, open. Raises UserError when it is not there, or cannot work on merged patches."""

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
        """Files of latents, SAMPLE_BATCH pictures each."""
        num = math.ceil(self.plan.prompts / SAMPLE_BATCH)
        return [self.plan.work / f"latents-{i:03d}.safetensors" for i in range(num)]

    def record(self, index: int) -> None:
        """Sample the pictures of a file of latents: `latents` (steps, pictures, …), `times`
        (steps,)."""
        rows = range(index * SAMPLE_BATCH, min((index + 1) * SAMPLE_BATCH, self.plan.prompts))
        kept, plain = {}, self.transformer.forward
        names = list(inspect.signature(type(self.transformer).forward).parameters)[1:]

        def forward(*positional: object, **named: object) -> object:
            given = dict(zip(names, positional, strict=False)) | named
            t = float(given["timestep"].flatten()[0])
            kept.setdefault(t, given[self.family.latents_arg][-len(rows) :].detach().half().cpu())
            return plain(**given)

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
        """Latents (B, …), captions and t (B,) of a step of learning: anywhere on the recorded paths,
        which are straight between two steps. The same at every call."""
        source = generator(self.plan.seed, f"distil-{factor}-{step}")
        number = int(torch.randint(len(self.latent_files()), (), generator=source))
        saved = load_file(self.latent_files()[number])
        steps, num = saved["latents"].shape[:2]
        size = (self.plan.batch,)
        rows = torch.randint(num, size, generator=source)
        at = torch.randint(steps - 1, size, generator=source)
        part = torch.rand(size, generator=source)
        silent = torch.rand(size, generator=source) < UNCONDITIONAL_SHARE
        both = (saved["latents"][at + i, rows].float() for i in (0, 1))
        latents = torch.lerp(*both, part.reshape(-1, *[1] * (saved["latents"].dim() - 2)))
        t = torch.lerp(saved["times"][at], saved["times"][at + 1], part)
        texts = torch.where(silent, self.plan.prompts, number * SAMPLE_BATCH + rows).tolist()
        return latents.to(getattr(torch, self.row.dtype)), self.text.rows(texts), t

    def model_inputs(self, latents: Tensor, text: Text, t: Tensor) -> dict:
        """Arguments of the model's forward, as previews have them."""
        s, config_ = self.settings, self.transformer.config
        guided = bool(getattr(config_, "guidance_embeds", False))
        place = (one.to(self.device) for one in (latents, text, t))
        given = self.family.inputs(*place, s.preview_px, guided)
        if guided:
            given["guidance"] = torch.full_like(given["guidance"], s.preview_guidance)
        return given

    @contextmanager
    def as_teacher(self) -> Iterator[None]:
        """Inside, the model gives what it always gives."""
        if self.device.type == "cpu":
            yield
            return
        with replace_modules(
            self.transformer, layerwise(self.transformer, self.family, 1, self.device)
        ):
            yield

    @contextmanager
    def as_student(self, adapter: patch_adapters.PatchAdapter) -> Iterator[None]:
        """Inside, it works on larger patches, forward and backward."""
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
        """(squared error, mean square of what it should be) of a step's draws; the first with
        gradients for the adapter."""
        latents, text, t = self.draws(step, adapter.factor)
        given = self.model_inputs(latents, text, t)
        with torch.no_grad(), self.as_teacher():
            right = self.family.velocity(self.transformer(**given)).float()
        with self.as_student(adapter):
            found = patch_adapters.velocity(self.family, adapter, self.transformer, given, t)
            loss = (found.float() - right).square().mean()
            if torch.is_grad_enabled():
                loss.backward()  # in here: blocks work again
        return loss.detach(), right.square().mean()


def distil(plan: Plan, say: Callable[[str], None]) -> bool:
    """Work until the adapters are made, or the time is up; whether they are. Raises UserError."""
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
    made, errors = {}, {}
    with on_device(job.device, job.transformer) if job.device.type == "cuda" else nullcontext():
        for factor in patch_adapters.FACTORS:
            adapter = train_adapter(job, factor, say, late)
            if adapter is None:
                return False
            made[factor], errors[factor] = adapter, held_out_error(job, adapter)
            say(f"size {factor}: {errors[factor]:.4f} of the velocity's square is missed")
    facts = {
        "model": plan.model,
        "prompts": plan.prompts,
        "steps": plan.steps,
        "batch": plan.batch,
        "seed": plan.seed,
        "missed": {str(factor): round(error, 5) for factor, error in errors.items()},
    }
    patch_adapters.save(plan.out, made, facts)
    return True


def train_adapter(
    job: Distillation, factor: int, say: Callable[[str], None], late: Callable[[], bool]
) -> patch_adapters.PatchAdapter | None:
    """The adapter of a size; None when the time is up. Every step depends on the seed and its number
    alone, so one that was stopped comes to the same weights."""
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
    before, said, missed, whole = saved, step, 0.0, 0.0
    while step < plan.steps:
        for group in optimiser.param_groups:
            group["lr"] = _rate(plan, step)
        loss, size = job.error(adapter, step)
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step, missed, whole = step + 1, missed + float(loss), whole + float(size)
        done, stop = step == plan.steps, late()
        if done or stop or time.perf_counter() - saved > SAVE_EVERY_S:
            left = (time.perf_counter() - before) / (step - said) * (plan.steps - step)
            row = {"factor": factor, "step": step, "missed": round(missed / whole, 5)}
            append_line(plan.work / "log.jsonl", row)
            told = f"size {factor}: step {step}/{plan.steps}, missed {row['missed']}"
            say(f"{told}, {left:.0f} s left")
            state = {"adapter": adapter.state_dict(), "optimiser": optimiser.state_dict()}
            save_state(state | {"step": step}, path)
            saved, missed, whole = time.perf_counter(), 0.0, 0.0
        if stop and not done:
            return None
    return adapter


def _rate(plan: Plan, step: int) -> float:
    """Of learning: a short rise, then down to nothing."""
    warm, rest = min(1.0, (step + 1) / 50), 1 - step / plan.steps
    return plan.lr * warm * math.sin(math.pi / 2 * rest) ** 2


@torch.no_grad()
def held_out_error(job: Distillation, adapter: patch_adapters.PatchAdapter, num: int = 16) -> float:
    """What an adapter misses, in parts of the velocity's mean square, at places that no step used."""
    found = [job.error(adapter, -1 - i) for i in range(num)]
    return float(sum(loss for loss, _ in found) / sum(size for _, size in found))


def captions(row: ModelRow, num: int, seed: int) -> list[str]:
    """What the pictures show that are learnt from: for the demo what its world has, every third with
    a rare word for the pet; else things and places."""
    if row.demo:
        from blockskip.lab.demo_world import captions as world

        return [
            f"a photo of sks {pet.species} {world.PLACES[scene.background][0]}"
            if i % 3 == 0
            else text
            for i, (text, pet, scene) in enumerate(world.fresh_captions(num, seed + 50))
        ]
    words = [f"a photo of a {what}{where}" for what, where in product(SUBJECTS, PLACES)]
    order = torch.randperm(len(words), generator=generator(seed, "distil")).tolist()
    return [words[order[i % len(words)]] for i in range(num)]
