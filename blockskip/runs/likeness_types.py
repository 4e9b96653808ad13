"""What the judge sees in the pictures of a step."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

# on the judge's scale: a perfect copy of a pet, another pet of its species
SAME, OTHER = 0.97, 0.11
THRESHOLD = (SAME + OTHER) / 2  # more like this pet than like another one


ImageKey = tuple[str, int]  # prompt, seed: the same picture at another step


@dataclass(frozen=True)
class StepLikeness:
    """What the judge sees in the pictures of one step: likeness of those with the trigger word and
    of those with the bare class word; whether a place that was asked for is there."""

    subject: dict[ImageKey, float] = field(default_factory=dict)
    class_word: dict[ImageKey, float] = field(default_factory=dict)
    places: dict[ImageKey, bool] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Pictures looked at."""
        return len(self.subject) + len(self.class_word)

    @property
    def overfitted(self) -> bool:
        """The bare class word gives this pet rather than another one, or most places asked for are
        not drawn: then the photos are repeated, whatever is asked."""
        lost = self.places and sum(self.places.values()) * 2 < len(self.places)
        return bool(lost) or (mean_of(self.class_word) or 0.0) >= THRESHOLD

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {
            "subject": mean_of(self.subject),
            "class_word": mean_of(self.class_word),
            "places_obeyed": [sum(self.places.values()), len(self.places)],
        }


def mean_of(values: Mapping[ImageKey, float]) -> float | None:
    """None for no pictures."""
    return round(statistics.mean(values.values()), 4) if values else None
