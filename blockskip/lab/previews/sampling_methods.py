"""The fast sampling methods under test: step caches, key steps, larger patches."""

from __future__ import annotations

from dataclasses import dataclass

from blockskip.sampling.dynamic_patches import PatchSchedule

HOLDS, SHORT_HOLDS = (5, 10, 14), (2, 4, 8)  # maximum coarse steps between two fine ones


@dataclass(frozen=True)
class SamplingMethod:
    """A way to sample pictures. group: its series in a plot. schedule: of larger patches.
    first_block_threshold, mag_threshold: for diffusers' FirstBlockCache and MagCache, 0 for none.
    num_key_steps: computed steps, chosen beforehand, 0 for all. with_correction: whether the error
    of larger patches is carried over to later steps."""

    name: str
    group: str
    schedule: PatchSchedule | None = None
    first_block_threshold: float = 0.0
    mag_threshold: float = 0.0
    num_key_steps: int = 0
    with_correction: bool = True

    @property
    def largest_patches(self) -> int:
        """The largest patch factor in use."""
        return max(self.schedule.taus) if self.schedule else 1


EXACT = SamplingMethod("exact", "exact")
CACHE, MAGNITUDE, BOTH = "FirstBlockCache", "MagCache", "patches and cache"
KEYS = "key steps"
BY_TAU, UNCORRECTED = "by τ and ρ", "nothing carried on"


def sampling_methods(steps: int, patches: bool) -> list[SamplingMethod]:
    """Return the methods to measure. patches: whether adapters for larger patches exist."""
    methods = [
        SamplingMethod(f"FirstBlockCache {x:g}", CACHE, first_block_threshold=x)
        for x in (0.05, 0.1, 0.2, 0.3)
    ]
    methods += [SamplingMethod(f"MagCache {x:g}", MAGNITUDE, mag_threshold=x) for x in (0.06, 0.12)]
    keys = (19, 14, 11, 8, 6) if steps > 20 else (11, 8, 7, 6)
    methods += [key_step_method(num) for num in keys if num < steps]
    if not patches:
        return methods
    for factor in (2, 4):
        for hold in max_holds(steps):
            name = f"all {factor}p"
            methods.append(
                SamplingMethod(f"{name}, hold {hold}", name, constant_schedule(factor, hold))
            )
        alone = f"all {factor}p, nothing carried on"
        methods.append(
            SamplingMethod(
                alone, UNCORRECTED, constant_schedule(factor, steps), with_correction=False
            )
        )
    low, usual, high = tau_thresholds(steps)
    for tau, rho in ((low, 0.4), (usual, 0.4), (usual, 0.2), (usual, 0.8), (high, 0.4)):
        methods.append(
            SamplingMethod(f"τ {tau:g}, ρ {rho:g}", BY_TAU, PatchSchedule({4: tau, 2: tau}, rho))
        )
    return methods + combined_methods(steps)


def key_step_method(num: int) -> SamplingMethod:
    """Return the method that computes `num` key steps."""
    return SamplingMethod(f"{num} key steps", KEYS, num_key_steps=num)


def max_holds(steps: int) -> tuple[int, int, int]:
    """Return the values of a schedule's `hold` to try."""
    return HOLDS if steps > 20 else SHORT_HOLDS


def tau_thresholds(steps: int) -> tuple[float, float, float]:
    """Return the thresholds τ to try. With few long steps, velocity differences are smaller."""
    return (0.5e-3, 1e-3, 2e-3) if steps > 20 else (0.5e-4, 1e-4, 2e-4)


def constant_schedule(factor: int, hold: int) -> PatchSchedule:
    """Return a schedule that always uses patches of `factor` where allowed."""
    return PatchSchedule({factor: float("inf")}, hold=hold)


def combined_methods(steps: int) -> list[SamplingMethod]:
    """Return the methods that combine larger patches with a step cache."""
    _, medium, long = max_holds(steps)
    return [
        SamplingMethod(
            f"all {factor}p, hold {hold}, cache {x:g}",
            BOTH,
            constant_schedule(factor, hold),
            first_block_threshold=x,
        )
        for factor, hold, x in (
            (2, medium, 0.1),
            (4, medium, 0.1),
            (4, medium, 0.2),
            (4, long, 0.2),
        )
    ]


def file_stem(method: SamplingMethod) -> str:
    """Return a file name, without extension, for a method."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in method.name)
