"""`describe` writes captions as training reads them, and overwrites none unasked."""

import json
import os
import sys
from functools import partial

import pytest
from helpers import fake_feed
from helpers.fake_model_server import ModelServer, saying
from huggingface_hub import constants

from blockskip.data.caption_files import captions_beside
from blockskip.models.captioners import jobs, process
from blockskip.models.captioners.jobs import Line
from blockskip.runs import describing


@pytest.fixture
def call(monkeypatch, terminal, tmp_path):
    """Exit code, stdout and stderr of `describe`; the process's work is done in this one."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def work(job, during_training=False):
        jobs.files.remove(jobs.results())
        jobs.files.write_json(jobs.folder() / "job.json", jobs.asdict(job))
        try:
            process.work(job)
        except process.UserError as error:
            jobs.append(Line(title=error.title, remedy=error.remedy, kind=error.kind))

    monkeypatch.setattr(describing, "start", work)

    return partial(terminal, "describe")


@pytest.fixture
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture
def pet(tmp_path):
    return fake_feed.make_photos(tmp_path / "pet", 3)


def captions(photos):
    found = captions_beside(photos)
    return [found.of(path) for path in photos]


def test_captions_stand_beside_the_photos_and_the_users_own_stay(call, server, pet):
    folder = pet[0].parent
    (folder / "photo 1.caption").write_text("my words", encoding="utf-8")
    (folder / "photo 2.txt").write_bytes("一只猫".encode("gbk"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    code, out, err = call(folder, "--captioner", server.address)
    assert (code, out) == (
        0,
        "1 described, 2 had a caption and kept it (--overwrite describes them too).",
    )
    assert "photo 3.png: on a rug" in err and "1 of 1, done" in err
    assert {path: path.read_bytes() for path in before} == before
    assert captions(pet) == ["my words", "", "on a rug"] and len(server.photos) == 1
    code, out, _ = call(folder, "--captioner", server.address)
    assert code == 0 and out.startswith("0 described, 3 had") and len(server.photos) == 1
    code, out, _ = call(folder, "--captioner", server.address, "--overwrite")
    assert (code, out) == (0, "3 described.") and captions(pet) == ["on a rug"] * 3


def test_json_names_every_file_and_options_are_used(call, server, pet, tmp_path):
    (pet[0].parent / "photo 1.jpg").write_bytes(pet[1].read_bytes())
    words = ["--captioner", server.address, "--captioner-model", "other", "--class", "dog"]
    words += ["--instruction", "Name the {class}.", "--trigger", "luna", "--out", tmp_path / "out"]
    server.reply = saying("The dog, a brown terrier, is lying on a rug.")
    code, out, err = call(pet[0].parent, *words, "--json")
    told = json.loads(out)
    assert code == 0 and not err and told["kept"] == []
    names = ["photo 1.jpg.txt", "photo 1.png.txt", "photo 2.txt", "photo 3.txt"]
    assert sorted(row["file"] for row in told["captions"]) == [
        str(tmp_path / "out" / n) for n in names
    ]
    for name in names:
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert text == "a photo of luna dog, lying on a rug\n"
    body = server.photos[0]
    assert body["model"] == "other" and body["messages"][0]["content"][0]["text"] == "Name the dog."


def test_what_was_described_before_a_fault_is_kept(call, server, pet):
    server.reply = lambda body: (
        saying("The cat.") if len(server.photos) < 3 else (500, {"error": "no"})
    )
    (pet[0].parent / "0.png").write_bytes(b"no photo")
    code, out, err = call(pet[0].parent, "--captioner", server.address, "--trigger", "momo")
    assert code == 1 and out.startswith("2 described") and "refuses: no" in err
    assert "0.png is left out: it is not a photo" in err
    assert captions(pet) == ["a photo of momo cat"] * 2 + [""]
    server.reply = 500, {"error": "no"}
    code, out, err = call(pet[0].parent, "--captioner", server.address, "--json")
    told = json.loads(out)
    assert code == 1 and told["kind"] == "UserError" and len(told["kept"]) == 2 and not err


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_a_name_that_is_no_text_is_said(call, server, pet):
    os.rename(pet[0], os.fsencode(pet[0].parent) + b"/\xff\xe4.png")
    code, out, err = call(pet[0].parent, "--captioner", server.address)
    assert (code, out) == (0, "2 described.") and "left out: its name is not UTF-8 text" in err
    code, out, _ = call(pet[0].parent, "--captioner", server.address, "--json")
    assert code == 0 and "rename it" in json.loads(out)["captions"][0]["problem"]


def test_a_file_that_comes_meanwhile_is_not_overwritten(call, server, pet):
    def meanwhile(body):
        pet[0].with_suffix(".txt").write_text("mine", encoding="utf-8")
        return saying("The cat on a rug.")

    server.reply = meanwhile
    code, _, err = call(pet[0], "--captioner", server.address)
    assert code == 0 and "photo 1.txt is there by now, and is kept" in err
    assert captions(pet[:1]) == ["mine"]


@pytest.mark.parametrize(
    "words, code, told",
    [
        ([], 1, "No photos were given."),
        (["PET"], 1, "No model that describes photos is on this computer."),
        (["PET", "--captioner", "nobody"], 1, "There is no captioner called “nobody”."),
        (["PET", "--captioner", "krea2"], 1, "cannot describe photos"),
        (["PET", "--captioner", "ftp://x"], 2, "is not the address of a server"),
        (["PET", "--captioner", "192.0.2.7:80"], 1, "is another computer"),
        (["PET", "--captioner-model", "x"], 2, "are for a server"),
        (["PET", "--instruction", "x" * 2001], 2, "more than 2000 characters"),
        (["PET", "--class", ""], 2, "at least 1 item"),
        (["nowhere"], 1, "There is no file or folder called"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered(call, pet, words, code, told):
    got, _, err = call(*(pet[0].parent if word == "PET" else word for word in words))
    assert told in err and got == code
    assert captions(pet) == [""] * 3


def test_ctrl_c_keeps_what_is_described(call, pet, server, monkeypatch):
    def one_of_three(job, during_training):
        jobs.files.write_json(jobs.folder() / "job.json", jobs.asdict(job))
        jobs.append(Line(job.photos[0], "on a rug", seconds=3))

    def interrupt(_):
        raise KeyboardInterrupt

    stopped = []
    monkeypatch.setattr(describing, "start", one_of_three)
    monkeypatch.setattr(jobs, "is_running", lambda: True)
    monkeypatch.setattr(jobs, "stop", lambda: stopped.append(True))
    monkeypatch.setattr("blockskip.cli.describe.time.sleep", interrupt)
    code, out, err = call(pet[0].parent, "--captioner", server.address)
    assert (code, out) == (130, "1 described.") and "1 of 3, 5 s left" in err and stopped
    assert captions(pet) == ["on a rug", "", ""]


def test_a_caption_that_cannot_be_written_is_said(call, server, pet):
    pet[1].with_suffix(".txt").mkdir()
    code, out, err = call(pet[0].parent, "--captioner", server.address, "--overwrite")
    assert code == 1 and out == "1 described." and "photo 2.txt" in err
    assert captions(pet) == ["on a rug", "", ""]
