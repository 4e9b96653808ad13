"""Undo: what a click took out of the draft comes back as it was."""

import pytest
from helpers import fake_feed

from blockskip.core.errors import BadInput
from blockskip.data import subject_boxes
from blockskip.studio import (
    actions,
    click_handlers,
    draft,
    page,
    removed_photos,
    set_aside,
    strings,
)


def press(do, **said):
    return click_handlers.handle_click("", {"do": do, **said})


@pytest.fixture
def marked(pet):
    """Five photos, the second with a frame and a caption. Returns the draft."""
    draft.add(pet)
    draft.save_answers(name="Momo", kind="cat")
    second = draft.load().photos[1].file
    return draft.edit_photo(second, "on a sofa", (0.1, 0.2, 0.8, 0.9))


def as_it_was(before):
    now = draft.load()
    assert now.photos == before.photos and now.answers == before.answers
    boxes = [subject_boxes.read_box(path) for path in now.paths]
    assert [box is not None for box in boxes] == [photo.box is not None for photo in before.photos]


def test_photos_come_back_with_frame_caption_and_place(marked, told):
    press("remove", file=marked.photos[1].file)
    press("remove", file=marked.photos[0].file)
    assert marked.photos[0].name in told("")[0]["photos"]["value"]
    for left in (4, 5):
        press("undo")
        assert len(draft.load().photos) == left
    as_it_was(marked)
    assert 'data-do="undo"' not in told("")[0]["photos"]["value"]
    press("undo")
    as_it_was(marked)


def test_all_come_back_with_the_name(marked, event):
    page.on_click("", "", event(do="clear"))
    assert not draft.load().photos and "name" not in draft.load().answers
    _, *answers = page.on_click("", "", event(do="undo"))
    as_it_was(marked)
    assert answers[page.FORM_FIELDS.index("name")] == "Momo"


def test_what_was_typed_since_is_kept(marked):
    press("clear")
    draft.save_answers(name="Luna")
    press("undo")
    assert draft.load().answers["name"] == "Luna" and len(draft.load().photos) == 5


def test_a_photo_added_again_is_not_there_twice(marked, pet):
    press("remove", file=marked.photos[0].file)
    draft.add(pet[:1])
    press("undo")
    assert len(draft.load().photos) == 5


def test_what_a_training_replaced_comes_back_and_goes_again(marked, finished):
    actions.copy_to_draft(finished.name)
    assert draft.load().photos != marked.photos
    copied = draft.load()
    press("undo")
    assert draft.load().photos == marked.photos
    press("undo")
    assert draft.load().photos == copied.photos


def test_no_more_than_the_draft_holds(marked, monkeypatch, tmp_path):
    press("clear")
    draft.add(fake_feed.make_photos(tmp_path / "more", 6, side=40))
    monkeypatch.setattr(draft, "MAX_PHOTOS", 8)
    with pytest.raises(BadInput, match="limit is 8"):
        press("undo")
    press("clear")
    press("undo")
    press("undo_forget")
    press("undo")
    assert len(draft.load().photos) == 6


def test_a_training_or_a_press_forgets_them(marked, asked, no_worker):
    press("remove", file=marked.photos[0].file)
    asked(anyway=True)
    folder = draft.photos_dir().parent / "removed"
    assert no_worker and not folder.exists() and removed_photos.bar() == ""


@pytest.mark.parametrize("text", ["", "[]", '{"removals": [{"what": "x"}]}', "\0"])
def test_a_damaged_record_undoes_nothing(marked, text):
    press("remove", file=marked.photos[0].file)
    (draft.photos_dir().parent / "removed" / "removed.json").write_text(text, encoding="utf-8")
    press("undo")
    assert len(draft.load().photos) == 4 and strings.UNDO not in removed_photos.bar()


def test_files_outside_are_never_touched(marked, tmp_path):
    """A record that was written by hand names a path."""
    press("remove", file=marked.photos[0].file)
    record = draft.photos_dir().parent / "removed" / "removed.json"
    outside = tmp_path / "mine.png"
    outside.write_bytes(b"mine")
    text = record.read_text(encoding="utf-8")
    record.write_text(text.replace(marked.photos[0].file, "../../../mine.png"), encoding="utf-8")
    press("undo")
    assert outside.read_bytes() == b"mine" and len(draft.load().photos) == 4


def test_photos_that_were_set_aside_come_back_too(pet):
    now = draft.add(pet)
    set_aside.set_aside([photo.file for photo in now.photos[2:]])
    removed_photos.clear()
    assert not draft.load().photos and not draft.load().aside
    removed_photos.undo()
    back = draft.load()
    assert back.photos == now.photos[:2] and set(back.aside) == set(now.photos[2:])
    assert all((draft.photos_dir() / photo.file).exists() for photo in now.photos)
