"""Types for the likeness of a run's pictures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from blockskip.core.events import Count, Real

# the judge's likeness of a perfect copy of a pet, and of another pet of its species
SAME, OTHER = 0.97, 0.11
THRESHOLD = (SAME + OTHER) / 2  # more like this pet than like another one


ImageKey = tuple[str, int]  # prompt, seed: the same picture at another step


@dataclass(frozen=True)
class StepLikeness:
    """The judge's measurements of one step's pictures.

    subject, class_word: likeness of pictures with the trigger word, and with the bare class word.
    places: whether the place named in the prompt is in the picture.
    """

    subject: dict[ImageKey, float] = field(default_factory=dict)
    class_word: dict[ImageKey, float] = field(default_factory=dict)
    places: dict[ImageKey, bool] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Number of pictures measured."""
        return len(self.subject) + len(self.class_word)

    @property
    def overfitted(self) -> bool:
        """Whether the model repeats the photos regardless of the prompt: the bare class word shows
        this pet, or most requested places are missing."""
        lost = self.places and sum(self.places.values()) * 2 < len(self.places)
        return bool(lost) or (mean_of(self.class_word) or 0.0) >= THRESHOLD

    def to_dict(self) -> dict:
        """Return mean values, ready for JSON."""
        return {
            "subject": mean_of(self.subject),
            "class_word": mean_of(self.class_word),
            "places_obeyed": [sum(self.places.values()), len(self.places)],
        }


@dataclass(frozen=True)
class _Means:
    subject: Real | None
    class_word: Real | None
    places_obeyed: tuple[Count, Count] | None


@dataclass(frozen=True)
class LikenessReport:
    """The content of `likeness.json`. by_step: step → mean likeness, and (places right, total)."""

    by_step: dict[Count, _Means]
    best_step: Count | None
    overlearnt_from: Count | None
    advice: str


def mean_of(values: Mapping[ImageKey, float]) -> float | None:
    """Return the mean, rounded to 4 digits, or None without pictures."""
    return round(statistics.mean(values.values()), 4) if values else None
