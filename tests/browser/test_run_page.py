"""A training being watched: in every tab, without jumps, and quietly."""

import time

from helpers import fake_feed
from helpers.browser_steps import drop, wait_for, wait_for_text, wait_for_tiles

from blockskip.core import events
from blockskip.studio import strings

PLACES = """() => Object.fromEntries([...document.querySelectorAll(
    '#run h2, #run h3, #run figcaption b, #controls button, #run .stages, #run progress, #previews th')]
    .filter(one => one.checkVisibility())
    .map((one, i) => [`${i} ${one.innerText}`.slice(0, 40).replace(/\\\\d+ %/, ''),
        Math.round(one.getBoundingClientRect().top + window.scrollY)]))"""


def test_what_one_tab_does_the_other_shows(open_tab, run):
    pages = [open_tab(color_scheme=scheme) for scheme in ("light", "dark")]
    for page in pages:
        wait_for_text(page, "#status", "step 180 of 300")
        assert page.locator("#previews img[alt*=Step]").count() == 8
        assert page.locator("#pause").is_visible() and not page.locator("#resume").is_visible()
    pages[0].locator("#previews .zoom").last.click()
    pages[0].wait_for_selector("dialog.large img", state="visible")
    pages[0].keyboard.press("Escape")
    pages[0].wait_for_selector("dialog.large", state="detached")
    pages[0].locator("#pause").click()
    for page in pages:
        wait_for_text(page, "#status", strings.PENDING["pause"])
        wait_for(page, "document.querySelector('#pause').disabled")
    assert run.take_command() == "pause"
    run.append(events.Stopped(reason="paused", step=180))
    (run.folder / "worker.json").unlink()
    for page in pages:
        wait_for_text(page, "#messages", "Paused at step 180")
        page.locator("#resume").wait_for(state="visible")
    fake_feed.feed(run, 300, begin=1.81e9)
    run.append(fake_feed.done(run))
    for page in pages:
        wait_for_text(page, "#results", "Momo is ready")


def test_the_draft_is_the_same_in_two_tabs(open_tab, server, tmp_path):
    first, second = open_tab(), open_tab()
    drop(first, fake_feed.make_photos(tmp_path / "pet"))
    wait_for_tiles(second, 5)
    first.locator("#name input").press_sequentially("Luna")
    wait_for_text(second, "#wording", "a photo of luna cat")
    second.locator("#photos .remove").first.click()
    wait_for_tiles(first, 4)
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "other"))
    fake_feed.seem_alive(run)  # a training begins somewhere else
    for page in (first, second):
        wait_for_text(page, "#train", strings.TRAIN_QUEUE.partition(":")[0])
        assert page.locator("#train").is_enabled()
    second.locator("#busy [data-do=open]").click()
    wait_for_text(second, "#status", "Momo")


def test_eight_tabs(browser, open_tab, run):
    """A page that held a connection open would starve the sixth tab of one browser."""
    context = browser.new_context()
    pages = [open_tab(context=context) for _ in range(8)]
    for page in pages:
        wait_for_text(page, "#status", "step 180 of 300")
    fake_feed.learn(run, 181, 181, 1.8e9 + 100)
    for page in pages:
        wait_for_text(page, "#status", "step 181 of 300")
    assert len(context.pages) == 8


def test_nothing_jumps_while_it_learns(open_tab, run):
    """What stands on the page stays where it is, through steps, stages, pictures and notes."""
    page = open_tab()
    wait_for_text(page, "#status", "step 180 of 300")
    wait_for(page, "[...document.images].every(one => one.complete)")
    before, now = page.evaluate(PLACES), 1.8e9 + 100
    assert len(before) > 8
    for first, last in ((181, 190), (191, 224), (225, 225), (226, 240)):
        fake_feed.learn(run, first, last, now + first)
        wait_for_text(page, "#status", f"step {last} of 300")
        wait_for(page, "[...document.images].every(one => one.complete)")
        assert page.evaluate(PLACES) == before, last
    for n in range(3):
        run.append(events.Progress(stage="residuals", n=n, total=3, time=now + 300 + n))
        wait_for_text(page, "#status", f"{strings.STAGES['residuals']}: {n}/3")
        assert page.evaluate(PLACES) == before


def test_idle_it_is_quiet(open_tab, server, tmp_path):
    """At most one request a second, of less than 2 kB there and back, whatever is shown."""
    pages = {"setup": open_tab()}
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet"))
    fake_feed.feed(run, 60, events.Stopped(reason="paused", step=60))
    pages |= {"run": open_tab(), "list": open_tab()}
    pages["list"].locator("#nav [data-do=list]").click()
    pages["list"].wait_for_selector("#list ul")
    pages["list"].wait_for_timeout(2000)  # what changed just now has been sent
    seen = {name: [] for name in pages}
    for name, page in pages.items():
        page.on("requestfinished", lambda asked, n=name: seen[n].append((time.monotonic(), asked)))
    while min(map(len, seen.values())) < 6:
        pages["run"].wait_for_timeout(200)
    for name, asked in seen.items():
        assert asked[-1][0] - asked[0][0] > 0.8 * (len(asked) - 1), f"{name}: too often"
        sizes = sorted(request.sizes()["responseBodySize"] for _, request in asked)
        assert sizes[-1] < 2000, f"{name}: {sizes}"
        assert max(request.sizes()["requestBodySize"] for _, request in asked) < 2000, name


def test_a_page_that_lost_its_part_opens_again(open_tab):
    """Gradio may lose an update while it builds the page: nothing else would ever show it again."""
    page = open_tab()
    page.locator("#setup").wait_for(state="visible")
    page.evaluate("document.getElementById('setup').remove()")
    page.locator("#setup").wait_for(state="visible")
    assert page.locator("#setup #train").is_visible() and page.locator("#run").is_hidden()
