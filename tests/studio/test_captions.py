"""Photos come in by the terminal, the page and the API: the same captions are trained."""

import re

import pytest

from blockskip.cli import app
from blockskip.core.paths import ASSETS, data_dir
from blockskip.core.settings import Settings
from blockskip.data import caption_files
from blockskip.runs import identity
from blockskip.runs.run import Run, create_run, list_runs
from blockskip.runs.worker import Worker
from blockskip.studio import actions, draft, panels, photo_set_view

GBK = "一只猫".encode("gbk")
FILES = {
    "photo 1.txt": b"lying on a sofa",
    "photo 2.caption": "[trigger] – süß".encode("utf-16-le"),
    "photo 3.TXT": "Momo’s bed".encode(),
    "photo 4.txt": GBK,
    "metadata.jsonl": b'{"file_name": "photo 5.png", "text": "in a {name} box"}\n{"file_name": 7}\n',
}
TRAINED = {
    "photo 1": "a photo of momo cat, lying on a sofa",
    "photo 2": "momo – süß",
    "photo 3": "Momo’s bed",
    "photo 5": "in a momo box",
}


@pytest.fixture
def folder(pet):
    for name, data in FILES.items():
        (pet[0].parent / name).write_bytes(data)
    return pet[0].parent


def trained(run: Run) -> list[str]:
    """The captions that a worker of the run reads, photo by photo."""
    settings = Worker(run).settings
    captions = [photo.caption for photo in Worker(run)._read_photos()]
    return ["" if text == settings.subject_caption else text for text in captions]


EXPECTED = [TRAINED.get(f"photo {n}", "") for n in range(1, 6)]


def test_the_terminal(folder, monkeypatch, capsys):
    monkeypatch.setattr(
        Run, "start", lambda run, card="", stays=False: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    words = ["train", str(folder), "--trigger", "momo", "--class", "cat", "--out", "r"]
    monkeypatch.setattr("sys.argv", ["blockskip", *words])
    app.main()
    said = " ".join(capsys.readouterr().err.split())
    (run,) = list_runs()
    assert trained(run) == EXPECTED
    assert "photo 4.txt is not used as a caption: its text encoding is not certain" in said
    assert "metadata.jsonl, line 2 is not used as a caption: it names no photo (file_name)" in said
    assert "The trigger “momo” is added to 1 caption that lacks it." in said


def test_a_caption_for_all_photos_has_the_trigger_too(pet, monkeypatch):
    monkeypatch.setattr(
        Run, "start", lambda run, card="", stays=False: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    words = ["train", str(pet[0]), "--trigger", "momo", "--caption", "asleep in {trigger}’s bed"]
    monkeypatch.setattr("sys.argv", ["blockskip", *words])
    app.main()
    assert list_runs()[0].settings().subject_caption == "asleep in momo’s bed"


def test_the_page(folder, no_worker, asked):
    """As uploaded: every file in a folder of its own."""
    files = []
    for index, path in enumerate(sorted(folder.iterdir())):
        files.append(folder.parent / str(index) / path.name)
        files[-1].parent.mkdir()
        path.rename(files[-1])
    now = draft.add(files, demo=True)
    assert (
        "photo 4.txt",
        "its text encoding is not certain; save it as UTF-8 with BOM",
    ) in now.rejected
    assert ("metadata.jsonl, line 2", "it names no photo (file_name)") in now.rejected
    assert len(now.photos) == 5 and len(now.rejected) == 2
    assert trained(actions.find_run(asked())) == EXPECTED


def test_captions_may_come_after_their_photos(pet, folder):
    draft.add(pet)
    now = draft.add([folder / name for name in FILES])
    assert [photo.caption for photo in now.photos] == [
        "lying on a sofa", "[trigger] – süß", "Momo’s bed", "", "in a {name} box",
    ]  # fmt: skip


def test_the_api(folder, no_worker, asked):
    paths = sorted(map(str, folder.iterdir()), key=lambda path: (not path.endswith("png"), path))
    data_dir().mkdir(exist_ok=True)
    run = actions.find_run(asked(uploads=paths, anyway=True))
    assert trained(run) == EXPECTED


def test_a_started_run_keeps_the_captions_that_it_began_with(folder):
    """Older versions read them otherwise; the trained text must not change on resuming."""
    run = create_run(Settings(), [folder / "photo 4.png"], "old")
    (photo,) = run.photos_dir.glob("*.png")
    photo.with_suffix(".txt").write_bytes(GBK)
    recorded = Worker(run)._read_photos()[0]
    facts = {"file": photo.name, "sha": recorded.sha, "caption": "Ò»Ö»Ã¨"}
    run.write_info(run.info() | {"model_fingerprint": "m", "photos": [facts]})

    class Source:
        def fingerprint(self, report):
            return "m"

    worker = Worker(run)
    photos = worker._read_photos()
    assert [photo.caption for photo in photos] == ["Ò»Ö»Ã¨"]
    assert identity.check(run, photos, Source(), lambda n, total: None), (
        "and it is not refused as changed"
    )


def test_the_page_takes_every_file_and_knows_captions_by_their_endings():
    """Whatever is no photo is named by the server; captions have no tile (assets/photos.js)."""
    page = panels.gr.Blocks()
    with page:
        assert panels.setup()["files"].file_types is None
    assert "accept" not in photo_set_view.drop_zone()
    script = (ASSETS / "photos.js").read_text(encoding="utf-8")
    known, of_several = (
        re.search(rf"{name} = /(.+?)/i", script)[1] for name in ("captions", "several")
    )
    for suffix in (*caption_files.SUFFIXES, *caption_files.METADATA_SUFFIXES):
        assert re.search(known, f"a{suffix}"), suffix
        assert bool(re.search(of_several, f"a{suffix}")) == (
            suffix in caption_files.METADATA_SUFFIXES
        )


def test_again_keeps_captions_as_they_were_trained(folder, no_worker, asked):
    draft.add(sorted(folder.iterdir()), demo=True)
    first = actions.find_run(asked())
    actions.copy_to_draft(first.name)
    assert [photo.caption for photo in draft.load().photos] == EXPECTED == trained(first)
