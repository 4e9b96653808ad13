"""The page describes photos: what is used and what it costs is told, captions appear one by one, and
neither words of the user's nor the network are touched unasked."""

import json
import re
import socket

import psutil
import pytest
from helpers import fake_feed
from helpers.fake_model_server import ModelServer, saying
from huggingface_hub import constants

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.data.descriptions import INSTRUCTION
from blockskip.models.captioners import found, jobs, process
from blockskip.models.captioners.found import Captioner
from blockskip.models.captioners.jobs import Line
from blockskip.runs import describing
from blockskip.runs.run import Run
from blockskip.studio import click_handlers, describe, describe_view, draft, setup_screen, strings

FOUR_B = Captioner(
    name="krea2", title="Krea 2’s own text encoder (Qwen3-VL)", weights=4_437_815_808
)
TWO_B = Captioner(name="captioner", title="Photo describer", weights=2_127_532_032)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    describe.refresh()


@pytest.fixture
def here(monkeypatch):
    """The captioners on this computer."""
    known = [FOUR_B, TWO_B]
    monkeypatch.setattr(found, "captioners", lambda: list(known))
    return known


@pytest.fixture
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture
def started(monkeypatch):
    """Jobs that were begun; their files are there, and nobody works on them."""
    asked = []

    def begin(job, during_training=False):
        files.remove(jobs.results())
        files.write_json(jobs.folder() / "job.json", jobs.asdict(job))
        asked.append((job, during_training))

    monkeypatch.setattr(describing, "start", begin)
    monkeypatch.setattr(jobs, "is_running", lambda: bool(asked))
    return asked


def click(do, **said):
    return click_handlers.handle_click("", {"do": do} | said)


def shown():
    return setup_screen.parts()[0]["describe"]["value"]


def buttons(page):
    return re.findall(r'data-do="(\w+)"', page)


def captions():
    return [photo.caption for photo in draft.load().photos]


def test_without_photos_or_captioner_nothing_is_begun(pet, started):
    assert shown() == ""
    draft.add(pet)
    page = shown()
    assert "describe" not in buttons(page) and "download a model" in page and "4.0 GB" in page
    with pytest.raises(UserError, match="No model that describes"):
        click("describe")
    assert not started


def test_what_is_used_and_what_it_costs_is_told(pet, here, started):
    draft.add(pet)
    page = shown()
    assert (
        "Krea 2’s own text encoder" in page and "10 GB of RAM" in page and "nothing is sent" in page
    )
    assert buttons(page).count("describe_with") == 2
    click("describe_with", value="captioner")
    assert "Photo describer describes them" in shown() and "6 GB of RAM" in shown()
    draft.save_answers(kind="Guinea Pig", name="Momo")
    click("describe")
    ((job, anyway),) = started
    assert (job.captioner, job.class_name, job.server, anyway) == (
        "captioner",
        "guinea pig",
        None,
        False,
    )
    assert [path.split("/")[-1] for path in job.photos] == [p.file for p in draft.load().photos]
    here.remove(TWO_B)
    describe.refresh()
    assert describe.state().captioner == FOUR_B, "the chosen one is gone"


def test_captions_come_one_by_one_and_the_users_words_stay(pet, here, started):
    draft.add(pet)
    files_ = [photo.file for photo in draft.load().photos]
    draft.edit_photo(files_[0], "my own words", None)
    click("describe")
    (job, _), *_ = started
    assert len(job.photos) == len(files_) - 1, "a photo with words is not described"
    assert strings.DESCRIBE_LOADING in shown() and "describe_stop" in buttons(shown())
    assert "describe" not in buttons(shown())
    jobs.append(Line(job.photos[0], "on a <rug>", seconds=30))
    parts = setup_screen.parts()[0]
    assert captions() == ["my own words", "on a <rug>", "", "", ""]
    assert "Describing the photos: 1 of 4 · about 2 min left" in parts["describe"]["value"]
    assert "on a &lt;rug&gt;" in parts["photos"]["value"], "a tile shows it"
    draft.edit_photo(files_[1], "", None)
    draft.edit_photo(files_[2], "typed meanwhile", None)
    jobs.append(Line(job.photos[1], "from the model", seconds=30))
    jobs.append(Line(job.photos[2], unusable="it is gone"))
    shown()
    assert captions() == ["my own words", "", "typed meanwhile", "", ""], (
        "what was emptied stays so"
    )


