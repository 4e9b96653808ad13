"""The studio without a browser: what it refuses, what it remembers, what it draws and says."""

import json

import fake_feed
import pytest
from starlette.datastructures import Headers
from studio_server import a_free_port, serve

from blockskip import config, events, housekeeping, runs
from blockskip.events import UserError
from blockskip.studio import actions, app, draft, guard, texts, views, watch


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("studio") / "Dätä") as running:
        yield running


@pytest.fixture
def pet(tmp_path):
    return fake_feed.make_photos(tmp_path / "pet")


@pytest.fixture
def no_worker(monkeypatch):
    """Runs are made but nobody works on them. Returns the runs started."""
    started = []
    monkeypatch.setattr(watch, "start", started.append)
    return started


def asked(**changes):
    """A press on Train, with what is usually answered."""
    usual = {
        "uploads": None,
        "kind": "cat",
        "name": "Momo",
        "model": "demo",
        "budget": 8.0,
        "steps": 40,
        "seed": 0,
        "rank": 16,
        "anyway": False,
    }
    return actions.train(**usual | changes)


# who may talk to it


@pytest.mark.parametrize(
    "headers, passes",
    [
        ({"host": "127.0.0.1:7860"}, True),  # a program
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}, True),
        (
            {
                "host": "localhost:7860",
                "origin": "http://localhost:7860",
                "sec-fetch-site": "same-origin",
            },
            True,
        ),
        ({"host": "127.0.0.1:7860", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:7860", "origin": "null"}, False),
        (
            {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:9999"},
            False,
        ),  # another local page
        ({"host": "127.0.0.1:7860", "origin": "https://127.0.0.1:7860"}, False),
        (
            {"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
            False,
        ),
        (
            {
                "host": "127.0.0.1:7860",
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "iframe",
            },
            False,
        ),
        (
            {
                "host": "127.0.0.1:7860",
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "document",
            },
            True,
        ),  # a link to the studio
    ],
)
def test_only_its_own_page_may_drive_it(headers, passes):
    assert guard.allowed(Headers(headers)) is passes


@pytest.mark.parametrize(
    "path, headers, status",
    [
        ("/", {}, 200),
        ("/", {"Host": "evil.example"}, 400),
        ("/config", {"Origin": "http://evil.example"}, 403),
        ("/gradio_api/file=/etc/passwd", {}, 403),
        ("/gradio_api/file=pyproject.toml", {}, 403),
        ("/gradio_api/file=https://example.org/", {}, 403),
        ("/gradio_api/proxy=https://example.org/", {}, 403),
        ("/blockskip/picture/draft/-/..%2Fdraft.json?size=320", {}, 404),
        ("/blockskip/picture/photos/..%2F..%2Fx/run.toml?size=320", {}, 404),
        ("/blockskip/picture/draft/-/nothing.png?size=320", {}, 404),
        ("/docs", {}, 404),
        ("/openapi.json", {}, 404),
        ("/redoc", {}, 404),
    ],
)
def test_what_the_server_answers(server, path, headers, status):
    assert server.get(path, **headers)[0] == status


def test_a_foreign_page_cannot_press_stop(server):
    body = json.dumps({"data": ["x"]}).encode()
    for origin in ("http://evil.example", "null"):
        assert server.get("/gradio_api/call/stop", body, Origin=origin)[0] == 403
        assert server.get("/gradio_api/upload", b"", Origin=origin)[0] == 403


def test_files_of_this_computer_are_no_uploads(server):
    photo = {"path": str(config.ASSETS / "icon.png"), "meta": {"_type": "gradio.FileData"}}
    data = [[photo], "cat", "Momo", "demo", 8, 5, 0, 16, True]
    body = json.dumps({"data": data}).encode()
    status, answer = server.get("/gradio_api/call/train", body, Content_Type="application/json")
    assert status == 200
    said = server.get(f"/gradio_api/call/train/{json.loads(answer)['event_id']}")[1]
    assert "event: error" in said and not list(server.data.glob("runs/*"))


def test_no_tab_holds_a_connection_and_only_five_endpoints_are_public(server):
    config = server.config()
    assert config["connect_heartbeat"] is False
    public = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public"}
    assert public == {"train", "status", "pause", "stop", "resume"}
    assert not [c for c in config["components"] if c["type"] == "state"]


def test_nothing_outside_is_asked_for(server):
    server.get("/")
    assert server.asked <= {"127.0.0.1", "localhost", "::1", "None"}, server.asked


def test_a_second_start_opens_the_first(server, monkeypatch):
    opened = []
    monkeypatch.setattr(app.webbrowser, "open", opened.append)
    assert app.main(port=a_free_port(), browser=True, data_dir=server.data) == 0
    assert opened == [server.url + "/"]


def test_a_taken_port_is_not_used(server):
    assert app.free_port(server.port) != server.port


# photos being chosen


def test_the_draft_outlives_the_process(pet, tmp_path):
    bad = tmp_path / "invoice <b>.jpg"
    bad.write_text("<html>", encoding="utf-8")
    draft.add([*pet, bad])
    draft.answer(name="Momo", kind="cat")
    again = draft.load()
    assert [p.name for p in again.photos] == [p.name for p in pet]
    assert again.rejected[0][0] == "invoice <b>.jpg" and again.own_photos
    assert again.answers == {"name": "Momo", "kind": "cat"}
    assert "<b>.jpg" not in views.photos(again), "names are escaped"


def test_the_same_photo_twice_counts_once_and_removal_removes(pet):
    draft.add(pet)
    now = draft.add(pet[:1])
    assert len(now.photos) == 5 and texts.PHOTO_TWICE in now.rejected[0][1]
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
    assert len(now.photos) == 5 and "film.jpg" in now.rejected[0][1]


def test_captions_come_along(pet, no_worker):
    pet[0].with_suffix(".txt").write_text("momo asleep", encoding="utf-8")
    draft.add(pet, demo=True)
    run = actions.find(asked())
    assert [p.read_text(encoding="utf-8").strip() for p in run.photos_dir.glob("*.txt")] == [
        "momo asleep"
    ]


# questions


@pytest.mark.parametrize(
    "name, word",
    [
        ("Momo", "momo"),
        ("Größe 2", "grosse"),
        ("Zoë-Luna!", "zoeluna"),
        ("小白", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_the_name_becomes_a_word(name, word):
    assert actions.trigger_word(name) == word


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"name": ""}, texts.NO_NAME),
        ({"kind": " "}, texts.NO_KIND),
        ({"name": "Cat"}, texts.WORDING_SAME),
        ({"budget": 0.1}, "too small"),
    ],
)
def test_what_is_missing_is_said(pet, no_worker, changes, said):
    draft.add(pet, demo=True)
    with pytest.raises(UserError) as error:
        asked(**changes)
    assert said in error.value.title and error.value.remedy and not runs.list_runs()


def test_own_photos_are_not_trained_on_the_demo_model_unasked(pet, no_worker):
    with pytest.raises(UserError, match="no photos"):
        asked()
    draft.add(pet)
    with pytest.raises(UserError, match="drawn pets"):
        asked()
    name = asked(anyway=True)
    assert [r.name for r in no_worker] == [name] and not draft.load().photos


def test_train_makes_the_run_that_was_asked_for(pet, no_worker):
    draft.add(pet, demo=True)
    run = actions.find(asked(kind="Guinea  Pig", name="Sir Fluff", budget=16.0, seed=7.0))
    settings = run.settings()
    assert (settings.trigger, settings.class_name) == ("sirfluff", "guinea pig")
    assert (settings.steps, settings.seed, settings.budget_gib) == (40, 7, 16.0)
    assert (settings.front, settings.back) == (4, 3) and settings.preview_every == 10
    assert len(list(run.photos_dir.iterdir())) == 5
    assert run.info()["studio"] == {"pet": "Sir Fluff", "drawn": True}


def test_photos_over_the_api_do_not_touch_the_draft(pet, no_worker):
    draft.add(pet[:2])
    asked(uploads=[str(p) for p in pet], anyway=True)
    assert len(draft.load().photos) == 2 and len(list(no_worker[0].photos_dir.iterdir())) == 5


def test_one_training_at_a_time(pet, no_worker):
    fake_feed.seem_alive(fake_feed.make_run(pet))
    draft.add(pet, demo=True)
    with pytest.raises(UserError) as error:
        asked()
    assert error.value.remedy == texts.BUSY_REMEDY


def test_again_brings_photos_and_answers_back(pet, no_worker):
    run = fake_feed.make_run(pet, steps=120, pet="Mo Mo")
    answers = actions.again(run.name)
    assert (answers["name"], answers["steps"], answers["kind"]) == ("Mo Mo", 120, "cat")
    assert len(draft.load().photos) == 5 and not draft.load().own_photos


def test_paths_are_no_names(pet):
    run = fake_feed.make_run(pet)
    for name in (str(run.folder), "../" + run.name, ""):
        with pytest.raises(UserError):
            actions.find(name)


# a run's story


def test_a_story_is_read_once_and_goes_on(pet):
    run = fake_feed.make_run(pet)
    assert watch.watch(run).state == "new"
    fake_feed.feed(run, 60)
    story = watch.watch(run)
    assert (story.state, story.step, len(story.images)) == ("crashed", 60, 4)
    run.append(events.Started(steps=300, resumed_from=50))
    run.append(events.Loss(step=51, loss=0.3, seconds=1))
    fake_feed.seem_alive(run)
    story = watch.watch(run)
    assert (story.state, story.step) == ("running", 51), (
        "steps after the checkpoint are learnt again"
    )
    assert actions.status()["state"] == "running"


@pytest.mark.parametrize(
    "end, state, said",
    [
        (events.Stopped(reason="paused", step=60), "paused", "Paused at step 60"),
        (events.Stopped(reason="stopped", step=60), "stopped", "Stopped at step 60"),
        (
            events.Failed(title="The <disk> is full.", remedy="Free some."),
            "failed",
            "The &lt;disk&gt; is full.",
        ),
        (None, "crashed", "cut off"),
    ],
)
def test_every_end_is_told_in_plain_words(pet, end, state, said):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60, end)
    story = watch.watch(run)
    assert story.state == state and said in views.messages(story)


