"""Where the pet is in a photo, and who else is, from what an object detector has seen there.

Detectors name what they see as COCO does. models/pet_finder.py runs one; this module neither needs
it nor torch.

No threshold below was tried on photos of pets: each is that of others, named beside it, or a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blockskip.data.subject_boxes import Box

# the demo page of D-FINE's authors in transformers shows boxes from .3, a browser annotator from .35
_FRAME_SCORE = 0.3
# transformers' examples and D-FINE's card say .5; one measurement on 700 pictures of COCO counted
# people best at .5 (exactly in 73 % of the pictures, in 64 % at .4)
_COUNT_SCORE = 0.5
LEAST_SCORE = 0.25  # of what is kept of a photo
# a finder of lost pets grows each side by .08 of the box, “ears and tails are cut off”
_GROWTH = 0.08
_SAME_OVER_UNION = 0.7  # guess: two boxes of one animal; the detector has no suppression of its own
_SAME_INSIDE = 0.9  # guess: share of a box in a bigger one, as a head in its animal's
_PERSON_AREA = 0.03  # guess: a smaller person is background
_LEAST_SIDE = 0.005  # share of the photo's; a thinner box shows nothing

_PERSON = "person"
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_WORDS = {
    "cat": "kitten kitty tomcat tabby siamese persian ragdoll sphynx",
    "dog": "puppy pup hound terrier retriever labrador poodle spaniel bulldog dachshund corgi husky "
    "shepherd beagle pug chihuahua collie mutt",
    "bird": "parrot budgie budgerigar cockatiel canary finch cockatoo macaw chicken hen rooster duck "
    "goose pigeon owl",
    "horse": "pony foal mare stallion",
    "sheep": "lamb",
    "cow": "calf bull",
    "bear": "",
    "elephant": "",
    "zebra": "",
    "giraffe": "",
    "teddy bear": "",
}
_LABELS = {word: label for label, words in _WORDS.items() for word in (label, *words.split())}
_ANY_ANIMAL = ("pet", "animal")


@dataclass(frozen=True)
class Seen:
    """One thing that a detector has seen. label: COCO's name. box: (left, top, right, bottom) as
    shares of the photo."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Sighting:
    """What was seen of one kind of pet in a photo.

    kind: as the user calls it. frame: around the pet, None if it was not found. taken_for: the name
    that the detector gave it, if another than kind means. count, people: how many of its kind, and
    of people, are surely there.
    """

    kind: str
    frame: Box | None = None
    taken_for: str = ""
    count: int = 0
    people: int = 0
    can_be_found: bool = True


def labels_of(kind: str) -> frozenset[str]:
    """Return COCO's names for a kind of pet, “tabby kitten” → cat; none for one that it lacks, such
    as a rabbit. The last words decide."""
    words = kind.casefold().split()
    for start in range(len(words)):
        name = " ".join(words[start:])
        if name in _LABELS:
            return frozenset({_LABELS[name]})
        if name in _ANY_ANIMAL:
            return frozenset(_ANIMALS)
    return frozenset()


def clean(seen: Iterable[Seen]) -> list[Seen]:
    """Return what can be used, surest first, with boxes cut to the photo: no faint scores, empty
    boxes or values that are not finite."""
    kept = []
    for one in seen:
        if not all(map(math.isfinite, (one.score, *one.box))) or one.score < LEAST_SCORE:
            continue
        left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in one.box)
        if min(right - left, bottom - top) >= _LEAST_SIDE:
            kept.append(Seen(one.label, one.score, (left, top, right, bottom)))
    return sorted(kept, key=lambda one: -one.score)


def look(seen: Sequence[Seen], kind: str) -> Sighting:
    """Find one kind of pet in what a detector has seen in a photo. seen: as `clean` returns it."""
    labels = labels_of(kind)
    animals = [one for one in seen if one.label in (labels or _ANIMALS)]
    own = [one for one in animals if labels and one.score >= _FRAME_SCORE]
    taken_for = ""
    if not own and labels and labels <= set(_ANIMALS):  # a cat may be seen as a dog
        own = [one for one in seen if one.label in _ANIMALS and one.score >= _COUNT_SCORE][:1]
        taken_for = own[0].label if own else ""
    people = [
        one
        for one in _sure(seen, [_PERSON])
        if Box(*one.box).area >= _PERSON_AREA and not _is_one_of(one, animals)
    ]
    return Sighting(
        kind,
        frame=_grown(own[0].box) if own else None,
        taken_for=taken_for,
        count=len(_sure(seen, labels)),
        people=len(people),
        can_be_found=bool(labels),
    )


def _sure(seen: Sequence[Seen], labels: Iterable[str]) -> list[Seen]:
    """Return what is surely there of these labels, each once."""
    alone: list[Seen] = []
    for one in seen:
        if one.label not in labels or one.score < _COUNT_SCORE:
            continue
        if not any(_is_same(one.box, other.box) for other in alone):
            alone.append(one)
    return alone


def _is_one_of(person: Seen, animals: Sequence[Seen]) -> bool:
    """Return whether an animal was taken for a person too: one query of the detector may come back
    under two names."""
    return any(
        _over_union(person.box, animal.box) > _SAME_OVER_UNION and animal.score >= person.score
        for animal in animals
    )


def _is_same(box: Sequence[float], other: Sequence[float]) -> bool:
    smaller = min(_area(box), _area(other))
    inside = _shared(box, other) > _SAME_INSIDE * smaller
    return inside or _over_union(box, other) > _SAME_OVER_UNION


def _over_union(box: Sequence[float], other: Sequence[float]) -> float:
    both = _shared(box, other)
    return both / (_area(box) + _area(other) - both)


def _shared(box: Sequence[float], other: Sequence[float]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _grown(box: Sequence[float]) -> Box:
    left, top, right, bottom = box
    wide, high = _GROWTH * (right - left), _GROWTH * (bottom - top)
    return Box(
        round(max(0.0, left - wide), 4),
        round(max(0.0, top - high), 4),
        round(min(1.0, right + wide), 4),
        round(min(1.0, bottom + high), 4),
    )
