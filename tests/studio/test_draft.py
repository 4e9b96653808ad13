"""Photos being chosen: they outlive the process, bad ones are named, and nothing else is touched."""

import pytest
from helpers import fake_feed
from PIL import Image

from blockskip.core.settings import Settings
from blockskip.data import subject_boxes
from blockskip.data.photos import file_sha
from blockskip.studio import actions, draft, draft_frames, photo_view, strings
from blockskip.studio.pet_search import Search
from blockskip.studio.run_preferences import load


def drawn():
    """The tiles of the draft as it is."""
    return photo_view.photos(draft.load(), Settings(), False, Search())


def test_the_draft_outlives_the_process(pet, tmp_path):
    bad = tmp_path / "invoice <b>.jpg"
    bad.write_text("<html>", encoding="utf-8")
    draft.add([*pet, bad])
    draft.save_answers(name="Momo", kind="cat")
    again = draft.load()
    assert [p.name for p in again.photos] == [p.name for p in pet]
    assert again.rejected[0][0] == "invoice <b>.jpg" and again.own_photos
    assert again.answers == {"name": "Momo", "kind": "cat"}
    assert "<b>.jpg" not in drawn(), "names are escaped"


def test_the_same_photo_twice_counts_once_and_removal_removes(pet):
    draft.add(pet)
    now = draft.add(pet[:1])
    assert len(now.photos) == 5 and strings.PHOTO_TWICE in now.rejected[0][1]
    now = draft.remove(now.photos[0].file)
    assert len(now.photos) == 4 and not now.rejected
    assert len(draft.remove("../../run.toml").photos) == 4
    draft.clear()
    assert not draft.load().photos and not list(draft.photos_dir().glob("*"))


def test_nothing_but_bad_files_is_said_and_changes_nothing(pet, tmp_path):
    bad = tmp_path / "film.jpg"
    bad.write_bytes(b"")
    draft.add(pet)
    now = draft.add([bad])
    assert len(now.photos) == 5 and [name for name, _ in now.rejected] == ["film.jpg"]


def test_a_photo_too_many_is_named(pet, tmp_path, monkeypatch):
    monkeypatch.setattr(draft, "MAX_PHOTOS", 3)
    now = draft.add(pet)
    assert [p.name for p in now.photos] == [p.name for p in pet[:3]]
    assert [name for name, _ in now.rejected] == [p.name for p in pet[3:]]
    assert all("3 photos" in reason for _, reason in now.rejected)


def test_a_phone_photo_is_kept_upright_and_without_its_place(tmp_path):
    photo = Image.effect_noise((640, 480), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # taken upright: turn it by 90°
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 0.0)  # latitude
    photo.save(tmp_path / "phone.jpg", exif=exif)
    (kept,) = draft.add([tmp_path / "phone.jpg"]).photos
    with Image.open(draft.photos_dir() / kept.file) as image:
        assert image.size == (480, 640) and not image.getexif()


