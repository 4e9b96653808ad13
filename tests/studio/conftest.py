"""What the studio's tests share: photos, runs that nobody works on, and what a tab is sent."""

from types import SimpleNamespace

import pytest
from helpers import fake_feed

from blockskip.runs import likeness
from blockskip.studio import (
    actions,
    background_jobs,
    model_catalog,
    result_actions,
    run_state,
    screen,
    tool_view,
)


@pytest.fixture
def pet(tmp_path):
    return fake_feed.make_photos(tmp_path / "pet")


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch, tmp_path):
    """Each test's data folder is another; what this process knows of the last one's is forgotten."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    for known in (
        screen._parts_cache,
        result_actions._messages,
        model_catalog._messages,
        model_catalog._comfyui_folders,
        result_actions._likeness_started,
        background_jobs._errors,
    ):
        known.clear()
    model_catalog.refresh()
    tool_view.refresh()


@pytest.fixture
def no_worker(monkeypatch):
    """Runs are made but nobody works on them. Returns the runs started."""
    started = []
    monkeypatch.setattr(run_state, "start", lambda run, card="": started.append(run))
    return started


@pytest.fixture
def begun(monkeypatch):
    """Child processes are not started. Returns what they would have been: (key, words)."""
    asked = []
    monkeypatch.setattr(
        background_jobs, "submit", lambda key, words, then=None: asked.append((key, words))
    )
    monkeypatch.setattr(likeness, "start", lambda run, rounds=0: None)
    return asked


@pytest.fixture
def asked():
    """A press on Train, with what is usually answered; keywords change answers."""

    def train(**changes):
        usual = {"uploads": None, "kind": "cat", "name": "Momo", "model": "demo", "budget": 8.0}
        usual |= {"steps": 40, "seed": 0, "rank": 16, "speed": "fast", "anyway": False}
        return actions.train(**usual | changes)

    return train


@pytest.fixture
def told():
    """What a tab gets that shows `shown`: ({part: update}, tokens)."""

    def look(shown, tokens=""):
        *updates, tokens = screen.page_updates(shown, tokens)
        return dict(zip(screen.PARTS, updates, strict=True)), tokens

    return look


@pytest.fixture
def finished(pet, begun):
    """A training that went well, with LoRAs of four steps (as text): its run."""
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 300)
    fake_feed.keep(run, 75, 150, 225, 300)
    run.append(fake_feed.done(run))
    return run


@pytest.fixture
def event():
    """A press as Gradio hands it over."""
    return lambda **said: SimpleNamespace(_data=said)
