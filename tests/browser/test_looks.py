"""Every state of the page: no wider than the window at any width, and axe finds nothing wrong."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import fake_feed
from helpers.browser_steps import (
    drop,
    horizontal_overflow,
    wait_for,
    wait_for_text,
    wait_for_tiles,
)

from blockskip.core import events
from blockskip.studio import draft, set_aside

WIDTHS = (390, 768, 1280, 1440, 1920)


@pytest.fixture
def pet(tmp_path):
    return fake_feed.make_photos(tmp_path / "pet", side=200)


def empty(page, pet):
    wait_for_text(page, "#setup", "Photos")


def photos_in(page, pet):
    draft.add([*pet, pet[0].parent])
    draft.save_answers(name="Momo", model="flux-dev")
    page.reload()
    wait_for_tiles(page, 5)


def dialog(page, pet):
    photos_in(page, pet)
    page.locator("#photos .open").first.click()
    page.wait_for_selector("dialog.photo")


def selecting(page, pet):
    """Of many: some selected, some set aside, a film left out, an upload that failed."""
    draft.add(pet)
    set_aside.set_aside([photo.file for photo in draft.load().photos[3:]])
    page.reload()
    wait_for_tiles(page, 3)
    page.locator("[data-select=start]").click()
    page.locator("#photos .open").first.click()
    film = pet[0].with_suffix(".mp4")
    film.write_bytes(b"film")
    page.route("**/gradio_api/upload", lambda route: route.abort())
    drop(page, [film, *fake_feed.make_photos(pet[0].parent / "more", 3, side=100)])
    page.wait_for_selector("#drop .note.error")


def open_anew(page):
    """Without an address: what a new tab shows."""
    page.goto(page.url.partition("#")[0])


def learning(page, pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 180)
    run.append(events.Note(text="Two photos look alike.", level="warning"))
    fake_feed.seem_alive(run)
    open_anew(page)
    wait_for_text(page, "#status", "step 180")


def paused(page, pet):
    fake_feed.feed(fake_feed.make_run(pet), 60, events.Stopped(reason="paused", step=60))
    open_anew(page)
    wait_for_text(page, "#messages", "Paused")


def failed(page, pet):
    end = events.Failed(title="The disk is full.", remedy="Free 2 GB, then press Resume.")
    fake_feed.feed(fake_feed.make_run(pet), 60, end)
    open_anew(page)
    wait_for_text(page, "#messages", "The disk is full.")


def trainings(page, pet):
    for name in ("one", "two"):
        fake_feed.feed(fake_feed.make_run(pet, name=name, pet="Momo " * 6), 60)
    open_anew(page)
    page.locator("#nav [data-do=list]").click()
    page.wait_for_selector("#list ul")


STATES = (empty, photos_in, dialog, selecting, learning, paused, failed, trainings)


def assert_it_fits(page):
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert horizontal_overflow(page) <= 0, f"at {width} px"
        wide = page.evaluate("""() => [...document.querySelectorAll('.card, .press, dialog, #train, #controls button')]
            .filter(one => one.checkVisibility() && one.getBoundingClientRect().width &&
                one.getBoundingClientRect().right > window.innerWidth + 1)
            .map(one => `${one.id} ${one.className} ${one.innerText.slice(0, 30)}`)""")
        assert not wide, f"cut off at {width} px: {wide}"
        spilt = page.evaluate("""() => [...document.querySelectorAll('.plan-bars span')]
            .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)""")
        assert not spilt, f"wider than its column at {width} px: {spilt}"
    page.set_viewport_size({"width": 1280, "height": 900})


def assert_accessible(page):
    """axe in light and dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        wait_for(
            page, "dark => document.body.classList.contains('dark') === dark", scheme == "dark"
        )
        page.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")
        found = Axe().run(page).response["violations"]
        faults = [
            (fault["id"], node["target"], node["failureSummary"][:300])
            for fault in found
            for node in fault["nodes"]
        ]
        assert not faults, (scheme, faults)


def test_the_drawn_photos_have_no_frame_of_the_dialog(open_tab, server, pet):
    page = open_tab()
    photos_in(page, pet)
    page.wait_for_selector(".plan-crops rect.frame")
    outlines = page.locator(".plan-crops rect").evaluate_all(
        "all => all.map(one => getComputedStyle(one).outlineStyle)"
    )
    assert set(outlines) == {"none"}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_state_fits_and_is_accessible(open_tab, server, pet, state):
    page = open_tab()
    state(page, pet)
    assert_it_fits(page)
    assert_accessible(page)


def test_results_fit_and_are_accessible(open_tab, trained):
    page = open_tab()
    wait_for_text(page, "#results", "Momo is ready")
    wait_for(page, "document.querySelector('.compare .after').complete")
    assert_it_fits(page)
    assert_accessible(page)
