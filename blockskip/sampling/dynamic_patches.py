"""DDiT: sample steps that add no fine detail with larger patches (docs/method.md §2).

The last velocities show how much detail a step adds. If they change uniformly within larger
patches, those suffice. The layers for larger patches are in sampling/patch_adapters.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blockskip.core.paths import adapter_file
from blockskip.models.families.base import Family
from blockskip.models.families.patches import to_vae_cells
from blockskip.sampling.patch_adapters import (
    PatchAdapter,
    adapter_installed,
    feed_forward,
    read_facts,
    velocity,
)

if TYPE_CHECKING:
    from blockskip.sampling.step_cache import StepCache

RHO = 0.4  # the quantile over patches that must be below τ [paper]
STEPS = 50  # uniform steps, for which the paper gives τ
HOLD = 10  # maximum number of coarse steps between two fine ones


def third_difference(times: Sequence[float], velocities: Sequence[Tensor]) -> Tensor:
    """Compute Δ³ of the last four latents, scaled to 50 uniform steps, from the last 3 velocities.

    In uniform steps of 1/50 it is z₀ - 3 z₁ + 3 z₂ - z₃ [paper]. times: of the velocities, in
    [0, 1]. velocities: of any one shape, which is the result's. Divided differences of velocities
    (ours) give the same value for any number of steps and any shift: zero on a straight path,
    constant on a cubic one. They also avoid rounding error, which in bfloat16 moves latents by more
    than τ.
    """
    (a, b, c), (x, y, z) = times[-3:], velocities[-3:]
    bend = ((z - y) / (c - b) - (y - x) / (b - a)) / (c - a)
    return bend * (2 / STEPS**3)


def deviations(change: Tensor, side: int) -> Tensor:
    """Return how much `change` (B, C, h, w) varies inside patches of `side` cells, (B, patches).

    The root mean square over channels of the standard deviation over positions.
    """
    b, c, h, w = change.shape
    patches = change.reshape(b, c, h // side, side, w // side, side)
    return patches.var((3, 5), unbiased=False).mean(1).sqrt().flatten(1)


def choose_factor(change: Tensor, patch: int, taus: Mapping[int, float], rho: float = RHO) -> int:
    """Return the largest patch factor with little variation inside patches: 4, 2 or 1.

    For each image of `change` (B, C, h, w), the ρ-quantile over its patches must be below τ; a
    share of 1 - ρ with detail therefore forces finer patches. Images sampled together use the
    finest factor that any of them needs. patch: side of the model's patch in cells. taus: τ by
    factor. The paper has a single τ, but in small images, which are all detail, factors vary alike
    and differ in cost.
    """
    for factor, tau in sorted(taus.items(), reverse=True):
        side = factor * patch
        if any(length % side for length in change.shape[-2:]):
            continue
        variation = deviations(change.float(), side)
        if (variation.quantile(rho, 1, interpolation="higher") < tau).all():
            return factor
    return 1


@dataclass(frozen=True)
class PatchSchedule:
    """The thresholds for larger patches.

    taus, rho: see `choose_factor`; factors without a τ are not used. hold: maximum number of coarse
    steps between two fine ones.
    """

    taus: Mapping[int, float]
    rho: float = RHO
    hold: int = HOLD


@dataclass(frozen=True)
class _ForwardRecord:
    """One forward of the last step. Its tensors of the image's size are in RAM.

    correction: the term added to coarse velocities; for a fine forward, the one added before it.
    """

    arguments: dict
    time: float
    factor: int
    velocity: Tensor
    correction: Tensor | None


class PatchScheduler:
    """Chooses a model's patch size in every sampling step.

    The error of larger patches is corrected (ours). The first coarse step also computes the coarse
    velocity of the step before, and adds the difference from that step's fine velocity from then
    on. The difference changes slowly. After `hold` coarse steps a fine step renews it.

    adapters: by factor. Create the scheduler before blocks are wrapped or replaced. cache: a step
    cache in use at the same time. factors: the factors of the steps so far.
    """

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        adapters: dict[int, PatchAdapter],
        schedule: PatchSchedule,
    ) -> None:
        self.model, self.family, self.adapters = model, family, adapters
        self.schedule = schedule
        self.cache: StepCache | None = None
        self.linears = dict(feed_forward(model, family))
        self.reset()

    def reset(self) -> None:
        """Start a new sampling."""
        self.first, self.call, self.resume_factor = 1.0, 0, 0
        self.last_time: float | None = None
        self.times: list[float] = []
        self.velocities: list[Tensor] = []
        self.factors: list[int] = []
        self.last_forwards: dict[
            int, _ForwardRecord
        ] = {}  # by call: guidance may need two per step

    @contextmanager
    def installed(self, cache: StepCache | None = None) -> Iterator[None]:
        """Context manager in which the model's forward chooses its patch size."""
        self.cache = cache
        patched, model_forward = vars(self.model).get("forward"), self.model.forward
        names = list(inspect.signature(type(self.model).forward).parameters)[1:]

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self.forward(model_forward, dict(zip(names, args, strict=False)) | kwargs)

        self.reset()
        self.model.forward = forward
        try:
            yield
        finally:
            self.last_forwards, self.velocities = {}, []  # `factors` is read afterwards
            del self.model.forward
            if patched is not None:
                self.model.forward = patched

    def forward(self, model_forward: Callable[..., tuple], model_kwargs: dict) -> tuple:
        """Run diffusers' forward with the patch size that the step needs.

        A new timestep begins a step, and a larger one a new sampling.
        """
        time = float(model_kwargs["timestep"].flatten()[0])
        if self.last_time is None or time > self.last_time:
            self.reset()
            self.first = time
        new_step, self.last_time = time != self.last_time, time
        time /= self.first
        if new_step:
            self._begin_step()
        self.call = 0 if new_step else self.call + 1
        factor, correction = self.factors[-1], None
        if factor == 1:
            output = model_forward(**model_kwargs)
            velocity = self.family.velocity(output).float().cpu()
            if self.resume_factor:
                correction = self.last_forwards[self.call].correction
        else:
            correction = self.correction(model_forward, model_kwargs, factor)
            coarse = self.coarse_velocity(model_forward, model_kwargs, time, factor)
            velocity = coarse.float().cpu() + correction
            output = (velocity.to(coarse),)
        name = self.family.latents_arg
        stored_kwargs = model_kwargs | {name: model_kwargs[name].cpu()}
        self.last_forwards[self.call] = _ForwardRecord(
            stored_kwargs, time, factor, velocity, correction
        )
        if new_step:
            self.times = [*self.times[-2:], time]
            self.velocities = [*self.velocities[-2:], velocity]
        return output

    def _begin_step(self) -> None:
        """Choose the factor of the step that begins. The first three steps are fine."""
        last = self.factors[-1] if self.factors else 1
        if self.resume_factor:
            factor, self.resume_factor = self.resume_factor, 0
        elif len(self.velocities) < 3:
            factor = 1
        else:
            change, patch = third_difference(self.times, self.velocities), self.family.patch_size
            schedule = self.schedule
            factor = choose_factor(to_vae_cells(change, patch), patch, schedule.taus, schedule.rho)
            if factor > 1 and min(self.factors[-schedule.hold :]) > 1:
                factor, self.resume_factor = 1, factor
        if self.cache and factor != last:
            self.cache.reset()
        self.factors.append(factor)

    def correction(
        self, model_forward: Callable[..., tuple], model_kwargs: dict, factor: int
    ) -> Tensor:
        """Return the error of coarse velocities with this factor, as of the step before."""
        before = self.last_forwards[self.call]
        if before.factor == factor and before.correction is not None:
            return before.correction
        name = self.family.latents_arg
        device = model_kwargs[name].device
        before_kwargs = before.arguments | {name: before.arguments[name].to(device)}
        coarse = self.coarse_velocity(model_forward, before_kwargs, before.time, factor)
        correction = before.velocity - coarse.float().cpu()
        if self.cache:
            self.cache.repeat_call()
        if before.correction is not None and before.factor == 1 and self.call == 0:
            # shift the velocities before the fine one by the new correction, or they would jump
            shifted = [v + correction - before.correction for v in self.velocities[:-1]]
            self.velocities = [*shifted, self.velocities[-1]]
        return correction

    def coarse_velocity(
        self, model_forward: Callable[..., tuple], model_kwargs: dict, time: float, factor: int
    ) -> Tensor:
        """Compute the velocity at t = `time` with larger patches, shaped like the latents."""
        adapter = self.adapters[factor]
        with adapter_installed(self.model, self.family, adapter, self.linears):
            times = torch.full((len(model_kwargs[self.family.latents_arg]),), time)
            return velocity(self.family, adapter, model_forward, model_kwargs, times)


def calibrated_schedule(model: str, steps: int) -> tuple[PatchSchedule, float] | None:
    """Return `lab calibrate`'s schedule for previews of `steps` steps, and its cache threshold.

    None if there is no schedule that pays off. Raises UserError for a broken file.
    """
    path = adapter_file(model)
    facts = read_facts(path) if path.exists() else {}
    schedule = facts.get("schedule")
    if not schedule or schedule["steps"] != steps:
        return None
    taus = {int(factor): tau for factor, tau in schedule["taus"].items()}
    return PatchSchedule(taus, schedule["rho"], schedule["hold"]), schedule["cache"]
