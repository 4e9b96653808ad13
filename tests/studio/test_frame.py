"""What a tab is sent: only what changed, and always something that can be shown."""

import pytest
from helpers import fake_feed

from blockskip.core import events
from blockskip.runs.run import list_runs
from blockskip.studio import draft, page, screen, strings


def changed(parts):
    return [name for name, update in parts.items() if "value" in update or "visible" in update]


def test_only_what_changed_is_sent(pet, told):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60)
    assert screen.initial_view() == run.name
    parts, tokens = told(run.name)
    assert parts["resume"]["visible"] and changed(parts) != changed(told("")[0])
    again, _ = told(run.name, tokens)
    assert changed(again) == []
    run.append(events.Note(text="Something <i>new</i>", level="warning"))
    after, _ = told(run.name, tokens)
    assert changed(after) == ["notes"]
    assert "&lt;i&gt;" in after["notes"]["value"]


def test_an_idle_tick_is_next_to_nothing(pet, told):
    for shown in ("", "*", fake_feed.make_run(pet).name):
        _, tokens = told(shown)
        again, tokens = told(shown, tokens)
        assert changed(again) == []
        assert isinstance(tokens, str), "Gradio never lets go of what it is told to skip at times"


def test_a_tab_of_an_older_studio_is_sent_everything(told):
    parts, _ = told("", '{"a part of then": "x", "run": []}')
    assert {"photos", "models"} <= set(changed(parts))


@pytest.mark.parametrize("shown", ["../x", "x\0y", "/etc", "~", "x" * 5000, "**", "<b>"])
def test_whatever_a_tab_says_it_shows(told, shown):
    parts, _ = told(shown)
    assert strings.NO_RUN in parts["messages"]["value"]
    assert not parts["hero"]["value"] and not parts["pause"].get("visible")


def test_a_run_that_is_gone_or_broken_says_so(pet, told):
    run = fake_feed.make_run(pet)
    (run.folder / "run.toml").write_text("not = [toml", encoding="utf-8")
    assert "cannot be read" in told(run.name)[0]["messages"]["value"]
    assert run.name in told("*")[0]["list"]["value"], "it can still be deleted"


@pytest.mark.parametrize("damage", ["photos", "studio.json", "events.jsonl", "settings"])
def test_a_damaged_run_spoils_neither_page_nor_list(finished, told, damage):
    """Folders that people tidied up, files cut short: something is shown, nothing raises."""
    match damage:
        case "photos":
            for photo in finished.photos_dir.iterdir():
                photo.unlink()
            finished.photos_dir.rmdir()
        case "studio.json":
            (finished.folder / "studio.json").write_text('{"pet": ["x"], "step": "y"', "utf-8")
        case "events.jsonl":
            finished.events_path.write_bytes(b'\xff\xfe{"kind": \n[]\n3\nnull\n{"kind": "loss"}\n')
        case "settings":
            info = finished.info()
            finished.write_info(info | {"settings": info["settings"] | {"model": "gone"}})
    assert screen.initial_view() == finished.name
    told(finished.name)
    assert finished.name in told("*")[0]["list"]["value"]


def test_a_fresh_tab_goes_on_where_the_user_was(pet):
    assert screen.initial_view() == ""
    run = fake_feed.make_run(pet)
    draft.add(pet)
    assert screen.initial_view() == "", "photos are being chosen"
    fake_feed.seem_alive(run)
    assert screen.initial_view() == run.name, "a training is running"


def test_tabs_that_ask_at_once_share_a_look(pet, monkeypatch):
    run, looks = fake_feed.make_run(pet), []
    parts = screen._parts
    monkeypatch.setattr(screen, "_parts", lambda shown: looks.append(shown) or parts(shown))
    for _ in range(8):
        screen.page_updates(run.name, "", fresh=False)
    assert len(looks) < 8
    before = len(looks)
    screen.page_updates(run.name, "")
    assert len(looks) == before + 1, "after a press everything is looked at anew"


def test_while_one_trains_the_next_is_prepared(pet, told):
    fake_feed.seem_alive(fake_feed.make_run(pet))
    draft.add(pet)
    parts, _ = told("")
    words, _, rest = strings.TRAIN_QUEUE.partition("{steps}")
    assert parts["train"]["value"].startswith(words) and parts["train"]["value"].endswith(rest)
    assert 'data-do="open"' in parts["busy"]["value"]


def test_a_failing_tick_keeps_what_is_shown(monkeypatch):
    def broken(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(screen, "page_updates", broken)
    *updates, tokens, number = page.tick("", "abc", "7")
    assert len(updates) == len(screen.PARTS)
    assert (tokens, number) == ("abc", "7"), "the tab may ask again"
    assert all(update == {"__type__": "update"} for update in updates)


def test_a_request_that_needs_no_answer_changes_nothing(monkeypatch):
    monkeypatch.setattr(screen, "page_updates", None)
    assert all(update == {"__type__": "update"} for update in page.refresh("", "", ""))


def test_the_list_holds_every_run_newest_first(pet, told):
    names = [fake_feed.make_run(pet, name=name, pet=f"<{name}>").name for name in ("a", "b", "c")]
    drawn = told("*")[0]["list"]["value"]
    places = [drawn.index(f'data-run="{run.name}"') for run in list_runs()]
    assert places == sorted(places) and sorted(names) == ["a", "b", "c"]
    assert "<a>" not in drawn and "&lt;a&gt;" in drawn
