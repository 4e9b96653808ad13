"""Types for the likeness of a run's pictures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from blockskip.core.events import Count, Real
from blockskip.runs.paired_differences import difference

# the judge's likeness of a perfect copy of a pet, and of another pet of its species
SAME, OTHER = 0.97, 0.11
THRESHOLD = (SAME + OTHER) / 2  # more like this pet than like another one
_ROUNDING = 1e-4  # of cosines that were computed in different batches

ImageKey = tuple[str, int]  # prompt, seed: the same picture at another step
Interval = tuple[Real, Real]  # mean, half width of its 95 % interval


@dataclass(frozen=True)
class StepLikeness:
    """The measurements of one step's pictures.

    subject, class_word: likeness of pictures with the trigger word, and with the bare class word.
    places: whether the place named in the prompt is in the picture, on the demo model. nearest:
    likeness of pictures with the trigger word to the most similar training photo. not_found: number
    of pictures in which no pet was found, None if nobody looked.
    """

    subject: dict[ImageKey, float] = field(default_factory=dict)
    class_word: dict[ImageKey, float] = field(default_factory=dict)
    places: dict[ImageKey, bool] = field(default_factory=dict)
    nearest: dict[ImageKey, float] = field(default_factory=dict)
    not_found: int | None = None

    @property
    def num_images(self) -> int:
        """Number of pictures measured."""
        return len(self.subject) + len(self.class_word)


class Scale(Protocol):
    """What the figures of a measure mean."""

    @property
    def visible_gap(self) -> float:
        """Differences below this are not seen."""

    def overfitted(self, look: StepLikeness) -> bool:
        """Return whether the model repeats the photos regardless of the prompt."""

    def reached(self, look: StepLikeness) -> bool:
        """Return whether the pictures look like the pet at all."""

    def copies(self, look: StepLikeness) -> int | None:
        """Return how many pictures copy a training photo, None if that is not known."""


@dataclass(frozen=True)
class DemoScale:
    """Of the demo world's judge, whose likeness is the same for all pets."""

    visible_gap: float = 0.02  # less than the difference between photos of the same pet

    def overfitted(self, look: StepLikeness) -> bool:
        """Return whether the bare class word shows this pet, or most places are missing."""
        lost = look.places and sum(look.places.values()) * 2 < len(look.places)
        return bool(lost) or (mean_of(look.class_word) or 0.0) >= THRESHOLD

    def reached(self, look: StepLikeness) -> bool:
        return (mean_of(look.subject) or 0.0) >= THRESHOLD

    def copies(self, look: StepLikeness) -> int | None:
        return None


@dataclass(frozen=True, kw_only=True)
class PetScale:
    """Of features that nobody calibrated for pets: only differences count, from the untrained
    model's pictures of the same prompts and seeds, and within the pet's own photos.

    untrained: pictures of step 0. visible_gap: the standard error of the photos' own likeness, as
    below. copying: the highest likeness of a photo to the photo nearest to it, None for fewer than
    three photos. None of this has been tried on real pets.
    """

    untrained: StepLikeness
    visible_gap: float
    copying: float | None

    def overfitted(self, look: StepLikeness) -> bool:
        """Return whether most pictures copy a photo, or those of the bare class word became more
        like this pet's pictures than like what they were."""
        if (self.copies(look) or 0) * 2 > len(look.nearest):
            return True
        came = difference(look.class_word, self.untrained.class_word)
        pet, was = mean_of(look.subject), mean_of(self.untrained.class_word)
        if came is None or pet is None or was is None:
            return False
        return came.mean > came.error and (mean_of(look.class_word) or 0.0) > (pet + was) / 2

    def reached(self, look: StepLikeness) -> bool:
        """Return whether pictures are more like the pet than the untrained model's, or whether
        there are none of those to compare."""
        gain = difference(look.subject, self.untrained.subject)
        return gain is None or gain.mean > gain.error

    def copies(self, look: StepLikeness) -> int | None:
        if self.copying is None:
            return None
        return sum(value > self.copying + _ROUNDING for value in look.nearest.values())


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A step's means. less: how far it stays below the step with the highest likeness. pictures:
    how many were measured. copies, not_found: how many of these."""

    subject: Real | None
    class_word: Real | None
    places_obeyed: tuple[Count, Count] | None
    nearest: Real | None = None
    copies: Count | None = None
    not_found: Count | None = None
    less: Interval | None = None
    pictures: Count = 0


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """What a real pet's figures are compared with. photos, held_out: how many were compared with,
    and whether training had not seen them. floor: likeness of the untrained class word. ceiling: of
    the pet's photos to each other. copying: see PetScale. rounds: pictures of each prompt and step
    that were made to measure."""

    photos: Count
    held_out: bool
    floor: Real | None
    ceiling: Real | None
    copying: Real | None
    rounds: Count = 0


@dataclass(frozen=True)
class LikenessReport:
    """The content of `likeness.json`. measure: the demo world's judge, features of a tool, or
    none."""

    by_step: dict[Count, StepReport]
    best_step: Count | None
    overlearnt_from: Count | None
    advice: str
    measure: Literal["judge", "features"] | None = "judge"
    anchors: Anchors | None = None


def mean_of(values: Mapping[ImageKey, float]) -> float | None:
    """Return the mean, rounded to 4 digits, or None without pictures."""
    return round(statistics.mean(values.values()), 4) if values else None