def test_captions_and_frames_come_along(pet, no_worker, asked):
    pet[0].with_suffix(".txt").write_text("momo asleep", encoding="utf-8")
    now = draft.add([*pet, pet[0].with_suffix(".txt")], demo=True)
    assert now.photos[0].caption == "momo asleep"
    draft.edit_photo(now.photos[1].file, "momo on a <b>chair", (0.25, 0.5, 0.75, 1.0))
    run = actions.find_run(asked())
    said = {p.stem[:3]: p.read_text(encoding="utf-8").strip() for p in run.photos_dir.glob("*.txt")}
    assert said == {"000": "momo asleep", "001": "momo on a <b>chair"}
    framed = [p for p in sorted(run.photos_dir.glob("*.png")) if subject_boxes.read_box(p)]
    assert [p.name[:3] for p in framed] == ["001"]
    assert subject_boxes.read_box(framed[0]) == subject_boxes.Box(0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("order", ["pairs", "photos first", "captions first", "captions later"])
@pytest.mark.parametrize("beside", [True, False])
def test_photos_of_one_name_have_each_its_own_caption(tmp_path, order, beside):
    """From two folders, also as uploads arrive: each file in a folder of its own."""
    found, texts = [], []
    for k in range(2):
        source = tmp_path / f"camera {k}"
        (photo,) = fake_feed.make_photos(source, 1, 64 + 8 * k)
        found.append(photo.rename(source / "IMG_0001.png"))
        texts.append((source if beside else tmp_path / f"upload {k}") / "IMG_0001.txt")
        texts[-1].parent.mkdir(exist_ok=True)
        texts[-1].write_text(f"caption {k}", encoding="utf-8")
    together = {
        "pairs": [found[0], texts[0], texts[1], found[1]],
        "photos first": found + texts,
        "captions first": texts + found,
        "captions later": found,
    }[order]
    draft.add(together)
    if order == "captions later":
        draft.add(texts)
    now = draft.load()
    assert not now.rejected
    captions = {p.sha: p.caption for p in now.photos}
    assert captions == {file_sha(photo): f"caption {k}" for k, photo in enumerate(found)}


def test_a_caption_of_two_photos_is_not_guessed(tmp_path):
    found = [fake_feed.make_photos(tmp_path / str(k), 1, 64 + 8 * k)[0] for k in range(2)]
    text = tmp_path / "upload" / "photo 1.txt"
    text.parent.mkdir()
    text.write_text("asleep", encoding="utf-8")
    for now in (draft.add([*found, text]), draft.add([text])):
        assert [p.caption for p in now.photos] == ["", ""]
        assert now.rejected == (("photo 1.txt", strings.CAPTION_UNCLEAR),)
    other = found[1].rename(tmp_path / "photo 1.PNG")
    draft.clear()
    now = draft.add([found[0], other, text])
    assert [p.caption for p in now.photos] == ["asleep", "asleep"], "of one picture, saved twice"


def test_a_new_caption_does_not_reach_an_older_photo(tmp_path):
    for k in range(2):
        (photo,) = fake_feed.make_photos(tmp_path / str(k), 1, 64 + 8 * k)
        text = tmp_path / f"upload {k}" / "photo 1.txt"
        text.parent.mkdir()
        text.write_text(f"caption {k}", encoding="utf-8")
        draft.add([photo, text])
    assert [p.caption for p in draft.load().photos] == ["caption 0", "caption 1"]
    assert not draft.load().rejected


def test_frames_are_taken_only_when_asked_and_can_be_taken_back(pet):
    draft.add(pet)
    now = draft.load()
    assert not any(p.box for p in now.photos), "a guess is never used unasked"
    if any(p.proposal for p in now.photos):
        own = now.photos[0].file
        draft.edit_photo(own, "", (0.0, 0.0, 0.5, 0.5))
        now = draft_frames.mark_all({})
        assert now.photos[0].box == (0.0, 0.0, 0.5, 0.5), "an own frame is not replaced"
        assert all(p.box == p.proposal for p in now.photos[1:] if p.proposal)
    assert not any(p.box for p in draft_frames.unmark_all().photos)
    assert not any(map(subject_boxes.read_box, draft.load().paths))


@pytest.mark.parametrize("text", ["", "null", "[]", '{"photos": 3}', '{"photos": [{"file": 1}]}'])
def test_a_spoilt_draft_is_an_empty_one(pet, text):
    draft.add(pet)
    (draft.photos_dir().parent / "draft.json").write_text(text, encoding="utf-8")
    assert draft.load() == draft.Draft()
    assert draft.add(pet).photos


def test_the_demo_pet_replaces_what_was_there(pet):
    draft.add(pet)
    actions.load_demo()
    assert not draft.load().own_photos and len(draft.load().photos) >= 4
    given = actions.current_answers()
    assert (given["name"], given["model"]) == (strings.DEMO_NAME, "demo") and given["kind"]


def test_again_brings_photos_and_answers_back(pet):
    run = fake_feed.make_run(pet, steps=120, pet="Mo Mo")
    actions.copy_to_draft(run.name)
    given = actions.current_answers()
    assert (given["name"], given["steps"], given["kind"]) == ("Mo Mo", 120, "cat")
    assert len(draft.load().photos) == 5 and not draft.load().own_photos
    assert load(run)["drawn"] is True
