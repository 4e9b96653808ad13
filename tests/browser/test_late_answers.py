"""A busy machine answers late and out of order. A tab shows what it was asked to show, and catches
up."""

import pytest
from helpers import fake_feed
from helpers.browser_steps import (
    Held,
    drop,
    wait_for,
    wait_for_text,
    wait_for_ticks,
    wait_for_tiles,
)

WATCH = """part => {
    window.seen = 0;
    const look = () => {
        if (document.getElementById(part)?.checkVisibility()) window.seen += 1;
        requestAnimationFrame(look);
    };
    look();
}"""


@pytest.fixture
def opening(browser, server):
    """A tab whose load is held back."""
    context = browser.new_context()
    page = context.new_page()
    held = Held(page, "**/run/predict*", 9)
    page.goto(server.address)
    held.wait(1)
    yield page, held
    context.close()


def test_while_an_answer_is_on_its_way_nothing_is_asked(run, opening):
    """Else many tabs ask a busy machine faster than it answers, later and later."""
    page, held = opening
    wait_for(page, "since => performance.now() > since + 3500", page.evaluate("performance.now()"))
    assert len(held.routes) == 1
    shown, released = page.locator("#status").filter(has_text="step 180 of 300"), 0
    while not shown.count():  # by the first answer, or by one that follows it
        held.wait(released + 1)
        held.release(released)
        released += 1
    held.wait(released + 1)
    wait_for(page, "since => performance.now() > since + 3500", page.evaluate("performance.now()"))
    assert len(held.routes) == released + 1


def test_photos_dropped_in_a_tab_that_opened_slowly_appear(server, opening, tmp_path):
    page, held = opening
    held.count = 0  # later requests are not held
    held.release(0)
    page.locator("#setup").wait_for(state="visible")
    drop(page, fake_feed.make_photos(tmp_path / "pet", 12))
    wait_for_tiles(page, 12)
    assert page.locator("#photos .tiles img").count() == 12


def test_answers_out_of_order_do_not_lead_back(open_tab, run):
    page = open_tab()
    wait_for_text(page, "#status", "step 180 of 300")
    held = Held(page, "**/run/predict*", 1)
    held.wait(1)  # a tick of the run
    page.locator("#nav [data-do=list]").click()
    page.locator("#run").wait_for(state="hidden")
    page.evaluate(WATCH, "run")
    held.release(0)
    page.locator("#list ul").wait_for(state="visible")
    wait_for_ticks(page)
    assert page.evaluate("window.seen") == 0


def test_coming_back_to_a_tab_does_not_undo_what_was_done_since(open_tab, run):
    page = open_tab()
    wait_for_text(page, "#status", "step 180 of 300")
    page.locator("#nav [data-do=new]").click()
    page.locator("#setup").wait_for(state="visible")
    held = Held(page, "**/queue/join*", 1)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    held.wait(1)
    page.locator("#name input").press_sequentially("Luna")
    held.release(0)
    wait_for_text(page, "#wording", "a photo of luna cat")
    assert page.locator("#name input").input_value() == "Luna"
    held = Held(page, "**/queue/join*", 1)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    held.wait(1)
    page.locator("#nav [data-do=list]").click()
    page.locator("#list ul").wait_for(state="visible")
    held.release(0)
    wait_for_ticks(page)
    assert page.locator("#list ul").is_visible() and page.locator("#setup").is_hidden()


def test_a_page_that_fell_behind_says_so_and_catches_up(open_tab, run):
    page = open_tab()
    wait_for_text(page, "#status", "step 180 of 300")
    page.evaluate("Object.assign(blockskip.patience, {answer: 3000, words: 500})")
    held = Held(page, "**/run/predict*", 1)
    held.wait(1)
    page.locator("#behind p").wait_for(state="visible")
    fake_feed.learn(run, 181, 190, 1.8e9 + 200)
    wait_for_text(page, "#status", "step 190 of 300")  # though one answer is still missing
    held.release(0)
    page.locator("#behind p").wait_for(state="hidden")
    fake_feed.learn(run, 191, 195, 1.8e9 + 220)
    wait_for_text(page, "#status", "step 195 of 300")
    assert "190 of 300" not in page.locator("#status").inner_text()
