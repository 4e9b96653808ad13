"""The studio with broken runs among good ones: each is named, and the good ones work."""

import html
import itertools
import json
import re

import pytest
from helpers import fake_feed
from helpers.broken_runs import HARMLESS, UNREADABLE

from blockskip.core.errors import UserError
from blockskip.core.events import Failed, Loss
from blockskip.core.settings import Settings
from blockskip.runs import expected_time, failure
from blockskip.runs.run import create_run, list_runs
from blockskip.studio import (
    actions,
    click_handlers,
    page,
    places,
    run_preferences,
    run_state,
    screen,
)
from blockskip.studio import draft as drafts


def broken_run(pet, case, name="broken"):
    run = create_run(Settings(steps=9), pet[:1], name)
    UNREADABLE[case][0](run)
    return run


def test_thirty_broken_runs_among_five_good_ones(pet, told, finished, asked, no_worker):
    good = [fake_feed.make_run(pet, name=f"good {k}", pet=f"Pet{k}") for k in range(3)]
    cases = zip(range(30), itertools.cycle(UNREADABLE), strict=False)
    broken = [(broken_run(pet, case, f"broken {k}"), case) for k, case in cases]
    good.append(fake_feed.make_run(pet, name="good 3"))
    cards = told("*")[0]["list"]["value"].split("<li>")[1:]
    assert len(cards) == 35
    by_run = {re.search('data-run="([^"]*)"', card)[1]: html.unescape(card) for card in cards}
    for run, case in broken:
        card = by_run[run.name]
        assert UNREADABLE[case][1] in card and "Cannot be read" in card, case
        assert 'data-do="delete"' in card and 'data-do="again"' not in card
    assert all("Cannot be read" not in by_run[run.name] for run in [*good, finished])
    assert told(finished.name)[0]["hero"]["value"] and told("")[0]["photos"]["value"]
    assert page.open_page(places.NO_VIEW, "", "1")[0] == good[-1].name, (
        "the newest that can be read"
    )
    assert actions.status()["run"] == good[-1].name
    assert len(expected_time.finished_runs()) <= 1 and run_state.running() is None
    started = asked(uploads=[str(pet[0])], name="Luna", anyway=True)
    assert [run.name for run in no_worker] == [started]
    for run, _ in broken:
        click_handlers.handle_click("*", {"do": "delete", "run": run.name})
    assert {run.name for run in list_runs()} == {
        started,
        finished.name,
        *(run.name for run in good),
    }


@pytest.mark.parametrize("case", UNREADABLE)
def test_the_page_of_a_broken_run_says_what_is_wrong(pet, told, case):
    run = broken_run(pet, case)
    shown = told(run.name)[0]
    assert UNREADABLE[case][1] in html.unescape(shown["messages"]["value"])
    assert shown["hero"]["value"] == ""


@pytest.mark.parametrize("case", HARMLESS)
def test_the_page_does_without_a_harmless_file(pet, told, finished, case):
    if case != "failure":
        HARMLESS[case](finished)
    shown = told(finished.name)[0]
    assert finished.name in told("*")[0]["list"]["value"] and shown["status"]["value"]
    assert "Cannot be read" not in told("*")[0]["list"]["value"]


def test_an_unforeseen_error_in_one_run_is_a_sentence(pet, told, monkeypatch):
    good, bad = fake_feed.make_run(pet, name="good"), fake_feed.make_run(pet, name="bad")
    real = run_state.read

    def read(run):
        if run == bad:
            raise ZeroDivisionError("nobody thought of it")
        return real(run)

    monkeypatch.setattr(run_state, "read", read)
    drawn = told("*")[0]["list"]["value"]
    assert "Run “bad” cannot be read (ZeroDivisionError: nobody thought of it)." in drawn
    assert drawn.count("Cannot be read") == 1 and good.name in drawn
    assert "nobody thought of it" in told(bad.name)[0]["messages"]["value"]
    assert expected_time.finished_runs() == []


def test_values_that_are_not_finite_break_no_chart(pet, told):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 20)
    with open(run.events_path, "ab") as file:
        for value in (b"NaN", b"Infinity", b"-1e999", b"1e308", b'"x"', b"null"):
            file.write(b'{"event": "loss", "step": 21, "loss": %s, "seconds": 1}\n' % value)
            file.write(b'{"event": "memory", "rss_gib": %s, "ram_used_gib": 1, ' % value)
            file.write(b'"ram_total_gib": 2}\n')
    run.append(Loss(step=21, loss=0.25, seconds=1))
    assert run_state.read(run).losses.last == (21, 0.25)
    drawn = told(run.name)[0]["charts"]["value"]
    points = re.findall('points="([^"]*)"', drawn)
    assert points and all(re.fullmatch(r"[-\d., ]*", line) for line in points)
    assert json.loads(json.dumps(actions.status(run.name), allow_nan=False))["step"] == 21


def test_a_failure_kept_beside_the_log_is_shown(pet, told):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 20)
    failure.write(run.folder, Failed(title="The disk is full: events.jsonl.", remedy="Free some."))
    assert run_state.read(run).status == "failed"
    assert "The disk is full" in told(run.name)[0]["messages"]["value"]
    assert "The disk is full" in told("*")[0]["list"]["value"]
    run.events_path.unlink()
    run.events_path.mkdir()
    assert run_state.read(run).end.title == "The disk is full: events.jsonl."


@pytest.mark.parametrize("content", [b'{"pet": 5}', b"[]", b"[" * 100_000, b"\xff", b""])
def test_choices_that_cannot_be_read_are_ignored_and_said_once(pet, caplog, content):
    run = fake_feed.make_run(pet, pet="Momo")
    (run.folder / "studio.json").write_bytes(content)
    assert [run_preferences.load(run), run_preferences.load(run)] == [{}, {}]
    assert run_preferences.pet_name(run) == "Momo"
    assert [record.message.count("studio.json") for record in caplog.records] == [1]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"photos": [5]}', b'{"answers": 5}', b"[" * 99_999]
)
def test_a_broken_draft_keeps_its_photos(pet, content):
    whole = drafts.add(pet)
    path = drafts.photos_dir().parent / "draft.json"
    path.write_bytes(content)
    assert drafts.load() == drafts.Draft()
    assert path.with_name("draft.json.broken").read_bytes() == content
    assert all(file.exists() for file in whole.paths)


def test_a_draft_names_no_file_outside_its_folder(pet):
    saved = drafts.add(pet[:1])
    path = drafts.photos_dir().parent / "draft.json"
    (drafts.photos_dir().parent / "secret.jpg").write_bytes(b"x")
    path.write_text(path.read_text("utf-8").replace(saved.photos[0].file, "../secret.jpg"), "utf-8")
    assert drafts.load().photos == ()


def test_a_broken_run_cannot_be_used_but_says_why(pet):
    good, run = fake_feed.make_run(pet, name="good"), broken_run(pet, "empty")
    with pytest.raises(UserError, match="Run “broken” cannot be read: run.toml"):
        actions.copy_to_draft(run.name)
    assert screen.initial_view() == good.name
