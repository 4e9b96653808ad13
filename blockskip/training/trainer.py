"""The training loop: compute a window of residuals with the current LoRA, train on it, repeat.

Between two steps the model is complete, so that previews can use it. Inside a step only its middle
runs. A checkpoint holds everything the next step depends on. A resumed run is therefore bit-equal
on a CPU; on a GPU, attention's backward adds in no fixed order.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from blockskip.core import files, flow_matching, stages
from blockskip.core.errors import UserError
from blockskip.core.events import Loss
from blockskip.core.settings import Settings
from blockskip.memory.compiled_blocks import Uncompiled
from blockskip.memory.placement import fill_ram, move_trainable, pin_on_device, release
from blockskip.memory.quantisation import int8_linears
from blockskip.memory.streaming import ParamSite
from blockskip.models.families.base import Family, Text
from blockskip.training import optimizer
from blockskip.training.checkpoint import read_checkpoint, save_checkpoint
from blockskip.training.draws import TrainingData
from blockskip.training.lora import add_lora, restore, snapshot
from blockskip.training.ranks import ALONE, Ranks
from blockskip.training.residuals import PriorPass, Span, WindowInputs, compute_window
from blockskip.training.skipping import StepInputs, skip_blocks, text_for_middle, velocity
from blockskip.training.windows import WindowStore, load_rows, save_window

log = logging.getLogger(__name__)
FIRST_LOSS_SCALE = 2.0**16  # as torch.amp.GradScaler begins

if TYPE_CHECKING:
    from diffusers import ModelMixin


def micro_step(
    model: ModelMixin,
    family: Family,
    step_inputs: StepInputs,
    window: dict[str, Tensor],
    text: Text,
    side_px: int,
    accumulation: int,
    loss_scale: float = 1.0,
) -> Tensor:
    """Run forward and backward for the B draws of `window` and return their share of the loss, ().

    text: their captions, from `text_for_middle`. accumulation: micro-steps per optimiser step.
    loss_scale: factor of the gradients.
    """
    with step_inputs.bind(window):
        prediction = velocity(model, family, step_inputs, window, text, side_px)
        loss = flow_matching.loss(prediction, window["target"]) / accumulation
        (loss * loss_scale).backward()
    return loss.detach()


class Trainer:
    """Trains a LoRA on the middle of `model`. `run` yields one Loss event per step.

    model: diffusers' transformer, frozen. window_dir: folder of the residual windows. fingerprint:
    identifies the run; checkpoints of other runs are refused. progress(n, total): blocks done in a
    window. stage(name): context manager entered around each window ("residuals"). pinned: the
    frozen weights that it loaded onto the device, which outlive it. ranks: the processes that share
    its steps.

    Other training methods are subclasses (lab/ablation/baselines.py) that override some of:

        span_type           the choice of trained blocks
        skips               whether the others are skipped; False: they only have no LoRA
        window_features     the tensors stored per draw
        prior_pass          draws run through the untrained model in the same pass
        step_model          the model that a step runs
        step_text           the caption embeddings that a step reads
        train_step          one optimiser step

    `window_rows`, `inputs`, `text` and `targets` give them the data of draws.
    """

    span_type = Span
    skips = True

    def __init__(
        self,
        model: ModelMixin,
        family: Family,
        settings: Settings,
        data: TrainingData,
        device: torch.device,
        window_dir: Path,
        fingerprint: str,
        progress: Callable[[int, int], None] = lambda n, total: None,
        stage: Callable[[str], AbstractContextManager] = lambda name: nullcontext(),
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.family, self.settings, self.data = model, family, settings, data
        self.device, self.fingerprint = device, fingerprint
        self.windows = WindowStore(window_dir, fingerprint)
        self.progress, self.stage, self.ranks = progress, stage, ranks
        self.trained = self.span_type(settings.plan.front, settings.plan.back)
        self.span = self.trained if self.skips else Span(0, 0)
        self.side_px = settings.plan.side_px
        self.lora = add_lora(
            model, family, self.trained, settings.rank, settings.targets, settings.seed
        )
        move_trainable(device, self.lora.values())
        self.optimizer = optimizer.make(self.lora, settings.lr)
        # float16 holds no number below 6e-8: gradients are computed so many times larger, a power of
        # two, halved whenever one of them overflows
        self.loss_scale = FIRST_LOSS_SCALE if self._dtype == torch.float16 else 1.0
        self.step = 0
        self.untrained_lora = snapshot(self.lora)
        self.window_lora = snapshot(self.lora)
        self._held: list[ParamSite] = []  # weights on the device for the steps of one window
        # weights that stay are copied before the first window streams the same blocks
        with self.step_model(without_middle=settings.plan.middle != "stays"):
            self.pinned = pin_on_device(device, model)
        if settings.plan.middle != "stays":  # of what waits, the middle is loaded most often
            with skip_blocks(model, family, self.span):
                fill_ram(device, [block for _, block in family.blocks(model)])

    @property
    def _dtype(self) -> torch.dtype:
        return self.model.dtype

    def offload_middle(self) -> None:
        """Free memory for windows and previews: release the weights pinned for steps."""
        release(self._held)
        self._held = []

    def step_model(self, without_middle: bool = False) -> AbstractContextManager[StepInputs]:
        """Context manager in which the model runs as in a training step.

        without_middle: hide the middle's weights from the model's modules.
        """
        settings = self.settings
        streamed_to = self.device if without_middle or settings.plan.middle == "streamed" else None
        return skip_blocks(
            self.model, self.family, self.span, settings.plan.recomputed, streamed_to
        )

    def run(self) -> Iterator[Loss]:
        """Train up to the last step. The caller may stop and checkpoint between any two events."""
        settings = self.settings
        while self.step < settings.steps:
            first = self.step - self.step % settings.plan.window_steps
            if self.step == first and settings.refresh == "window":
                self.window_lora = snapshot(self.lora)
            with self.stage(stages.RESIDUALS):
                path = self.make_window(first)
            last = min(first + settings.plan.window_steps, settings.steps)
            while self.step < last:
                started = time.perf_counter()
                loss = self.train_step(path, first)
                self.step += 1
                yield Loss(step=self.step, loss=loss, seconds=time.perf_counter() - started)
        self.windows.remove()

    def make_window(self, first: int) -> Path:
        """Return the path of the window that starts at step `first`; compute it if needed."""
        settings = self.settings
        number, rows = first // settings.plan.window_steps, self.window_rows(first)
        kind: str = settings.plan.precision
        if settings.plan.number_type != "model":
            kind += f" {settings.plan.number_type}"
        if settings.plan.int8_products:
            kind += f" {files.fingerprint(*int8_linears(self.model))}"
        if self.ranks.size > 1:
            kind += f" {self.ranks.rank} of {self.ranks.size}"
        stamp = self.windows.stamp(kind, rows, self.window_lora)
        path = self.windows.path(number)
        self.windows.remove(keep=number)
        if self.windows.has(number, stamp):
            return path
        prior_pass = self.prior_pass(rows)
        if self.span.skips or prior_pass:
            self.offload_middle()
        current = snapshot(self.lora)
        try:
            restore(self.lora, self.window_lora)
            window = self.window_features(rows, prior_pass)
        finally:
            restore(self.lora, current)
        target = self.targets(rows, prior_pass)
        save_window(path, window | {"target": target}, stamp)
        return path

    def window_features(
        self, rows: Sequence[int], prior_pass: PriorPass | None
    ) -> dict[str, Tensor]:
        """Compute the tensors that steps need of a window's draws, with the current LoRA."""
        settings = self.settings
        return compute_window(
            self.model,
            self.family,
            self.span,
            self.inputs(rows),
            settings.plan.micro_batch,
            self.device,
            self.progress,
            prior_pass,
            self.device.type == "cpu" or len(rows) <= settings.plan.window_on_card,
        )

    def window_rows(self, first: int) -> Sequence[int]:
        """Return this process's draws of the window from step `first` on. Each is used `reuse` times."""
        settings = self.settings
        num_steps = min(settings.plan.window_steps, settings.steps - first)
        start = first // settings.plan.window_steps * settings.window_draws
        per_step = settings.plan.draws_per_step
        rows = range(start, start + settings.fresh_steps(num_steps) * per_step)
        return self.ranks.own(rows, per_step)

    def inputs(self, rows: Sequence[int]) -> WindowInputs:
        """Return the model's inputs for these draws, in the model's dtype."""
        noisy, t = self.data.noisy(rows), self.data.timesteps(rows)
        return WindowInputs(noisy.to(self._dtype), self.text(rows), t, self.side_px)

    def text(self, rows: Sequence[int]) -> Text:
        """Return the draws' captions, one row per draw, in the model's dtype."""
        return self.data.texts(rows).to(self._dtype)

    def step_text(self, rows: Sequence[int]) -> Text:
        """Return `text`, reduced to what the middle blocks read."""
        return text_for_middle(self.family, self.span, self.text(rows))

    def prior_pass(self, rows: Sequence[int]) -> PriorPass | None:
        """Return the PriorPass for the window's prior-preservation draws; None if it has none."""
        prior = self.data.prior_rows(rows)
        if not prior:
            return None
        return PriorPass(self.inputs(prior), self._untrained_lora, [rows.index(i) for i in prior])

    @contextmanager
    def _untrained_lora(self, name: str) -> Iterator[None]:
        lora = {n: p for n, p in self.lora.items() if n.startswith(f"transformer.{name}.")}
        current = snapshot(lora)
        restore(lora, {n: self.untrained_lora[n] for n in lora})
        try:
            yield
        finally:
            restore(lora, current)

    def targets(self, rows: Sequence[int], prior_pass: PriorPass | None) -> Tensor:
        """Return the target ε - x_0 per draw; prior draws get the untrained model's velocity."""
        target = self.data.velocity(rows)
        if prior_pass:
            target[prior_pass.rows] = prior_pass.velocity.to(target.dtype)
        return target

    def train_step(self, path: Path, first: int) -> float:
        """Run one optimiser step and return its mean loss. Raises UserError if it diverges."""
        loss, norm = self._gradients(path, first)
        while math.isfinite(loss) and not math.isfinite(norm) and self.loss_scale > 1:
            self.loss_scale /= 2
            log.info("gradients overflowed at step %d: scale %g", self.step + 1, self.loss_scale)
            loss, norm = self._gradients(path, first)
        if not math.isfinite(loss) or not math.isfinite(norm):
            event = f"gradients became {norm}" if math.isfinite(loss) else f"loss became {loss}"
            raise UserError(
                f"The {event} at step {self.step + 1}: training went astray.",
                f"Lower the learning rate (it is {self.settings.lr:g}) and train again.",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = optimizer.learning_rate(self.settings, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, path: Path, first: int) -> tuple[float, float]:
        """Compute the step's clipped gradients. Return its mean loss and their norm before."""
        shares: list[Tensor] = []
        while not shares:
            with suppress(Uncompiled):  # at most once
                shares = self._micro_steps(path, first)
        if self.loss_scale != 1:
            for parameter in self.lora.values():
                if parameter.grad is not None:
                    parameter.grad /= self.loss_scale
        found = [p.grad for p in self.lora.values() if p.grad is not None]
        self.ranks.sum([*shares, *found])
        gradients = nn.utils.clip_grad_norm_(self.lora.values(), 1.0)
        # one copy, since each makes the CPU wait for the GPU
        *losses, norm = torch.stack([*shares, gradients]).tolist()
        return sum(losses), norm

    def _micro_steps(self, path: Path, first: int) -> list[Tensor]:
        """Compute the step's gradients anew, times the loss scale. Return each micro-step's share of
        the loss."""
        settings = self.settings
        shares = []
        self.optimizer.zero_grad(set_to_none=True)
        draws = self.window_rows(first)
        per_step = settings.plan.draws_per_step // self.ranks.size
        start = (self.step - first) * per_step % len(draws)
        with self.step_model() as step_inputs:
            if settings.plan.middle == "leaves" and not self._held:
                self._held = pin_on_device(self.device, self.model, keep=True)
            for row in range(start, start + per_step, settings.plan.batch):
                window = load_rows(path, row, row + settings.plan.batch, self.device)
                text = self.step_text(draws[row : row + settings.plan.batch]).to(self.device)
                share = micro_step(
                    self.model,
                    self.family,
                    step_inputs,
                    window,
                    text,
                    self.side_px,
                    settings.plan.accumulation,
                    self.loss_scale,
                )
                shares.append(share.float())
        return shares

    def save(self, path: Path) -> None:
        """Write a checkpoint: LoRA, optimiser state, step, loss scale, and the window's LoRA."""
        adam = optimizer.snapshot(self.optimizer, self.lora)
        parts: dict[str, Mapping[str, Tensor]] = {
            "lora": self.lora,
            "window": self.window_lora,
            "adam": adam,
        }
        save_checkpoint(path, parts, self.step, self.fingerprint, self.loss_scale)

    def load(self, path: Path) -> None:
        """Restore a checkpoint from any device. Raises BadFile if it belongs to another run."""
        step, parts, self.loss_scale = read_checkpoint(path, self.fingerprint, self.loss_scale)
        restore(self.lora, parts["lora"])
        self.window_lora = parts["window"]
        optimizer.restore(self.optimizer, self.lora, parts["adam"])
        self.step = step
