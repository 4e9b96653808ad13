"""The whole way of a cat owner, with the real trainer: photos, Train, reloads in every stage, a
studio that is killed, pause and resume, the file. And how few presses it takes."""

from helpers.browser_steps import MINUTE, assert_lora, drop, wait_for_text, wait_for_tiles
from helpers.studio_server import serve

from blockskip.runs.run import Run
from blockskip.studio import strings

LONG = 6 * MINUTE  # training, on a machine with more to do
COUNTS = """
addEventListener('click', event => {
    if (event.isTrusted) sessionStorage.presses = Number(sessionStorage.presses || 0) + 1;
}, true);
"""


def reloaded(page, *shown):
    """After a reload the page stands where it stood."""
    page.reload()
    wait_for_text(page, *shown)


def test_from_photos_to_the_file(open_tab, server, demo_photos, tmp_path):
    data = tmp_path / "Dätä two"
    with serve(data) as first:
        page = open_tab(first)
        drop(page, demo_photos)
        wait_for_tiles(page, len(demo_photos))
        page.locator("#name input").press_sequentially("Luna")
        wait_for_text(page, "#wording", "luna cat")
        page.reload()
        wait_for_tiles(page, len(demo_photos))
        page.locator("#advanced button").first.click()
        page.locator("#speed input[value=fastest]").check()
        page.locator("#steps input").fill("120")  # long enough to be paused in the middle
        wait_for_text(page, "#train", "120")
        page.locator("#anyway input").check()
        page.locator("#train").click()
        wait_for_text(page, "#status", strings.STATES["running"])
        reloaded(page, "#status", strings.STATES["running"])
        first.process.kill()
        first.process.wait()
        (folder,) = (data / "runs").iterdir()
        assert Run(folder).worker() is not None, "the training lives on"
        assert Run(folder).settings().plan.preview_speed == "fastest"
        with serve(data, first.port) as second:
            wait_for_text(
                page, "#status", strings.STAGES["train"], LONG
            )  # the tab finds the new studio
            page = open_tab(second)
            page.locator("#pause").click()
            wait_for_text(page, "#messages", "Paused at step", LONG)
            reloaded(page, "#messages", "Paused at step")
            page.locator("#resume").click()
            wait_for_text(page, "#status", strings.STATES["running"])
            wait_for_text(page, "#results", "Luna is ready", LONG)
            reloaded(page, "#results", "Luna is ready")
            assert page.locator("#previews tbody tr").first.locator("img").count() == 5
            with page.expect_download() as download:
                page.locator("#lora").click()
            assert_lora(download.value.path())


def test_six_presses_at_most(open_tab, server):
    """With the demo pet, everything at its default but the steps, which cost two presses: so that
    the test is short."""
    page = open_tab(drawn=False)
    page.add_init_script(COUNTS)
    page.goto(page.home)
    page.locator("#demo").click()
    wait_for_tiles(page, 5)
    page.locator("#advanced button").first.click()
    page.locator("#steps input").click()
    page.keyboard.type("1")
    wait_for_text(page, "#train", "1")
    page.locator("#train").click()
    wait_for_text(page, "#results", f"{strings.DEMO_NAME} is ready", LONG)
    with page.expect_download() as download:
        page.locator("#lora").click()
    assert_lora(download.value.path())
    assert 3 <= int(page.evaluate("sessionStorage.presses")) <= 6
