"""Frames drawn by themselves, from the download to the run; what the user decided stays."""

import errno
import json
import socket
from dataclasses import asdict

import pytest
from helpers import fake_feed, hub_server, tiny_detector
from helpers.waiting import until

from blockskip.core import files
from blockskip.core.errors import Unexpected
from blockskip.core.repositories import tool_row
from blockskip.data.sightings import Seen
from blockskip.data.subject_boxes import Box, box_author, box_path, read_box
from blockskip.models import pet_finder
from blockskip.models.sources import download_process
from blockskip.runs import pet_frames
from blockskip.studio import actions, draft, pet_search, strings, tool_view
from blockskip.studio.click_handlers import handle_click
from blockskip.studio.pet_search import Search

REAL = "flux2-klein-4b"
MINE, HERE = (0.1, 0.1, 0.6, 0.6), (0.2, 0.3, 0.7, 0.8)
CAT = Seen("cat", 0.9, HERE)


@pytest.fixture
def chosen(pet):
    """A draft of own photos for a real model."""
    draft.save_answers(model=REAL, kind="cat", name="Luna")
    return draft.add(pet).photos


@pytest.fixture
def seen(chosen, monkeypatch):
    """The finder is here and has seen this in photo n; no process runs. Returns what was asked."""
    asked = []
    monkeypatch.setattr(tool_view, "is_ready", lambda name: True)
    monkeypatch.setattr(pet_finder, "search", lambda photos, folder: asked.append(photos))

    def say(n, *things):
        stat = (photo := draft.load().paths[n]).stat()
        name = pet_finder._result_name(photo, stat.st_size, stat.st_mtime_ns)
        files.write_json(draft.found_dir() / name, [asdict(one) for one in things])

    say.asked = asked
    return say


def page(told):
    return told("")[0]["photos"]["value"]


def boxes():
    return [photo.box for photo in draft.load().photos]


def test_from_the_offer_to_the_run(chosen, told, monkeypatch, tmp_path, no_worker, asked):
    def connect(*_):
        pytest.fail("the studio's process asks nobody")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(actions, "_require_model", lambda model: None)
    drawn, removed = chosen[0].file, chosen[1].file
    draft.edit_photo(drawn, None, MINE)
    draft.edit_photo(removed, None, MINE)
    draft.edit_photo(removed, None, None)
    hub = hub_server.Hub(tool_row("detector").source, tiny_detector.published())
    with hub_server.instead(hub, monkeypatch, tmp_path / "hf"):
        assert strings.FINDER_OFFER in page(told) and "40 MB" in page(told)
        assert not hub.asked and boxes()[2:] == [None] * 3, "nothing without a click"
        handle_click("", {"do": "fetch", "model": "detector"})
        row = tool_row("detector")
        until(lambda: download_process.progress(row).state == "done")
        came = len(hub.asked)
        assert "Looking for Luna in photo 1 of 5" in page(told)
        until(lambda: not pet_finder.is_running(draft.found_dir()))
        assert "Looking for" not in page(told) and strings.FINDER_OFFER not in page(told)
        assert len(hub.asked) == came
        assert page(told).count('class="mark"') == 4
        found = draft.load().photos[2].box
        assert boxes() == [MINE, None, found, found, found]
        name = asked(model=REAL, steps=40)
        assert len(hub.asked) == came
    photos = sorted(actions.find_run(name).photos_dir.glob("*.png"))
    assert [read_box(photo) for photo in photos] == [
        Box(*b) if b else None for b in boxes_of(found)
    ]
    assert [box_author(photo) for photo in photos] == ["user", "user"] + ["finder"] * 3
    # again: what the user removed is not drawn anew, what was found may change
    actions.copy_to_draft(name)
    assert [photo.open_to_finder for photo in draft.load().photos] == [False] * 2 + [True] * 3


def boxes_of(found):
    return [MINE, None, found, found, found]


def test_another_kind_is_found_in_what_was_seen(seen, told):
    for n in range(5):
        seen(n, CAT)
    draft.edit_photo(draft.load().photos[0].file, None, MINE)
    page(told)
    grown = (0.16, 0.26, 0.74, 0.84)
    assert boxes() == [MINE] + [grown] * 4
    draft.save_answers(kind="rabbit")
    assert "no “rabbit”" in page(told) and boxes() == [MINE] + [None] * 4
    assert [box_path(p).exists() for p in draft.load().paths] == [True] + [False] * 4
    draft.save_answers(kind="tabby cat")
    page(told)
    assert boxes() == [MINE] + [grown] * 4


