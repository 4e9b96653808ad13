"""A real studio and a real Chromium. What every tab must keep to is checked when its test ends: no
script fails, and nothing but the studio is asked for anything."""

import os
import shutil
import warnings

import pytest
from helpers import fake_feed, quick_worker
from helpers.browser_steps import MINUTE
from helpers.studio_server import serve

from blockskip.core import processes
from blockskip.core.paths import ASSETS
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.runs import run as run_module
from blockskip.runs import worker_process
from blockskip.runs.run import Run, create_run, list_runs, runs_dir

SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
# first the one without windows: the same pages take it two thirds of the processor
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def loud_skip(reason):
    warnings.warn(f"the studio was not tried in a browser: {reason}", stacklevel=2)
    pytest.skip(reason)


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser():
    found = os.environ.get("BLOCKSKIP_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    if found is None:
        loud_skip("no Chromium here (install chromium, or name one in BLOCKSKIP_CHROMIUM)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        loud_skip("the playwright package is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def one_studio(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("browser") / "Dätä"
    with serve(folder, variables={"NO_LIKENESS": "1"}) as server:
        yield server


@pytest.fixture
def server(one_studio, monkeypatch):
    """A running studio without runs and photos; this test's runs are made in its data folder."""
    monkeypatch.setenv("BLOCKSKIP_DATA", str(one_studio.data))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on a busy machine threads wait for each other
    for folder in ("runs", "draft"):
        shutil.rmtree(one_studio.data / folder, ignore_errors=True)
    return one_studio


@pytest.fixture
def open_tab(browser, server):
    """Opens a fresh tab that has drawn its first frame, of a browser of its own; see the module's
    first words for what is checked of each at the end. place: its address, the part after “#”.
    drawn: False leaves it empty, for helpers/page_states.py to open."""
    tabs = []

    def open_one(at=server, context=None, place="", drawn=True, **options):
        usual = {"viewport": {"width": 1280, "height": 900}}
        page = (context or browser.new_context(**{**usual, **options})).new_page()
        page.set_default_timeout(MINUTE)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: _own_alone(page, request.url, at.url))
        tabs.append(page)
        page.home = at.address
        if drawn:
            page.goto(at.address + place)
            page.wait_for_selector(
                "[data-section=setup] #setup, [data-section=run] #run, [data-section=list] #list ul"
            )
        return page

    yield open_one
    complaints = [error for page in tabs for error in page.errors]
    for page in tabs:
        page.context.close()
    assert not complaints


def _own_alone(page, url, own):
    if not url.startswith((own, "data:", "blob:")):
        page.errors.append(f"asked for {url}")


@pytest.fixture
def stub_studio(tmp_path, monkeypatch, browser):
    """A studio whose trainings are played by helpers/quick_worker.py, ended with the test."""
    folder = tmp_path / "Dätä"
    monkeypatch.setenv("BLOCKSKIP_DATA", str(folder))
    monkeypatch.setattr(run_module, "WORKER", quick_worker.NAME)
    with serve(folder, variables={"STUB_WORKER": quick_worker.NAME, "NO_LIKENESS": "1"}) as server:
        yield server
        for run in list_runs():
            processes.kill(run.worker())


@pytest.fixture(scope="session")
def demo_photos():
    """The demo pet's photos, as files the user has."""
    folders = sorted(p for p in (ASSETS / "demo-photos").glob("*") if p.is_dir())
    if not folders or not (ASSETS / "demo-model").is_dir():
        loud_skip("assets/demo-model or assets/demo-photos is missing")
    return [p for p in sorted(folders[0].iterdir()) if p.suffix in (".png", ".jpg", ".webp")]


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, demo_photos):
    """A training that really learnt, as short as can be: six steps, pictures at each second one."""
    from blockskip.studio import run_preferences

    folder = tmp_path_factory.mktemp("trained")
    settings = choose_settings(
        trigger="momo",
        steps=6,
        batch=1,
        window_steps=3,
        preview_every=2,
        preview_steps=1,
    )
    run = create_run(settings, find_photos(demo_photos), str(folder / "momo-cat"))
    run_preferences.save(run, pet="Momo", drawn=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSKIP_DATA", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        worker_process.work(run)
    return run


@pytest.fixture
def trained(trained_once, server):
    """The same in the studio's data folder, for this test alone."""
    target = runs_dir() / trained_once.name
    shutil.copytree(trained_once.folder, target)
    return Run(target)


@pytest.fixture
def run(server, tmp_path):
    """A training at step 180 of 300, that this test works on."""
    made = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet"))
    fake_feed.feed(made, 180)
    fake_feed.seem_alive(made)
    return made
