"""Keyboard alone, from opening the page to the file; the keyboard's place outlives every tick."""

import pytest
from helpers import fake_feed
from helpers.browser_steps import (
    assert_lora,
    drop,
    focused,
    wait_for,
    wait_for_text,
    wait_for_ticks,
    wait_for_tiles,
)

from blockskip.runs.run import list_runs
from blockskip.studio import draft, run_preferences, strings


def tab_to(page, selector, key="Tab", most=120):
    """Press Tab until that has the focus."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("s => document.activeElement?.matches(s)", selector):
            return
    raise AssertionError(f"no way to {selector} with {key}; the last was {focused(page)}")


def test_to_a_training(open_tab, server):
    """Demo pet, its name, the budget, Train: by Tab, Enter and arrows."""
    page = open_tab()
    tab_to(page, "#demo")
    page.keyboard.press("Enter")
    wait_for(page, "document.querySelector('#name input').value === 'Momo'")
    tab_to(page, "#name input")
    page.keyboard.press("Control+A")
    page.keyboard.type("Luna")
    wait_for_text(page, "#wording", "a photo of luna cat")
    tab_to(page, "#budget input[type=range]")
    before = page.locator("#budget input[type=range]").input_value()
    page.keyboard.press("ArrowRight")
    wait_for(
        page, "was => document.querySelector('#budget input[type=range]').value !== was", before
    )
    tab_to(page, "#advanced button")
    page.keyboard.press("Enter")
    tab_to(page, "#steps input")
    page.keyboard.type("40")
    wait_for_text(page, "#train", "40")
    tab_to(page, "#train")
    page.keyboard.press("Enter")
    wait_for_text(page, "#status", strings.STATES["running"])
    wait_for_text(page, "#status", "40 steps")
    tab_to(page, "#stop")
    page.keyboard.press("Space")
    page.locator("#resume").wait_for(state="visible")
    settings = list_runs()[0].settings()
    assert (settings.trigger, settings.steps) == ("luna", 40) and settings.budget_gib != float(
        before
    )


def test_who_types_already_when_the_demo_pet_comes_is_left_alone(open_tab):
    page = open_tab()
    page.evaluate("""() => {
        document.querySelector('#demo').click();
        document.querySelector('#name input').focus();
    }""")
    page.locator("#photos .open").first.wait_for(state="visible")
    wait_for_ticks(page)
    assert page.evaluate("document.activeElement === document.querySelector('#name input')")


def test_to_the_file(open_tab, trained):
    """Another step by the arrows, and downloaded; a picture large and back."""
    page = open_tab()
    wait_for_text(page, "#results", "Momo is ready")
    tab_to(page, "#compare [name=step]")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#compare [name=step]:checked").input_value() == "4"
    wait_for_text(page, "#lora", strings.DOWNLOAD_STEP.format(step=4))
    tab_to(page, "#lora", "Shift+Tab")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert_lora(download.value.path())
    tab_to(page, "#previews .zoom")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog.large")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.large", state="detached")
    assert page.evaluate("document.activeElement.matches('#previews .zoom')")


def test_a_dialog_gives_the_focus_back(open_tab, server, tmp_path):
    page = open_tab()
    drop(page, fake_feed.make_photos(tmp_path / "pet"))
    wait_for_tiles(page, 5)
    tab_to(page, "#photos .open")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog.photo")
    tab_to(page, "dialog.photo textarea")
    page.keyboard.type("asleep")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.photo", state="detached")
    wait_for(page, "JSON.parse(document.querySelector('[data-photos]').dataset.photos)[0].caption")
    assert "photo 1" in focused(page), "also after the photos were drawn anew"
    assert draft.load().photos[0].caption == "asleep"


@pytest.mark.parametrize(
    "place", ["#previews .zoom", "#previews .scroll", "#pause", "#nav [data-do=list]"]
)
def test_ticks_take_no_focus(open_tab, server, tmp_path, place):
    """Steps, pictures and stages come in; the keyboard stays where it is."""
    run = fake_feed.make_run(fake_feed.make_photos(tmp_path / "pet"))
    fake_feed.feed(run, 149)
    fake_feed.seem_alive(run)
    page = open_tab()
    wait_for_text(page, "#status", "step 149 of 300")
    page.locator(place).first.focus()
    had = focused(page)
    fake_feed.make_run(fake_feed.make_photos(tmp_path / "other"), name="another")
    fake_feed.learn(run, 150, 160, 1.8e9 + 100)
    wait_for_text(page, "#status", "step 160 of 300")
    wait_for_text(page, "#nav", "2")
    page.wait_for_selector("#previews img[alt*='Step 150']")
    assert page.evaluate("s => document.activeElement.matches(s)", place), f"it was {had}"


def test_ticks_change_nothing_half_done(open_tab, trained):
    """A prompt being typed or looked at, a fold opened: what comes in leaves them alone. The step
    is the one that is downloaded, whichever tab chose it."""
    page = open_tab()
    wait_for_text(page, "#results", "Momo is ready")
    page.locator("#compare [name=step]").first.check(force=True)
    wait_for_text(page, "#lora", strings.DOWNLOAD_STEP.format(step=2))
    page.locator("#compare select").select_option("1")
    page.locator("#prompt textarea, #prompt input").first.fill("momo in a")
    page.locator("#model_card summary").click()
    page.locator("#model_card summary").focus()
    page.locator("#prompt textarea, #prompt input").first.focus()
    run_preferences.save(trained, pet="Luna", step=4)  # as another tab does
    wait_for_text(page, "#hero", "Luna is ready")
    wait_for(page, "document.querySelector('.compare').dataset.kept === '4'")
    assert page.locator("#compare [name=step]:checked").input_value() == "4"
    assert page.locator("#compare select").input_value() == "1"
    assert page.locator("#prompt textarea, #prompt input").first.input_value() == "momo in a"
    assert page.evaluate("document.querySelector('#model_card details').open")