def test_a_run_replaced_by_another_of_its_name_is_read_afresh(pet):
    run = fake_feed.make_run(pet, name="momo")
    fake_feed.feed(run, 200)
    assert watch.watch(run).step == 200
    housekeeping.delete("momo")
    run = fake_feed.make_run(pet, name="momo")
    fake_feed.feed(run, 20, begin=1.9e9)
    assert watch.watch(run).step == 20


def test_progress_never_runs_back(pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 100)
    before = views.percent(watch.watch(run))
    run.append(events.Progress(stage="residuals", n=1, total=6))
    assert views.percent(watch.watch(run)) == before > 8


# what a tab is sent


@pytest.fixture
def screen(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return pytest.importorskip("blockskip.studio.screen")


def told(screen, shown, tokens=""):
    """What a tab gets: ({part: update}, tokens)."""
    *updates, tokens = screen.frame(shown, tokens)
    return dict(zip(screen.PARTS, updates, strict=True)), tokens


def test_only_what_changed_is_sent(screen, pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60)
    assert screen.first_shown() == run.name
    parts, tokens = told(screen, run.name)
    assert parts["run"]["visible"] and not parts["setup"]["visible"] and parts["resume"]["visible"]
    again, none = told(screen, run.name, tokens)
    assert all("value" not in update and "visible" not in update for update in again.values())
    run.append(events.Note(text="Something <i>new</i>", level="warning"))
    changed, _ = told(screen, run.name, tokens)
    assert [n for n, u in changed.items() if "value" in u] == ["notes"]
    assert "&lt;i&gt;" in changed["notes"]["value"]


def test_a_finished_run_offers_its_file(screen, pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 300)
    run.append(fake_feed.done(run))
    parts, _ = told(screen, run.name)
    assert parts["lora"]["visible"] and parts["lora"]["value"].endswith(f"{run.name}.safetensors")
    assert "Momo is ready" in parts["results"]["value"] and not parts["resume"]["visible"]
    assert parts["previews"]["value"].count("data-large") == 4 * 5


def test_a_run_that_is_gone_or_broken_says_so(screen, pet):
    assert texts.NO_RUN in told(screen, "nothing")[0]["messages"]["value"]
    run = fake_feed.make_run(pet)
    (run.folder / "run.toml").write_text("not = [toml", encoding="utf-8")
    assert "cannot be read" in told(screen, run.name)[0]["messages"]["value"]


def test_a_fresh_tab_goes_on_where_the_user_was(screen, pet):
    assert screen.first_shown() == ""
    run = fake_feed.make_run(pet)
    draft.add(pet)
    assert screen.first_shown() == "", "photos are being chosen"
    fake_feed.seem_alive(run)
    assert screen.first_shown() == run.name, "a training is running"