def test_a_fault_is_told_until_it_is_mended(pet, here, started):
    draft.add(pet)
    click("describe")
    jobs.append(Line(title="No <RAM>.", remedy="Close others.", kind="OutOfMemory"))
    started.clear()
    page = shown()
    assert "No &lt;RAM&gt;." in page and "Close others." in page and "describe" in buttons(page)
    for photo in draft.load().photos:
        draft.edit_photo(photo.file, "words", None)
    page = shown()
    assert "RAM&gt;" not in page and strings.DESCRIBE_DONE in page
    with pytest.raises(UserError, match="Every photo has a caption"):
        click("describe")


def test_a_training_comes_first_unless_the_user_insists(pet, here, monkeypatch):
    draft.add(pet)
    fake_feed.make_run(pet)
    monkeypatch.setattr(Run, "worker", lambda run: psutil.Process())
    begun = []
    monkeypatch.setattr(jobs, "start", begun.append)
    assert buttons(shown())[0] == "describe_anyway" and strings.DESCRIBE_TRAINING in shown()
    with pytest.raises(UserError, match="A training is running"):
        click("describe")
    assert not begun
    click("describe_anyway")
    assert len(begun) == 1


def test_removing_all_photos_ends_it(pet, here, monkeypatch):
    stopped = []
    monkeypatch.setattr(jobs, "stop", lambda *_: stopped.append(True))
    draft.add(pet)
    click("clear")
    assert stopped and not draft.load().photos


def test_other_photos_than_the_drafts_are_not_its_business(pet, here, started):
    draft.add(pet)
    describing.start(jobs.Job(photos=tuple(map(str, pet)), class_name="cat"))
    jobs.append(Line(str(pet[0]), "from the terminal"))
    assert describe.state().progress is None and captions() == [""] * 5


def test_the_instruction_is_kept_and_can_be_the_usual_again(pet, here, started):
    draft.add(pet)
    assert INSTRUCTION[:40] in shown()
    click("describe_words", value="  Say <b>\n what {class} does. ")
    assert "Say &lt;b&gt; what {class} does." in shown() and 'data-reset="words"' in shown()
    click("describe")
    assert started[0][0].instruction == "Say <b> what {class} does."
    click("describe_words")
    assert describe.load().instruction == "" and INSTRUCTION[:40] in shown()
    click("describe_words", value=INSTRUCTION)
    assert describe.load().instruction == ""
    with pytest.raises(UserError):
        click("describe_words", value="x" * 2001)


def test_a_server_is_looked_at_on_a_click_alone(pet, server, started, monkeypatch):
    draft.add(pet)
    server.models = ["qwen3-vl:2b", "big-cloud", "<other>"]
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def no_network(*_, **__):
        raise AssertionError("the network is used")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert "describe" not in buttons(shown()) and "server_look" in buttons(shown())
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", connect)
    click("server_look", value=server.address)
    page = shown()
    assert "qwen3-vl:2b" in page and "&lt;other&gt;" in page and "big-cloud" not in page
    assert "describe" not in buttons(page), "no model is chosen yet"
    click("server_model", model="<other>")
    looked = len(server.asked)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    describe.refresh()
    page = shown()
    assert (
        f"&lt;other&gt; at {server.address} describes them" in page
        and buttons(page)[0] == "describe"
    )
    assert len(server.asked) == looked and not server.photos
    click("describe")
    ((job, _),) = started
    assert (job.server.address, job.server.model, job.server.elsewhere) == (
        server.address,
        "<other>",
        False,
    )
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.reply = saying("A cat sits on a rug.")
    process.work(job)
    shown()
    assert captions() == ["sits on a rug"] * 5 and len(server.photos) == 5


def test_another_computer_is_asked_only_when_allowed(pet, here, monkeypatch):
    draft.add(pet)
    asked = []

    def no_connection(self, address):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    click("server_look", value="192.0.2.7:80")
    page = shown()
    assert "your photos would leave" in page and "server_allow" in buttons(page) and not asked
    assert describe.load().server.address == ""
    click("server_allow", value="192.0.2.7:80")
    assert asked and "No server answers" in shown() and "server_allow" not in buttons(shown())
    click("server_look", value="ftp://x")
    assert "is not the address of a server" in shown()


def test_choices_that_cannot_be_read_are_the_usual_ones(pet, here):
    draft.add(pet)
    for text in ("{", '{"captioner": 7}', json.dumps({"server": {"address": "x", "model": "m"}})):
        jobs.folder().mkdir(parents=True, exist_ok=True)
        (jobs.folder() / "choices.json").write_text(text, encoding="utf-8")
        assert describe.load().captioner == "" and "Krea 2" in shown()
    assert describe_view.captions(draft.Draft(), describe.state()) == ""
