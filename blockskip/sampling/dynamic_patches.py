"""DDiT: steps of sampling that add no fine detail are made with larger patches (docs/method.md §2).

The last velocities say how much detail a step adds: where they change alike all over larger patches,
those will do. What makes a model work on them stands in sampling/patch_adapters.py.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blockskip.core import safetensors_files
from blockskip.core.paths import adapter_file
from blockskip.models.families.base import Family
from blockskip.models.families.patches import to_vae_cells
from blockskip.sampling.patch_adapters import (
    PatchAdapter,
    adapter_installed,
    feed_forward,
    velocity,
)

if TYPE_CHECKING:
    from blockskip.sampling.step_cache import StepCache

RHO = 0.4  # the quantile over patches that must be below τ [paper]
STEPS = 50  # uniform ones, for which the paper says τ
HOLD = 10  # coarse steps, at most, between two fine ones


def third_difference(times: Sequence[float], velocities: Sequence[Tensor]) -> Tensor:
    """Δ³ of the last four latents, as it would be in 50 uniform steps: from the velocities (any
    shape, alike) between them, which is the same.

    In uniform steps of 1/50 it is z₀ - 3 z₁ + 3 z₂ - z₃ [paper]. times: in [0, 1], at which the
    last three velocities were asked for. Divided differences of velocities (ours) make it the same
    for any number of steps and for shifted ones: a straight path has none, a cubic one a constant
    one. Nor is it drowned by rounding, which in bfloat16 moves latents by more than τ.
    """
    (a, b, c), (x, y, z) = times[-3:], velocities[-3:]
    bend = ((z - y) / (c - b) - (y - x) / (b - a)) / (c - a)
    return bend * (2 / STEPS**3)


def deviations(change: Tensor, side: int) -> Tensor:
    """How much `change` (B, C, h, w) varies inside patches of `side` cells: (B, patches), the root
    mean square over channels of the standard deviation over places."""
    b, c, h, w = change.shape
    patches = change.reshape(b, c, h // side, side, w // side, side)
    return patches.var((3, 5), unbiased=False).mean(1).sqrt().flatten(1)


def choose_factor(change: Tensor, patch: int, taus: Mapping[int, float], rho: float = RHO) -> int:
    """The largest factor whose patches hardly vary: 4, 2, or 1 where not even 2 will do.

    patch: cells to a side of the model's own patch. taus: τ by factor (the paper has one for all:
    where a latent is all detail, as in small pictures, sizes vary alike and differ in what they
    cost). For each picture of `change` (B, C, h, w) the ρ-th quantile over its patches must be below
    τ, so it refines where a share of 1 - ρ is busy. Pictures that are sampled together take the
    finest size that one of them asks for.
    """
    for factor, tau in sorted(taus.items(), reverse=True):
        side = factor * patch
        if any(length % side for length in change.shape[-2:]):
            continue
        found = deviations(change.float(), side)
        if (found.quantile(rho, 1, interpolation="higher") < tau).all():
            return factor
    return 1


@dataclass(frozen=True)
class PatchSchedule:
    """When patches are larger. taus, rho: see `choose_factor`; of some factors or all. hold: coarse steps, at
    most, between two fine ones."""

    taus: Mapping[int, float]
    rho: float = RHO
    hold: int = HOLD


@dataclass(frozen=True)
class _ForwardRecord:
    """A forward of the last step: its arguments, t, factor and velocity. correction: what is added to
    coarse velocities; beside a fine one: what was added before it. Tensors of the picture's size wait
    in RAM."""

    arguments: dict
    time: float
    factor: int
    velocity: Tensor
    correction: Tensor | None


class PatchScheduler:
    """A model that chooses the size of its patches in every step of sampling.

    What larger patches miss is carried on (ours): the first coarse step also asks for the coarse
    velocity of the step before, and the difference from what that step had is added from there on.
    It changes slowly; after some steps a fine one finds it anew.

    adapters: by factor. Make it before anything stands in the places of blocks. cache: a step cache
    that works at the same time. factors: those of the steps so far.
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
        """Another sampling begins."""
        self.first, self.call, self.resume_factor = 1.0, 0, 0
        self.last_time: float | None = None
        self.times: list[float] = []
        self.velocities: list[Tensor] = []
        self.factors: list[int] = []
        self.last_forwards: dict[int, _ForwardRecord] = {}  # by call: guidance may need two a step

    @contextmanager
    def installed(self, cache: StepCache | None = None) -> Iterator[None]:
        """Inside, the model works so."""
        self.cache = cache
        own, plain = vars(self.model).get("forward"), self.model.forward
        names = list(inspect.signature(type(self.model).forward).parameters)[1:]

        def forward(*given: Any, **named: Any) -> Any:
            return self.forward(plain, dict(zip(names, given, strict=False)) | named)

        self.reset()
        self.model.forward = forward
        try:
            yield
        finally:
            self.last_forwards, self.velocities = {}, []  # `factors` is looked at
            del self.model.forward
            if own is not None:
                self.model.forward = own

    def forward(self, plain: Callable[..., tuple], given: dict) -> tuple:
        """A forward of the library's, with patches of the size that the step needs. given: its
        arguments."""
        time = float(given["timestep"].flatten()[0])
        if self.last_time is None or time > self.last_time:
            self.reset()
            self.first = time
        anew, self.last_time = time != self.last_time, time
        time /= self.first
        if anew:
            self._begin_step()
        self.call = 0 if anew else self.call + 1
        factor, correction = self.factors[-1], None
        if factor == 1:
            output = plain(**given)
            found = self.family.velocity(output).float().cpu()
            if self.resume_factor:
                correction = self.last_forwards[self.call].correction
        else:
            correction = self._correction(plain, given, factor)
            seen = self.coarse_velocity(plain, given, time, factor)
            found = seen.float().cpu() + correction
            output = (found.to(seen),)
        waiting = given | {self.family.latents_arg: given[self.family.latents_arg].cpu()}
        self.last_forwards[self.call] = _ForwardRecord(waiting, time, factor, found, correction)
        if anew:
            self.times = [*self.times[-2:], time]
            self.velocities = [*self.velocities[-2:], found]
        return output

    def _begin_step(self) -> None:
        """The size of a step that begins; the first three are fine."""
        last = self.factors[-1] if self.factors else 1
        if self.resume_factor:
            factor, self.resume_factor = self.resume_factor, 0
        elif len(self.velocities) < 3:
            factor = 1
        else:
            change, patch = third_difference(self.times, self.velocities), self.family.patch_size
            wanted = self.schedule
            factor = choose_factor(to_vae_cells(change, patch), patch, wanted.taus, wanted.rho)
            if factor > 1 and min(self.factors[-wanted.hold :]) > 1:
                factor, self.resume_factor = 1, factor
        if self.cache and factor != last:
            self.cache.reset()
        self.factors.append(factor)

    def _correction(self, plain: Callable[..., tuple], given: dict, factor: int) -> Tensor:
        """What coarse velocities of this size miss, as it was in the step before."""
        before = self.last_forwards[self.call]
        if before.factor == factor and before.correction is not None:
            return before.correction
        name = self.family.latents_arg
        was = before.arguments | {name: before.arguments[name].to(given[name].device)}
        found = (
            before.velocity - self.coarse_velocity(plain, was, before.time, factor).float().cpu()
        )
        if self.cache:
            self.cache.repeat_call()
        if before.correction is not None and before.factor == 1 and self.call == 0:
            # so that the velocities before the fine one go on without a jump
            moved = [one + found - before.correction for one in self.velocities[:-1]]
            self.velocities = [*moved, self.velocities[-1]]
        return found

    def coarse_velocity(
        self, plain: Callable[..., tuple], given: dict, time: float, factor: int
    ) -> Tensor:
        """Velocity, shaped as the latents in `given`, of a pass over larger patches at t = time."""
        adapter = self.adapters[factor]
        with adapter_installed(self.model, self.family, adapter, self.linears):
            times = torch.full((len(given[self.family.latents_arg]),), time)
            return velocity(self.family, adapter, plain, given, times)


def calibrated_schedule(model: str, steps: int) -> tuple[PatchSchedule, float] | None:
    """The schedule that `lab calibrate` found to earn its place in previews of so many steps, and the
    step cache's threshold beside it; None: there is none. Raises UserError for a broken file."""
    path = adapter_file(model)
    facts = (
        json.loads(safetensors_files.read_metadata(path).get("ddit", "{}")) if path.exists() else {}
    )
    found = facts.get("schedule")
    if not found or found["steps"] != steps:
        return None
    taus = {int(factor): tau for factor, tau in found["taus"].items()}
    return PatchSchedule(taus, found["rho"], found["hold"]), found["cache"]
