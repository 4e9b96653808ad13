"""The studio in Chromium, as its user sees it: from photos to the downloaded file, through
reloads."""

import json
import os
import shutil
import struct
import warnings
from pathlib import Path

import fake_feed
import pytest
from studio_server import serve

from blockskip import config, runs
from blockskip.studio import texts

pytestmark = pytest.mark.browser
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MINUTE = 60_000


def loud_skip(reason):
    warnings.warn(f"the studio was not tried in a browser: {reason}", stacklevel=2)
    pytest.skip(reason)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def one_studio(tmp_path_factory, browser):
    with serve(tmp_path_factory.mktemp("browser") / "Dätä") as server:
        yield server


@pytest.fixture
def server(one_studio, monkeypatch):
    """A running studio without runs and photos; this test's runs are made in its data folder."""
    monkeypatch.setenv("BLOCKSKIP_DATA", str(one_studio.data))
    for folder in ("runs", "draft"):
        shutil.rmtree(one_studio.data / folder, ignore_errors=True)
    return one_studio


@pytest.fixture
def demo_photos():
    """The demo pet's photos, as files the user has."""
    folders = sorted(p for p in (config.ASSETS / "demo-photos").glob("*") if p.is_dir())
    if not folders or not (config.ASSETS / "demo-model").is_dir():
        loud_skip("assets/demo-model or assets/demo-photos is missing")
    return [str(p) for p in sorted(folders[0].iterdir()) if p.suffix in (".png", ".jpg", ".webp")]


def open_page(browser, server, **options):
    """A fresh tab that has drawn its first frame; complaints of the page end up in
    `page.errors`."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
    page.set_default_timeout(2 * MINUTE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            page.errors.append(f"asked for {request.url}")
            if not request.url.startswith((server.url, "data:", "blob:"))
            else None
        ),
    )
    page.goto(server.url)
    page.wait_for_selector("#setup, #run", state="visible")
    return page


def drop(page, files):
    page.locator("#drop input[type=file]").set_input_files([str(f) for f in files])


def shows(page, selector, text, timeout=2 * MINUTE):
    page.locator(selector).filter(has_text=text).first.wait_for(state="visible", timeout=timeout)


def sideways(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_photos_and_answers_survive_a_reload(browser, server, tmp_path):
    pet, bad = fake_feed.make_photos(tmp_path / "my péts"), tmp_path / "fake.jpg"
    bad.write_text("<html>not a photo</html>", encoding="utf-8")
    page = open_page(browser, server)
    assert page.locator("#train").is_enabled() and sideways(page) <= 0
    page.locator("#train").click()
    shows(page, "body", texts.NO_NAME)
    drop(page, [*pet, bad])
    shows(page, "#photos .note", "fake.jpg")
    assert page.locator("#photos img").count() == 5
    page.locator("#name input").press_sequentially("Momo")
    shows(page, "#wording", "you will write a photo of momo cat")
    page.reload()
    page.wait_for_selector("#photos img")
    assert page.locator("#photos img").count() == 5
    page.wait_for_function("document.querySelector('#name input').value === 'Momo'")
    page.locator("#photos [data-remove]").first.click()
    page.wait_for_function("document.querySelectorAll('#photos img').length === 4")
    page.locator("#train").click()  # own photos on the demo model: asked first
    shows(page, "body", texts.OWN_PHOTOS_TITLE)
    page.locator("#photos [data-clear]").click()
    shows(page, "#photos", texts.PHOTOS_EMPTY)
    assert not page.errors


def test_a_run_is_watched_in_every_tab_and_width(browser, server, tmp_path):
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet"))
    fake_feed.feed(run, 180)
    fake_feed.seem_alive(run)
    pages = [open_page(browser, server, color_scheme=scheme) for scheme in ("light", "dark")]
    for page in pages:
        shows(page, "#status", "step 180 of 300")
        assert page.locator("#previews img[alt*=Step]").count() == 8
        assert page.locator("#pause").is_visible() and not page.locator("#resume").is_visible()
    for width in (390, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 844})
        assert sideways(page) <= 0, width
    page.locator("#previews .zoom").last.click()
    page.wait_for_selector("dialog.large img", state="visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.large", state="detached")
    page.locator("#pause").click()
    for page in pages:
        shows(page, "#status", texts.PENDING["pause"])
    assert run.take_command() == "pause"
    fake_feed.feed(run, 300, begin=1.81e9)
    run.append(fake_feed.done(run))
    (run.folder / "worker.json").unlink()
    for page in pages:
        shows(page, "#results", "Momo is ready")
        assert not page.errors


def test_eight_tabs(browser, server, tmp_path):
    """A page that held a connection open would starve the sixth tab of one browser."""
    fake_feed.feed(fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet")), 40)
    context = browser.new_context()
    for _ in range(8):
        page = context.new_page()
        page.goto(server.url, timeout=2 * MINUTE)
        shows(page, "#status", "Momo")
        assert "Momo" in page.locator("#status").inner_text()
    context.close()


def test_from_photos_to_the_file(browser, demo_photos, monkeypatch):
    """The whole way with the real trainer: upload, train, reload, restart, pause, resume,
    download."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on a busy machine threads wait for each other
    data = runs.data_dir()
    with serve(data) as server:
        page = open_page(browser, server)
        drop(page, demo_photos)
        page.wait_for_selector("#photos img")
        page.locator("#name input").press_sequentially("Momo")
        page.locator("#advanced button").first.click()
        page.locator("#steps input").fill("150")  # long enough to be paused in the middle
        page.locator("#anyway input").check()
        page.locator("#train").click()
        shows(page, "#status", texts.STATES["running"])
        page.reload()
        shows(page, "#status", texts.STATES["running"])
    with serve(data, server.port) as server:  # the studio ended; the trainer did not
        page = open_page(browser, server)
        shows(page, "#status", "Learning your pet", 5 * MINUTE)
        page.locator("#pause").click()
        shows(page, "#messages", "Paused at step", 2 * MINUTE)
        page.locator("#resume").click()
        shows(page, "#results", "Momo is ready", 10 * MINUTE)
        assert page.locator("#previews tbody tr").first.locator("img").count() >= 2
        with page.expect_download() as download:
            page.locator("#lora").click()
        assert_lora(Path(download.value.path()))
        assert not page.errors


def assert_lora(path):
    """A safetensors file with tensors in it."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    assert len(header) > 10 and len(data) > 10_000
