"""The finder of pets: a detector's output, and a process that looks at photos once and for all."""

from types import SimpleNamespace

import pytest
import torch
from helpers import fake_feed, tiny_detector
from helpers.waiting import until
from PIL import Image

from blockskip.core import processes
from blockskip.core.errors import UserError
from blockskip.data.sightings import look
from blockskip.models import pet_finder

# two cats on a couch, COCO 000000039769, 640 × 480: as the tests and documentation of transformers
# record what D-FINE small and RT-DETRv2 R18 see there, in pixels (of the latter without remotes)
RECORDED = {
    "d-fine": [
        (15, 0.9642, (13.19, 54.13, 317.27, 472.12)),
        (65, 0.9542, (40.28, 72.98, 176.20, 117.77)),
        (15, 0.9536, (342.76, 23.43, 639.98, 374.77)),
        (57, 0.8548, (0.58, 1.18, 639.33, 474.86)),
    ],
    "rt-detr": [
        (15, 0.97, (341.14, 25.11, 639.98, 372.89)),
        (15, 0.96, (12.78, 56.35, 317.67, 471.34)),
        (57, 0.86, (-0.11, 2.97, 639.89, 473.62)),
        (57, 0.82, (-0.12, 1.78, 639.87, 473.52)),
    ],
}


def outputs(rows, width=640, height=480):
    """What a detector with one query for each row returns."""
    logits, boxes = torch.full((1, len(rows), 80), -12.0), torch.zeros(1, len(rows), 4)
    for query, (label, score, (left, top, right, bottom)) in enumerate(rows):
        logits[0, query, label] = torch.logit(torch.tensor(score))
        middle = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        boxes[0, query] = torch.tensor([*middle, (right - left) / width, (bottom - top) / height])
    return SimpleNamespace(logits=logits, pred_boxes=boxes)


@pytest.mark.parametrize(
    "detector, left, top", [("d-fine", 13.19, 54.13), ("rt-detr", 341.14, 25.11)]
)
def test_recorded_outputs_are_read(detector, left, top):
    rows = RECORDED[detector]
    seen = pet_finder.read_outputs(outputs(rows), tiny_detector.NAMES)
    assert [one.label for one in seen] == [tiny_detector.COCO[label] for label, _, _ in rows]
    assert all(0 <= edge <= 1 for one in seen for edge in one.box)
    assert seen[0].box[:2] == pytest.approx((left / 640, top / 480), abs=1e-4)
    found = look(seen, "cat")
    assert found.count == 2 and found.people == 0
    assert 0 <= found.frame.left < left / 640 and 0 <= found.frame.top < top / 480


def test_one_query_with_two_names_and_one_that_is_no_number():
    here = (10, 10, 300, 400)  # as many results come back as there are queries
    said = outputs([(15, 0.73, here), (15, 0.99, here), (57, 0.01, here)])
    said.logits[0, 0, 16] = torch.logit(torch.tensor(0.60))
    said.pred_boxes[0, 1] = float("nan")
    seen = pet_finder.read_outputs(said, tiny_detector.NAMES)
    assert [(one.label, round(one.score, 2)) for one in seen] == [("cat", 0.73), ("dog", 0.60)]
    said.logits[:] = float("nan")
    assert pet_finder.read_outputs(said, tiny_detector.NAMES) == []


@pytest.fixture
def detector():
    """A tiny detector that sees a cat in every photo, downloaded before."""
    return tiny_detector.install(cat_bias=2.0)


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "wörk"
    yield folder
    pet_finder.stop(folder)


def ended(folder):
    until(lambda: not pet_finder.is_running(folder))


def test_photos_are_looked_at_once_by_processes_that_may_end_at_any_moment(
    detector, work, tmp_path, monkeypatch
):
    photos = fake_feed.make_photos(tmp_path / "pet", 4)
    pet_finder.search(photos[:2], work)
    pet_finder.search(photos, work)  # added while it looks
    until(lambda: pet_finder.seen_in(photos[0], work) is not None)
    processes.holder(work / "finder.lock").kill()
    ended(work)
    if len(pet_finder.sightings(photos, "", work)) < len(photos):
        assert "broke off" in pet_finder.problem(work).title
    pet_finder.stop(work)
    assert pet_finder.problem(work) is None, "whoever stops it knows"
    written = {path: path.stat().st_mtime_ns for path in work.glob("*-*.json")}
    told = []
    pet_finder.wait(photos, work, lambda n, all_in: told.append((n, all_in)))
    ended(work)
    assert pet_finder.problem(work) is None and told == sorted(told) and told[-1][1] == 4
    assert all(path.stat().st_mtime_ns == at for path, at in written.items()), "seen only once"
    found = pet_finder.sightings([*photos, tmp_path / "gone.png"], "cat", work)
    assert list(found) == photos and all(seen.frame and seen.count == 1 for seen in found.values())
    # other kinds are found without looking again, and a photo under another name is known
    monkeypatch.setattr(processes, "start_holder", lambda *_, **__: pytest.fail("looked again"))
    assert {s.taken_for for s in pet_finder.sightings(photos, "dog", work).values()} == {"cat"}
    moved = photos[0].rename(tmp_path / "another name.png")
    pet_finder.search([moved, *photos[1:]], work)
    assert pet_finder.seen_in(moved, work)


def test_a_failure_is_told_and_not_repeated_for_ever(work, tmp_path):
    photos = fake_feed.make_photos(tmp_path / "pet", 2)
    pet_finder.wait(photos, work)
    ended(work)
    assert "is not on this machine" in pet_finder.problem(work).title
    last = (work / "finder.log").stat().st_size
    pet_finder.search(photos, work)
    assert not pet_finder.is_running(work) and (work / "finder.log").stat().st_size == last
    pet_finder.search(photos[:1], work)
    ended(work)
    assert (work / "finder.log").stat().st_size > last, "other photos are tried"


def test_an_unreadable_photo_shows_nothing(work, tmp_path, monkeypatch):
    def broken(path):
        raise UserError("It is damaged.")

    monkeypatch.setattr(pet_finder, "open_photo", broken)
    assert pet_finder._look(tmp_path / "x.jpg", None) == []


def test_a_photo_is_squashed_to_the_models_input(detector):
    """As transformers' processor does it; the shares are those of the photo."""
    from transformers import AutoModelForObjectDetection

    from blockskip.models.sources.tools import find_tool, load_tool

    model = load_tool(AutoModelForObjectDetection, find_tool("detector"))
    assert model.dtype == torch.float32 and not model.training
    wide = pet_finder.look_at(Image.new("RGB", (300, 100), "brown"), model)
    assert {one.label for one in wide} == {"cat"}
    assert wide == pet_finder.look_at(Image.new("RGB", (100, 300), "brown"), model)
