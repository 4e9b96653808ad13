"""What was learnt, in the browser: another step and format, own pictures, rename, more, delete."""

import warnings
from pathlib import Path

import pytest
from helpers.browser_steps import assert_lora, wait_for, wait_for_text
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from blockskip.runs import image_requests
from blockskip.runs.run import list_runs
from blockskip.studio import run_preferences, strings


def download(page):
    """Name and path of the file. Where writing it failed, the page offers to do it again: that is
    done, once, and warned about with the page's own words."""
    try:
        page.wait_for_selector("#lora:visible, #make:enabled")
    except PlaywrightTimeout:
        pytest.fail(f"no file came: {page.locator('#results').inner_text()[-1500:]}")
    if not page.locator("#lora").is_visible():
        said = page.locator("#results").inner_text()[-1500:]
        warnings.warn(f"the file was written only the second time: {said}", stacklevel=2)
        page.locator("#make").click()
        page.wait_for_selector("#lora", state="visible")
    with page.expect_download() as got:
        page.locator("#lora").click()
    return got.value.suggested_filename, Path(got.value.path())


def test_another_step_and_another_format(open_tab, trained):
    page = open_tab()
    wait_for_text(page, "#results", "Momo is ready")
    name, path = download(page)
    last = assert_lora(path)
    assert name == f"{trained.name}-step6.safetensors"
    page.locator("#compare label").filter(has_text="Step 2").click()
    wait_for_text(page, "#lora", strings.DOWNLOAD_STEP.format(step=2))
    name, path = download(page)
    assert assert_lora(path).keys() == last.keys() and "step2" in name
    page.locator("#format input").click()
    page.get_by_role("option", name=strings.FORMATS["kohya"]).click()
    page.wait_for_selector("#make", state="visible")  # it is not there yet
    name, path = download(page)
    assert "kohya" in name and any(key.startswith("lora_unet") for key in assert_lora(path))
    page.reload()
    wait_for_text(page, "#lora", strings.DOWNLOAD_STEP.format(step=2))
    assert page.locator("#format input").input_value() == strings.FORMATS["kohya"]


def saved(page, selector):
    """The picture that a link saves, and its name."""
    with page.expect_download() as got:
        page.locator(selector).click()
    with Image.open(got.value.path()) as image:
        image.load()
        return image.size, got.value.suggested_filename


def test_pictures_are_saved_as_one(open_tab, trained):
    """The chosen step beside “before”, and all steps; the prompt's presets stand in its field."""
    page = open_tab()
    wait_for_text(page, "#results", "Momo is ready")
    page.locator("#compare label").filter(has_text="Step 2").click()
    wait_for_text(page, "#lora", strings.DOWNLOAD_STEP.format(step=2))
    pair, name = saved(page, "#compare .sheet a")
    assert name == "Momo step 2.png"
    steps, name = saved(page, "#previews .sheet a")
    assert name == "Momo by step.png" and steps[0] > pair[0] and steps[1] > pair[1]
    page.locator("#pictures .preset").first.click()
    assert page.locator("#prompt textarea").input_value() == "a photo of momo cat on the beach"


def test_own_pictures(open_tab, trained):
    """Painted without and with the LoRA, shown large, deleted."""
    page = open_tab()
    wait_for_text(page, "#pictures", strings.OWN_EMPTY)
    page.locator("#prompt textarea, #prompt input").first.fill("momo cat in a <b>box")
    page.locator("#paint_seed input").fill("7")
    page.locator("#paint").click()
    wait_for_text(page, "#pictures", "momo cat in a <b>box")
    page.locator("#pictures .pair .zoom").first.wait_for(state="visible")
    assert page.locator("#pictures .pair .zoom").count() == 2
    (one,) = image_requests.all_requests(trained)
    assert (one.seed, one.strength, one.step, one.state) == (7, 1.0, 6, "done")
    wait_for(page, "[...document.querySelectorAll('#pictures img')].every(i => i.naturalWidth > 0)")
    page.locator("#pictures .zoom").last.click()
    page.wait_for_selector("dialog.large img")
    page.keyboard.press("Escape")
    assert saved(page, "#pictures .sheet a")[1] == "Momo own pictures.png"
    page.locator("#pictures [data-do=paint_delete]").click()
    wait_for_text(page, "#pictures", strings.OWN_EMPTY)


def test_rename_and_delete(open_tab, trained):
    page = open_tab()
    page.locator("#nav [data-do=list]").click()
    page.locator("#list [data-do=rename]").click()
    page.locator("dialog.ask input").fill("Lady Luna")
    page.keyboard.press("Enter")
    wait_for_text(page, "#list h3", "Lady Luna")
    assert run_preferences.pet_name(trained) == "Lady Luna"
    page.locator("#list [data-do=delete]").click()
    wait_for_text(page, "dialog.ask", "Lady Luna")
    page.keyboard.press("Escape")
    assert trained.folder.exists(), "asked first"
    page.locator("#list [data-do=delete]").click()
    page.locator("dialog.ask .danger").click()
    wait_for_text(page, "#list", strings.LIST_EMPTY)
    assert not list_runs()
    page.reload()
    wait_for_text(page, "#list", strings.LIST_EMPTY)
    page.goto(page.url.partition("#")[0])  # without an address: what a new tab shows
    page.wait_for_selector("#setup", state="visible")


def test_learn_more(open_tab, trained):
    """Two steps more than were learnt, in the same training; then there is a newer file."""
    page = open_tab()
    wait_for_text(page, "#results", "Momo is ready")
    page.locator("#more input").fill("6")
    page.locator("#extend").click()
    wait_for_text(page, "body", strings.EXTEND_LESS.format(steps=6))
    page.locator("#more input").fill("8")
    page.locator("#extend").click()
    wait_for_text(page, "#status", strings.STATES["running"])
    wait_for_text(page, "#status", "8 steps")
    wait_for_text(page, "#results", "Momo is ready")
    wait_for_text(page, "#hero", "8 steps")
    assert page.locator("#compare [name=step]").last.input_value() == "8"
    assert_lora(download(page)[1])
    assert trained.state() == "done" and trained.step() == 8
