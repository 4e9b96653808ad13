"""A curve of bounded size for runs of any length: values are binned as they arrive."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_BINS = 160  # per curve; a chart is about 500 pixels wide


@dataclass
class Series:
    """Values (x, y) with x ≥ 0 in at most MAX_BINS bins of equal width.

    width: of a bin, in units of x. It doubles when there would be too many bins.
    bins: index → [count, sum of y, peak of y, last x, last y].
    """

    width: float = 1.0
    bins: dict[int, list[float]] = field(default_factory=dict)

    def add(self, x: float, y: float) -> None:
        """Add one value. x may not lie before the last bin."""
        index = int(x // self.width)
        if index not in self.bins and len(self.bins) == MAX_BINS:
            self._halve()
            self.add(x, y)
            return
        count, total, peak, _, _ = self.bins.get(index, (0, 0.0, y, x, y))
        self.bins[index] = [count + 1, total + y, max(peak, y), x, y]

    def cut(self, x: float) -> None:
        """Remove all values after x. A bin that extends beyond x is removed whole."""
        self.bins = {index: bin for index, bin in self.bins.items() if bin[3] <= x}

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest (x, y)."""
        if not self.bins:
            return None
        *_, x, y = self.bins[max(self.bins)]
        return x, y

    def means(self) -> list[tuple[float, float]]:
        """Return (x, mean) of each bin."""
        return [(x, total / count) for count, total, _, x, _ in self._ordered()]

    def peaks(self) -> list[tuple[float, float]]:
        """Return (x, maximum) of each bin, so that no peak is hidden."""
        return [(x, peak) for _, _, peak, x, _ in self._ordered()]

    def smooth(self) -> list[tuple[float, float]]:
        """Return (x, moving average) over a tenth of all bins, half as many at the ends."""
        bins = self._ordered()
        reach, out = max(1, len(bins) // 20), []
        for i, bin in enumerate(bins):
            near = bins[max(0, i - reach) : i + reach + 1]
            out.append((bin[3], sum(b[1] for b in near) / sum(b[0] for b in near)))
        return out

    def copy(self) -> Series:
        return Series(self.width, {index: list(bin) for index, bin in self.bins.items()})

    def _ordered(self) -> list[list[float]]:
        return [self.bins[index] for index in sorted(self.bins)]

    def _halve(self) -> None:
        self.width *= 2
        merged: dict[int, list[float]] = {}
        for index in sorted(self.bins):
            count, total, peak, x, y = self.bins[index]
            old = merged.get(index // 2, [0, 0.0, peak, x, y])
            merged[index // 2] = [old[0] + count, old[1] + total, max(old[2], peak), x, y]
        self.bins = merged
