"""What the page tells of a training: presses that wait, time left, the browser's notification, Delete."""

import pytest
from helpers import fake_feed
from helpers.browser_steps import wait_for, wait_for_text, wait_for_ticks

from blockskip.core import events
from blockskip.runs import run_queue
from blockskip.runs.run import list_runs
from blockskip.studio import places, strings

RECORDED = """
window.told = [];
window.Notification = class {
    static permission = 'default';
    static requestPermission = async () => (window.asked = (window.asked || 0) + 1,
        Notification.permission = window.answer || 'granted');
    constructor(title, options) { window.told.push([title, options.tag]); }
    close() {}
};
window.AudioContext = class { constructor() { window.chimes = (window.chimes || 0) + 1; throw new Error('silent'); } };
"""


@pytest.fixture
def run(server, tmp_path):
    """A training that has just begun."""
    made = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet"))
    fake_feed.seem_alive(made)
    return made


def stage(run, name, n, total):
    run.append(events.Progress(stage=name, n=n, total=total))


def test_pause_says_what_it_waits_for_until_it_is_paused(open_tab, run):
    """Also after the worker took the command, and in a tab that opened later."""
    page = open_tab()
    page.locator("#pause").click()
    wait_for_text(page, "#pause", strings.PRESSED["pause"])
    early = strings.PENDING_EARLY["pause"].partition("{")[0]
    wait_for_text(page, "#status", early + strings.STARTING)
    assert run.take_command() == "pause"
    run.append(events.Started(steps=300))
    stage(run, "latents", 3, 40)
    wait_for_text(page, "#status", early + strings.STAGES["latents"])
    wait_for_text(open_tab(), "#pause", strings.PRESSED["pause"])
    assert page.locator("#pause").is_disabled()
    run.append(events.Stopped(reason="paused", step=0))
    (run.folder / "worker.json").unlink()
    page.locator("#resume").wait_for(state="visible")
    fake_feed.seem_alive(run)
    run.append(events.Started(steps=300))
    wait_for_text(page, "#pause", strings.PAUSE)
    assert page.locator("#pause").is_enabled()


def switched_on(page):
    page.add_init_script(RECORDED)
    page.reload()
    page.locator("#tell button").first.wait_for(state="visible")
    wait_for_ticks(page)
    assert (
        page.evaluate("window.asked") is None
        and not page.locator(".tell button").nth(1).is_visible()
    )
    page.locator("#tell button").first.click()
    wait_for_text(page, "#tell", strings.TELL["off"])


def end(run):
    fake_feed.feed(run, 300)
    run.append(fake_feed.done(run))
    (run.folder / "worker.json").unlink()


def test_a_notification_is_asked_for_and_shown_once(open_tab, run):
    page = open_tab()
    switched_on(page)
    page.locator("#nav ol a").first.click()  # whatever the tab shows then
    page.locator("#setup").wait_for(state="visible")
    other = open_tab(context=page.context, place=places.LIST)
    end(run)
    wait_for(page, "told.length")
    wait_for_ticks(other)
    wait_for_ticks(page)
    assert [title for title, _ in page.evaluate("told")] == [
        strings.NEWS["done"].format(pet="Momo")
    ]
    assert page.evaluate("[asked, window.chimes]") == [1, None], "no sound unasked"


def test_it_can_be_switched_off_and_is_not_repeated(open_tab, run, tmp_path):
    page = open_tab()
    switched_on(page)
    page.locator("#tell button").first.click()
    wait_for_text(page, "#tell", strings.TELL["on"])
    end(run)
    wait_for_text(page, "#results", "Momo is ready")
    page.reload()
    wait_for_text(page, "#results", "Momo is ready")
    wait_for_ticks(page)
    assert page.evaluate("told") == []


def test_a_browser_that_refuses_says_so(open_tab, run):
    page = open_tab()
    page.add_init_script(RECORDED + "window.answer = 'denied';")
    page.reload()
    page.locator("#tell button").first.click()
    wait_for_text(page, "#tell", strings.TELL["denied"])
    assert page.locator("#tell button").first.get_attribute("aria-pressed") == "false"


def test_a_paused_training_is_deleted_on_its_own_page(open_tab, run):
    (run.folder / "worker.json").unlink()
    fake_feed.feed(run, 60, events.Stopped(reason="paused", step=60))
    page = open_tab(place=places.training(run.name))
    page.locator("#delete button").click()
    page.locator("dialog.ask .danger").click()
    wait_for_text(page, "#list", strings.LIST_EMPTY)
    wait_for(page, "address => location.hash === address", places.LIST)
    assert not list_runs()


def test_a_waiting_training_is_taken_out_on_its_own_page(open_tab, run, tmp_path):
    waiting = fake_feed.make_run(fake_feed.make_photos(tmp_path / "other"), name="luna", pet="Luna")
    run_queue.add(waiting)
    page = open_tab(place=places.training("luna"))
    page.locator("#messages [data-do=queue_remove]").click()
    page.locator("#messages [data-do=queue_remove]").wait_for(state="detached")
    page.locator("#resume").wait_for(state="visible")
    assert not run_queue.read().names
