"""The quick ways of sampling that are measured: step caches, key steps, larger patches."""

from __future__ import annotations

from dataclasses import dataclass

from blockskip.sampling.dynamic_patches import PatchSchedule

HOLDS, SHORT_HOLDS = (5, 10, 14), (2, 4, 8)  # coarse steps, at most, between two fine ones


@dataclass(frozen=True)
class Way:
    """How pictures are sampled. kind: what of it is in a plot. patches: when they are larger. first,
    magnitude: thresholds of the library's FirstBlockCache and MagCache, 0: none. keys: how many steps are
    computed, chosen beforehand; 0: all. carried: whether what larger patches miss is carried on."""

    name: str
    kind: str
    patches: PatchSchedule | None = None
    first: float = 0.0
    magnitude: float = 0.0
    keys: int = 0
    carried: bool = True

    @property
    def largest(self) -> int:
        """The largest patches that it may have."""
        return max(self.patches.taus) if self.patches else 1


EXACT = Way("exact", "exact")
CACHE, MAGNITUDE, BOTH = "FirstBlockCache", "MagCache", "patches and cache"
KEYS = "key steps"
BY_TAU, ALONE = "by τ and ρ", "nothing carried on"


def ways(steps: int, patches: bool) -> list[Way]:
    """What is measured with so many steps. patches: whether there are adapters."""
    found = [Way(f"FirstBlockCache {x:g}", CACHE, first=x) for x in (0.05, 0.1, 0.2, 0.3)]
    found += [Way(f"MagCache {x:g}", MAGNITUDE, magnitude=x) for x in (0.06, 0.12)]
    keys = (19, 14, 11, 8, 6) if steps > 20 else (11, 8, 7, 6)
    found += [key_way(num) for num in keys if num < steps]
    if not patches:
        return found
    for factor in (2, 4):
        for hold in holds(steps):
            name = f"all {factor}p"
            found.append(Way(f"{name}, hold {hold}", name, all_of(factor, hold)))
        alone = f"all {factor}p, nothing carried on"
        found.append(Way(alone, ALONE, all_of(factor, steps), carried=False))
    low, usual, high = taus(steps)
    for tau, rho in ((low, 0.4), (usual, 0.4), (usual, 0.2), (usual, 0.8), (high, 0.4)):
        found.append(Way(f"τ {tau:g}, ρ {rho:g}", BY_TAU, PatchSchedule({4: tau, 2: tau}, rho)))
    return found + together(steps)


def key_way(num: int) -> Way:
    """So many steps computed, chosen beforehand."""
    return Way(f"{num} key steps", KEYS, keys=num)


def holds(steps: int) -> tuple[int, int, int]:
    """What is tried of a schedule's `hold` with so many steps."""
    return HOLDS if steps > 20 else SHORT_HOLDS


def taus(steps: int) -> tuple[float, float, float]:
    """Thresholds that are tried. Over few long steps, differences of velocities are smaller."""
    return (0.5e-3, 1e-3, 2e-3) if steps > 20 else (0.5e-4, 1e-4, 2e-4)


def all_of(factor: int, hold: int) -> PatchSchedule:
    """One that is as coarse as it may be."""
    return PatchSchedule({factor: float("inf")}, hold=hold)


def together(steps: int) -> list[Way]:
    """Larger patches with a step cache."""
    _, some, many = holds(steps)
    return [
        Way(f"all {factor}p, hold {hold}, cache {x:g}", BOTH, all_of(factor, hold), first=x)
        for factor, hold, x in ((2, some, 0.1), (4, some, 0.1), (4, some, 0.2), (4, many, 0.2))
    ]


def slug(way: Way) -> str:
    """A way's name as a file's."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in way.name)
