"""Places have addresses: reload, Back, Forward, bookmarks and other tabs; a tab never leaves its place
by itself."""

import pytest
from browser.random_clicks import Tabs
from helpers import fake_feed
from helpers.browser_steps import (
    Held,
    focused,
    horizontal_overflow,
    wait_for,
    wait_for_text,
    wait_for_ticks,
    wait_for_tiles,
)

from blockskip.core import events
from blockskip.runs.run import Run
from blockskip.studio import places, strings

ODD = "Größe #2 %41 & 1"


def at(page, address):
    wait_for(page, "address => location.hash === address", address)


@pytest.fixture
def done(server, tmp_path):
    """A finished training with a name that addresses must quote."""
    made = fake_feed.make_run(fake_feed.make_photos(tmp_path / "odd"), pet="Öd")
    made = Run(made.folder.rename(made.folder.with_name(ODD)))  # as a user may
    fake_feed.feed(made, 300)
    fake_feed.keep(made, 300)
    made.append(fake_feed.done(made))
    return made


def test_a_new_tab_gets_the_address_of_what_it_shows(open_tab, run):
    page = open_tab()
    at(page, places.training(run.name))
    assert "key=" not in page.url
    wait_for_text(page, "#status", "step 180 of 300")
    page.reload()
    wait_for_text(page, "#status", "step 180 of 300")


def test_back_forward_reload_and_a_bookmark(open_tab, run, done):
    page = open_tab()
    wait_for_text(page, "#status", "step 180 of 300")
    page.locator("#nav [data-do=list]").click()
    at(page, places.LIST)
    page.locator(f"#list [data-do=open][data-run='{done.name}']").click()
    at(page, places.training(done.name))
    wait_for_text(page, "#status", "Öd")
    page.reload()
    wait_for_text(page, "#results", "Öd is ready")
    page.go_back()
    page.locator("#list ul").wait_for(state="visible")
    assert page.title().startswith(strings.LIST)
    page.go_back()
    wait_for_text(page, "#status", "step 180 of 300")
    page.go_forward()
    page.go_forward()
    wait_for_text(page, "#results", "Öd is ready")
    bookmark = page.url
    other = open_tab(context=page.context, place=places.SETUP)
    other.locator("#setup").wait_for(state="visible")
    other.goto(bookmark)  # in an open tab; from there to an address that is no place
    wait_for_text(other, "#results", "Öd is ready")
    other.evaluate("location.hash = '#/nowhere/%E0%A4%A'")
    at(other, places.training(done.name))
    assert other.locator("#results").is_visible()


def test_the_key_and_a_place_in_one_address(open_tab, run, done):
    page = open_tab(place=places.training(done.name, "results"))
    wait_for_text(page, "#results", "Öd is ready")
    assert page.url.endswith("/" + places.training(done.name, "results")) and "key" not in page.url


def test_the_steps_lead_to_photos_and_back_to_results(open_tab, done, tmp_path):
    page = open_tab(place=places.training(done.name))
    wait_for_text(page, "#results", "Öd is ready")
    steps = page.locator("#nav ol")
    steps.locator("a", has_text=strings.STEPS_NAV["photos"]).click()
    page.locator("#name input").press_sequentially("Luna")
    wait_for_text(page, "#wording", "a photo of luna cat")
    assert steps.locator("a").all_inner_texts() == ["1\nPhotos", "2\nBudget"]
    steps.locator("a", has_text=strings.STEPS_NAV["budget"]).click()
    at(page, places.BUDGET)
    wait_for(page, "document.activeElement.innerText.includes('Budget')")
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") < 400
    page.go_back()
    page.go_back()
    wait_for_text(page, "#results", "Öd is ready")
    steps.locator("a", has_text=strings.STEPS_NAV["results"]).click()
    at(page, places.training(done.name, "results"))
    wait_for(page, "document.activeElement.innerText === 'Öd is ready'")
    steps.locator("a", has_text=strings.STEPS_NAV["photos"]).click()
    page.locator("#setup").wait_for(state="visible")
    assert page.locator("#name input").input_value() == "Luna"


def test_a_tab_in_setup_stays_there_when_another_trains(open_tab, server, tmp_path):
    page = open_tab()
    page.locator("#setup").wait_for(state="visible")
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet"))
    fake_feed.feed(run, 20)
    fake_feed.seem_alive(run)
    wait_for_text(page, "#train", strings.TRAIN_QUEUE.partition(":")[0])
    page.reload()
    wait_for_text(page, "#train", strings.TRAIN_QUEUE.partition(":")[0])
    at(page, places.SETUP)
    new = open_tab()  # without an address: today's rule
    at(new, places.training(run.name))
    linked = open_tab(context=page.context, place=places.SETUP)
    linked.locator("#setup").wait_for(state="visible")
    run.append(events.Stopped(reason="paused", step=20))
    for tab in (page, linked):
        wait_for_ticks(tab)
        assert tab.locator("#setup").is_visible() and tab.locator("#run").is_hidden()


def test_what_is_drawn_for_another_place_is_not_shown(open_tab, run, done):
    """On a busy machine the answer comes late: until then nothing of the old place stays."""
    page = open_tab(place=places.training(done.name))
    wait_for_text(page, "#results", "Öd is ready")
    held = Held(page, "**/run/predict*", 1)
    held.wait(1)  # a tick of the old place
    page.evaluate("address => { location.hash = address }", places.training(run.name))
    page.locator("#opening").wait_for(state="visible")
    assert page.locator("#run").is_hidden()
    held.release(0)
    wait_for_text(page, "#status", "step 180 of 300")
    assert page.locator("#opening").is_hidden()


def test_a_training_that_is_gone_says_so(open_tab, server):
    page = open_tab(place=places.training("gone"))
    wait_for_text(page, "#messages", strings.NO_RUN)
    assert horizontal_overflow(page) <= 0


def test_train_leads_to_the_heading_of_its_page(open_tab, stub_studio):
    page = open_tab(stub_studio)
    page.locator("#demo").click()
    wait_for_tiles(page, 5)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#train").click()
    wait_for(page, "document.activeElement.closest('#status h2')")
    assert "Momo" in focused(page) and page.evaluate("scrollY") == 0
    wait_for_ticks(page)
    assert "Momo" in focused(page), "ticks leave it there"


def test_an_answer_does_not_lead_away_from_where_one_went_meanwhile(open_tab, stub_studio):
    page = open_tab(stub_studio)
    page.locator("#demo").click()
    wait_for_tiles(page, 5)
    held = Held(page, "**/queue/join*", 1)
    page.locator("#train").click()
    held.wait(1)
    page.locator("#nav ol a", has_text=strings.STEPS_NAV["budget"]).click()
    at(page, places.BUDGET)
    held.release(0)
    wait_for_text(page, "#photos", strings.PHOTOS_EMPTY)  # they are in the training now
    wait_for_ticks(page)
    at(page, places.BUDGET)
    assert page.locator("#setup").is_visible()


def test_random_clicks_never_show_another_place(open_tab, run, done):
    """A short version of tests/browser/random_clicks.py."""
    first = open_tab()
    tabs = Tabs([first, open_tab(context=first.context)], seed=1)
    tabs.click(25)
    assert tabs.moves > 8 and not tabs.wrong
