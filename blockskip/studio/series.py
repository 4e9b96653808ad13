"""A curve that stays small however long a run gets: values are gathered in bins as they arrive."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_BINS = 160  # bins of a curve; a chart is some 500 pixels wide


@dataclass
class Series:
    """Values (x, y) with x ≥ 0, kept as at most MOST bins of equal width.

    width: of a bin, in units of x; it doubles whenever there would be too many bins.
    """

    width: float = 1.0
    bins: dict[int, list[float]] = field(default_factory=dict)  # place → [count, sum, peak, x, y]

    def add(self, x: float, y: float) -> None:
        """Add one value; x may not be before the last bin begins."""
        place = int(x // self.width)
        if place not in self.bins and len(self.bins) == MAX_BINS:
            self._halve()
            self.add(x, y)
            return
        count, total, peak, _, _ = self.bins.get(place, (0, 0.0, y, x, y))
        self.bins[place] = [count + 1, total + y, max(peak, y), x, y]

    def cut(self, x: float) -> None:
        """Forget all that came after x; a bin that reaches beyond it goes as a whole."""
        self.bins = {place: bin for place, bin in self.bins.items() if bin[3] <= x}

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest (x, y)."""
        if not self.bins:
            return None
        *_, x, y = self.bins[max(self.bins)]
        return x, y

    def means(self) -> list[tuple[float, float]]:
        """(x, mean) of each bin."""
        return [(x, total / count) for count, total, _, x, _ in self._ordered()]

    def peaks(self) -> list[tuple[float, float]]:
        """(x, highest) of each bin, so that no peak is hidden."""
        return [(x, peak) for _, _, peak, x, _ in self._ordered()]

    def smooth(self) -> list[tuple[float, float]]:
        """(x, mean of the surroundings): a tenth of all bins, half of that at the ends."""
        bins = self._ordered()
        reach, out = max(1, len(bins) // 20), []
        for i, bin in enumerate(bins):
            near = bins[max(0, i - reach) : i + reach + 1]
            out.append((bin[3], sum(b[1] for b in near) / sum(b[0] for b in near)))
        return out

    def copy(self) -> Series:
        return Series(self.width, {place: list(bin) for place, bin in self.bins.items()})

    def _ordered(self) -> list[list[float]]:
        return [self.bins[place] for place in sorted(self.bins)]

    def _halve(self) -> None:
        self.width *= 2
        merged: dict[int, list[float]] = {}
        for place in sorted(self.bins):
            count, total, peak, x, y = self.bins[place]
            old = merged.get(place // 2, [0, 0.0, peak, x, y])
            merged[place // 2] = [old[0] + count, old[1] + total, max(old[2], peak), x, y]
        self.bins = merged