def test_photos_without_the_pet_or_with_others_are_pointed_out(seen, told):
    other, person = Seen("cat", 0.8, (0.75, 0.1, 1.0, 0.4)), Seen("person", 0.9, (0, 0, 0.5, 1))
    seen(0, CAT), seen(1), seen(2, CAT, other), seen(3, CAT, person)
    drawn = page(told)
    for kind, times in (("lost", 1), ("several", 1), ("people", 1), ("other", 0)):
        assert drawn.count(f">{strings.PHOTO_NOTES[kind]}<") == times
    assert "No cat was found here" in drawn and "Looking for Luna in photo 5 of 5" in drawn
    assert drawn.count('class="mark"') == 3
    draft.edit_photo(draft.load().photos[1].file, None, MINE)
    assert "No cat was found" not in page(told), "the user has shown it"


def test_removed_frames_stay_away_until_they_are_asked_for(seen, told):
    for n in range(5):
        seen(n, CAT)
    page(told)
    handle_click("", {"do": "unmark_all"})
    page(told)
    assert boxes() == [None] * 5
    assert json.loads(box_path(draft.load().paths[0]).read_text()) == {"drawn_by": "user"}
    handle_click("", {"do": "mark_all"})
    assert len(set(boxes())) == 1 and all(boxes())
    assert all(photo.open_to_finder for photo in draft.load().photos)


def test_a_dialog_opened_before_does_not_undo_what_was_found(seen, told):
    seen(0, CAT)
    file = draft.load().photos[0].file
    page(told)
    said = {"do": "photo", "file": file, "box": None, "caption": "asleep", "frame_kept": True}
    handle_click("", said)
    now = draft.load().photos[0]
    assert now.caption == "asleep" and now.box and now.open_to_finder
    handle_click("", said | {"frame_kept": False})
    page(told)
    assert draft.load().photos[0].box is None, "removed by hand"


def test_frames_of_older_drafts_are_the_users(seen, told):
    path = draft.photos_dir().parent / "draft.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    for photo in saved["photos"]:
        del photo["framed_by"]
    saved["photos"][0]["box"] = MINE
    path.write_text(json.dumps(saved), encoding="utf-8")
    seen(0, CAT), seen(1, CAT)
    page(told)
    assert boxes()[0] == MINE and boxes()[1]


def test_drawn_pets_and_models_of_drawn_pets_are_not_looked_at(seen, told):
    draft.save_answers(model="demo")
    seen(0, CAT)
    assert "mark" not in page(told).replace("mark_all", "") or not any(boxes())
    assert not seen.asked and not any(boxes())
    draft.clear()
    actions.load_demo()
    draft.save_answers(model=REAL)
    page(told)
    assert not seen.asked


def test_a_failure_is_told_with_a_way_on(seen, told, monkeypatch):
    told_by_it = Unexpected("It <broke> off.", "Hm.").to_dict()
    files.write_json(draft.found_dir() / "problem.json", told_by_it)
    drawn = page(told)
    assert "It &lt;broke&gt; off. Hm." in drawn and "Looking for" not in drawn
    handle_click("", {"do": "find_again"})
    assert "Looking for Luna in photo 1 of 5" in page(told)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pet_finder, "search", full)
    drawn = page(told)
    assert "is full" in drawn and drawn.count("<li>") >= 5, "the photos are shown"


def test_train_waits_for_the_frames(seen, told, monkeypatch, no_worker, asked):
    monkeypatch.setattr(actions, "_require_model", lambda model: None)

    def wait(photos, folder, progress=None):
        for n in range(len(photos)):
            seen(n, CAT)

    monkeypatch.setattr(pet_finder, "wait", wait)
    run = actions.find_run(asked(model=REAL))
    assert all(read_box(photo) for photo in run.photos_dir.glob("*.png"))


def test_photos_that_a_program_uploads_get_frames(seen, pet, monkeypatch, no_worker, asked):
    monkeypatch.setattr(actions, "_require_model", lambda model: None)
    frame = Box(0.2, 0.2, 0.8, 0.8)
    monkeypatch.setattr(pet_frames, "find", lambda photos, settings: {photos[1]: None})
    monkeypatch.setattr(pet_frames, "frames", lambda found: dict.fromkeys(found, frame))
    run = actions.find_run(asked(uploads=[str(photo) for photo in pet], model=REAL))
    assert [read_box(photo) for photo in sorted(run.photos_dir.glob("*.png"))].count(frame) == 1


def test_photos_are_looked_at_while_others_are_added(seen, told, tmp_path):
    seen(0, CAT)
    page(told)
    draft.add(fake_feed.make_photos(tmp_path / "more", 2, 80))
    assert "Looking for Luna in photo 2 of 7" in page(told)
    assert [len(photos) for photos in seen.asked] == [5, 7]
    assert pet_search.update(draft.Draft(), REAL, "cat")[0] == Search()
