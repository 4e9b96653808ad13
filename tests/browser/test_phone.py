"""On a phone, by touch alone."""

from helpers.browser_steps import drop, horizontal_overflow, wait_for, wait_for_text, wait_for_tiles

from blockskip.studio import strings

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


def test_setting_up_by_tapping(open_tab, server, demo_photos):
    """Photos, a frame drawn with a finger, the name, the budget, Train, Stop."""
    page = open_tab(**PHONE)
    drop(page, demo_photos)
    wait_for_tiles(page, len(demo_photos))
    page.locator("#photos .open").first.tap()
    box = page.locator("dialog.photo")
    box.wait_for(state="visible")
    wait_for(page, "document.querySelector('dialog.photo .picture img').naturalWidth > 0")
    wait_for(page, "document.querySelector('dialog.photo .crops').naturalWidth > 0")
    assert horizontal_overflow(page) <= 0
    area = box.locator(".picture img").bounding_box()
    finger = {"pointerType": "touch", "isPrimary": True, "pointerId": 7, "bubbles": True}
    for kind, share in (("pointerdown", 0.2), ("pointermove", 0.6), ("pointerup", 0.6)):
        place = {"clientX": area["x"] + share * area["width"]}
        place["clientY"] = area["y"] + share * area["height"]
        page.evaluate(
            """([kind, options]) => { const area = document.querySelector('dialog.photo .picture');
            area.setPointerCapture = () => {}; area.dispatchEvent(new PointerEvent(kind, options)); }""",
            [kind, {**finger, **place}],
        )
    assert box.locator(".frame").is_visible()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.picture')).touchAction") == "none"
    )
    box.get_by_text(strings.PHOTO["close"], exact=True).tap()
    box.wait_for(state="detached")
    page.locator("#photos .badge:not(.warn)").wait_for(state="visible")
    page.locator("#name input").tap()
    page.keyboard.type("Luna")
    wait_for_text(page, "#wording", "a photo of luna cat")
    page.locator("#anyway input").tap()
    assert horizontal_overflow(page) <= 0
    page.locator("#train").tap()
    wait_for_text(page, "#status", strings.STATES["running"])
    assert horizontal_overflow(page) <= 0
    page.locator("#stop").tap()
    page.locator("#resume").wait_for(state="visible")
    page.locator("#nav [data-do=list]").tap()
    page.wait_for_selector("#list ul")
    assert horizontal_overflow(page) <= 0


def test_what_is_tapped_is_large_enough(open_tab, trained):
    """44 by 24 px at least, as WCAG 2.5.8 asks of targets; and results by touch."""
    page = open_tab(**PHONE)
    wait_for_text(page, "#results", "Momo is ready")
    small = page.evaluate("""() => [...document.querySelectorAll('button, summary, select')]
        .filter(one => one.checkVisibility() && one.getBoundingClientRect().width)
        .map(one => [one.innerText || one.ariaLabel || one.className, one.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24).map(([words]) => words)""")
    assert not small
    page.locator("#previews .zoom").first.tap()
    page.wait_for_selector("dialog.large")
    page.locator("dialog.large").tap()
    page.wait_for_selector("dialog.large", state="detached")
    with page.expect_download():
        page.locator("#lora").tap()
    assert horizontal_overflow(page) <= 0
