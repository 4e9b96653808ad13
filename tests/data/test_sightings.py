"""From what a detector has seen to the pet's frame, and to who else is in the photo."""

import math

import pytest

from blockskip.data.photo_checks import sighted
from blockskip.data.sightings import Seen, clean, labels_of, look
from blockskip.data.subject_boxes import Box

LEFT, RIGHT = (0.0, 0.1, 0.4, 0.9), (0.5, 0.1, 1.0, 0.9)


def seen(*things):
    """What `clean` makes of (label, score, box)."""
    return clean(Seen(*thing) for thing in things)


def kinds(sighting, box=None):
    return [finding.kind for finding in sighted(sighting, box)]


@pytest.mark.parametrize(
    "kind, labels",
    [
        ("cat", {"cat"}),
        ("Tabby Kitten", {"cat"}),
        ("golden retriever", {"dog"}),
        ("budgie", {"bird"}),
        ("teddy bear", {"teddy bear"}),
        ("brown bear", {"bear"}),
        ("rabbit", set()),
        ("guinea pig", set()),
        ("hot dog stand", set()),
        ("", set()),
    ],
)
def test_kinds_of_pets_have_coco_names(kind, labels):
    assert labels_of(kind) == labels
    assert labels_of("pet") >= {"cat", "dog", "bird", "horse"}


def test_the_frame_is_the_surest_of_its_kind_grown_and_inside_the_photo():
    found = look(seen(("cat", 0.4, LEFT), ("cat", 0.35, RIGHT), ("dog", 0.95, RIGHT)), "cat")
    assert found.frame == Box(0.0, 0.036, 0.432, 0.964), "8 % a side, not beyond the photo"
    assert (found.taken_for, found.count) == ("", 0) and kinds(found) == [], ".4 is not sure"
    whole = look(seen(("cat", 0.9, (-0.05, -2.0, 1.2, 1.0))), "cat")
    assert whole.frame == Box(0, 0, 1, 1)


@pytest.mark.parametrize("score, found", [(0.26, False), (0.29, False), (0.31, True)])
def test_below_the_threshold_the_pet_is_not_found(score, found):
    sighting = look(seen(("cat", score, LEFT)), "cat")
    assert (sighting.frame is not None) == found
    assert kinds(sighting) == ([] if found else ["lost"])
    assert kinds(sighting, Box(0, 0, 0.5, 0.5)) == [], "the user has shown where it is"


def test_one_animal_under_two_names_is_one():
    """One query of the detector may come back twice."""
    both = seen(("cat", 0.73, LEFT), ("dog", 0.60, LEFT))
    for kind in ("cat", "dog", "pet"):
        found = look(both, kind)
        assert found.frame and (found.count, found.taken_for) == (1, ""), kind


def test_another_animal_is_taken_and_told_if_its_kind_is_missing():
    found = look(seen(("dog", 0.8, LEFT), ("teddy bear", 0.99, RIGHT)), "cat")
    assert found.frame and found.taken_for == "dog" and kinds(found) == ["other"]
    assert "“dog”" in sighted(found, None)[0].text
    for things in ([("dog", 0.45, LEFT)], [("teddy bear", 0.99, RIGHT)], []):
        lost = look(seen(*things), "cat")
        assert lost.frame is None and kinds(lost) == ["lost"]


@pytest.mark.parametrize(
    "second, score, count",
    [
        (RIGHT, 0.6, 2),
        (RIGHT, 0.49, 1),
        ((0.0, 0.12, 0.42, 0.9), 0.9, 1),  # nearly the same
        ((0.1, 0.2, 0.3, 0.4), 0.9, 1),  # its head
        ((0.3, 0.1, 0.8, 0.9), 0.9, 2),  # beside it, partly hidden
    ],
)
def test_two_of_its_kind_are_counted_once_each(second, score, count):
    found = look(seen(("cat", 0.95, LEFT), ("cat", score, second)), "kitten")
    assert found.count == count and ("several" in kinds(found)) == (count > 1)


@pytest.mark.parametrize(
    "score, box, people",
    [
        (0.9, RIGHT, 1),
        (0.45, RIGHT, 0),
        (0.9, (0.9, 0.1, 1.0, 0.3), 0),  # 2 % of the photo: background
        (0.6, LEFT, 0),  # the cat itself, taken for a person
        (0.95, LEFT, 1),  # surer than the cat
    ],
)
def test_people_are_told(score, box, people):
    found = look(seen(("cat", 0.8, LEFT), ("person", score, box)), "cat")
    assert found.people == people and kinds(found) == ["people"] * people
    assert look(seen(("person", score, box)), "rabbit").people == (score > 0.5 and box[0] < 0.9)


def test_a_kind_that_detectors_do_not_know_is_not_missed():
    found = look(seen(("cat", 0.9, LEFT)), "rabbit")
    assert found.frame is None and not found.can_be_found and kinds(found) == []


def test_values_that_cannot_be_are_left_out():
    wrong = [
        ("cat", math.nan, LEFT),
        ("cat", math.inf, LEFT),
        ("cat", 0.9, (math.nan, 0.0, 1.0, 1.0)),
        ("cat", 0.9, (0.1, 0.1, math.inf, 1.0)),
        ("cat", 0.9, (0.6, 0.1, 0.4, 0.9)),
        ("cat", 0.9, (1.1, 0.1, 1.5, 0.9)),  # beside the photo
        ("cat", 0.9, (0.5, 0.5, 0.5 + 1e-9, 0.9)),
        ("cat", 0.1, LEFT),
    ]
    assert seen(*wrong) == [] and kinds(look(seen(*wrong), "cat")) == ["lost"]
    assert [one.score for one in seen(("dog", 0.3, LEFT), ("cat", 0.9, RIGHT))] == [0.9, 0.3]
