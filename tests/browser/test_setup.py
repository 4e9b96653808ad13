"""Setting up in the browser: photos dropped, bad ones named, the dialog of one photo, reloads."""

import pillow_heif
import pytest
from helpers import fake_feed
from helpers.browser_steps import (
    MINUTE,
    drop,
    focused,
    horizontal_overflow,
    wait_for,
    wait_for_text,
    wait_for_ticks,
    wait_for_tiles,
)
from helpers.large_photos import make_large_photos
from PIL import Image

from blockskip.runs.run import list_runs
from blockskip.studio import draft, strings


def test_good_and_bad_files_and_a_reload(open_tab, server, tmp_path):
    """Phone photos and captions are taken; what is no photo is named, with the reason."""
    pet = fake_feed.make_photos(tmp_path / "my péts")
    heic = tmp_path / "IMG_0007.HEIC"
    pillow_heif.from_pillow(Image.effect_noise((320, 240), 80).convert("RGB")).save(heic)
    html, empty, film = (tmp_path / name for name in ("web.jpg", "empty.png", "film.jpg"))
    html.write_text("<html>not a photo</html>", encoding="utf-8")
    empty.write_bytes(b"")
    film.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(4000))
    words = tmp_path / "my péts" / "photo 2.txt"
    words.write_text("momo in a box", encoding="utf-8")
    page = open_tab()
    assert page.locator("#train").is_enabled() and horizontal_overflow(page) <= 0
    page.locator("#train").click()
    wait_for_text(page, "body", strings.NO_NAME)
    drop(page, [*pet, heic, html, empty, film, words])
    wait_for_tiles(page, 6)
    for bad in (html, empty, film):
        wait_for_text(page, "#photos .note", bad.name)
    assert [p.caption for p in draft.load().photos if p.name == "photo 2.png"] == ["momo in a box"]
    page.locator("#name input").press_sequentially("Luna")
    wait_for_text(page, "#wording", "a photo of luna cat")
    page.reload()
    wait_for_tiles(page, 6)
    wait_for(page, "document.querySelector('#name input').value === 'Luna'")
    page.locator("#photos .tiles .remove").first.click()
    wait_for_tiles(page, 5)
    page.locator("#train").click()  # own photos on the demo model: asked first
    wait_for_text(page, "body", strings.OWN_PHOTOS_TITLE)
    page.locator("#photos [data-do=clear]").click()
    wait_for_text(page, "#photos", strings.PHOTOS_EMPTY)
    assert not list_runs()


def test_what_the_browser_itself_refuses_is_said(open_tab, server, tmp_path):
    """A film among the photos: it is named, and the photos are taken."""
    pet, film = fake_feed.make_photos(tmp_path / "pet"), tmp_path / "zoomies.mp4"
    film.write_bytes(b"\0\0\0\x20ftypisom" + bytes(4000))
    page = open_tab()
    drop(page, [*pet, film])
    wait_for_text(page, "body", film.name)
    wait_for_tiles(page, 5)
    assert page.locator("#photos .tiles img").count() == 5 and not list_runs()


def test_an_upload_that_the_disk_cannot_hold_is_said(open_tab, server, tmp_path):
    """What studio/guard.py answers to it reaches the user."""
    page = open_tab()
    said = {"status": 507, "body": "The disk is full. Free some space."}
    page.route("**/gradio_api/upload**", lambda route: route.fulfill(**said))
    drop(page, fake_feed.make_photos(tmp_path / "pet"))
    wait_for_text(page, "body", said["body"])
    assert not draft.load().photos


def test_two_hundred_photos_and_no_more(open_tab, server, tmp_path):
    page = open_tab()
    drop(page, fake_feed.make_photos(tmp_path / "many", 203, side=32))
    wait_for_tiles(page, draft.MAX_PHOTOS)
    wait_for_text(page, "#photos .note", strings.PHOTOS_MOST.format(most=draft.MAX_PHOTOS))
    assert len(list(draft.photos_dir().glob("*.png"))) == draft.MAX_PHOTOS
    assert horizontal_overflow(page) <= 0


@pytest.fixture
def dialog(open_tab, server, tmp_path):
    """(page, dialog) with the first of three photos opened."""
    page = open_tab()
    drop(page, fake_feed.make_photos(tmp_path / "pet", 3, side=600))
    wait_for_tiles(page, 3)
    page.locator("#photos .open").first.click()
    box = page.locator("dialog.photo")
    box.wait_for(state="visible")
    wait_for(page, "document.querySelector('dialog.photo .crops').naturalWidth > 0")
    return page, box


def kept(place=0):
    return draft.load().photos[place]


def crops(box):
    return box.locator(".crops").get_attribute("src")


def test_a_frame_is_drawn_moved_and_kept(dialog):
    page, box = dialog
    before = crops(box)
    area = box.locator(".picture img").bounding_box()
    page.mouse.move(area["x"] + area["width"] * 0.25, area["y"] + area["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.6, steps=4)
    page.mouse.move(area["x"] + area["width"] * 0.75, area["y"] + area["height"] * 0.75, steps=4)
    page.mouse.up()
    assert box.locator(".frame").is_visible()
    drawn = crops(box)
    assert drawn != before and "box=" in drawn
    wait_for(page, "document.querySelector('dialog.photo .crops').complete")
    assert page.evaluate("document.querySelector('dialog.photo .crops').naturalWidth") > 0
    box.locator(".frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert crops(box) != drawn, "the crops follow the frame"
    box.locator("textarea").fill("momo on a <b>boat")
    page.keyboard.press("Escape")
    box.wait_for(state="detached")
    assert "photo 1" in focused(page), "the focus goes back to the photo"
    wait_for(page, "document.querySelectorAll('#photos .badge:not(.warn)').length === 1")
    assert kept().caption == "momo on a <b>boat"
    assert kept().box == pytest.approx((0.27, 0.25, 0.77, 0.77), abs=0.02)
    page.reload()
    page.locator("#photos .open").first.click()
    box.wait_for(state="visible")
    assert box.locator("textarea").input_value() == "momo on a <b>boat"
    assert box.locator(".frame").is_visible() and "box=" in crops(box)
    box.get_by_text(strings.PHOTO["no_box"], exact=True).click()
    assert "box=" not in crops(box)
    box.get_by_text(strings.PHOTO["close"], exact=True).click()
    wait_for(page, "document.querySelectorAll('#photos .badge:not(.warn)').length === 0")
    assert kept().box is None and kept().caption, "only the frame was taken away"


def test_from_photo_to_photo(dialog):
    """Next and previous go round, and each photo keeps what is said of it."""
    page, box = dialog
    title = box.locator("h3")
    first = title.inner_text()
    box.locator("textarea").fill("the first")
    box.get_by_text(strings.PHOTO["next"]).click()
    assert title.inner_text() != first and box.locator("textarea").input_value() == ""
    box.get_by_text(strings.PHOTO["previous"]).click()
    assert title.inner_text() == first and box.locator("textarea").input_value() == "the first"
    box.get_by_text(strings.PHOTO["previous"]).click()
    box.locator("textarea").fill("the last")
    other = crops(box)
    box.get_by_text(strings.PHOTO["crops_again"]).click()
    assert crops(box) != other
    page.keyboard.press("Escape")
    box.wait_for(state="detached")
    wait_for(page, "JSON.parse(document.querySelector('[data-photos]').dataset.photos)[2].caption")
    assert [photo.caption for photo in draft.load().photos] == ["the first", "", "the last"]


@pytest.fixture
def held(open_tab):
    """(page, let go): uploads of this tab wait until they are let go."""
    page, waiting = open_tab(), []
    page.route("**/gradio_api/upload", lambda route: waiting.append(route))

    def let_go():
        for route in waiting:
            route.continue_()
        page.unroute("**/gradio_api/upload")

    return page, let_go


def shown(page):
    return page.evaluate("document.querySelectorAll('#photos .tiles li').length")


def test_many_photos_are_seen_before_they_are_uploaded(held, server, tmp_path):
    """Of 12 megapixels: each has its thumbnail while its upload is held, and other requests of the
    page are answered meanwhile; then all are in the draft. many_photos.py measures more of them."""
    (page, let_go), count = held, 20
    page.set_default_timeout(6 * MINUTE)
    drop(page, make_large_photos(tmp_path / "phone", count))
    wait_for(page, "n => document.querySelectorAll('#coming canvas').length === n", count)
    assert f"0 of {count}" in page.locator("#drop .adding").inner_text()
    assert not shown(page)
    wait_for_ticks(page)
    let_go()
    wait_for(page, "document.querySelectorAll('#photos .tiles li').length >= 6")
    wait_for_ticks(page)
    assert shown(page) + page.locator("#coming li").count() >= count, "none is out of sight"
    wait_for_tiles(page, count)
    wait_for(page, "!document.querySelector('#coming li, #drop progress')")
    assert sorted(p.name for p in draft.load().photos) == [
        f"IMG_{k + 1:04}.jpg" for k in range(count)
    ]
    assert horizontal_overflow(page) <= 0


DROP = """([selector, name]) => {
    const data = new DataTransfer(), target = document.querySelector(selector);
    const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 64});
    canvas.getContext('2d').fillRect(0, 0, name.length, 40);
    return new Promise(done => canvas.toBlob(blob => {
        data.items.add(new File([blob], name, {type: 'image/png'}));
        const event = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
        done([!target.dispatchEvent(event), document.querySelectorAll('#coming li').length]);
    }));
}"""


def test_the_whole_card_takes_photos_and_the_rest_of_the_page_none(open_tab, server, tmp_path):
    page = open_tab()
    drop(page, fake_feed.make_photos(tmp_path / "pet", 3))
    wait_for_tiles(page, 3)
    assert page.evaluate(DROP, ["#budget", "astray.png"]) == [True, 0]
    assert page.evaluate(DROP, ["#photos .tiles .open", "on a tile.png"]) == [True, 1]
    wait_for_tiles(page, 4)
    assert draft.load().photos[-1].name == "on a tile.png"


def test_an_upload_that_failed_is_tried_again(held, server, tmp_path):
    """No photo of the drop is lost."""
    page, _ = held
    page.unroute("**/gradio_api/upload")
    page.route("**/gradio_api/upload", lambda route: route.abort())
    drop(page, fake_feed.make_photos(tmp_path / "pet"))
    wait_for_text(page, "#drop .note", strings.DROP["failed"])
    page.unroute("**/gradio_api/upload")
    assert not draft.load().photos
    page.get_by_text(strings.DROP["again"], exact=True).click()
    wait_for_tiles(page, 5)
    assert [photo.name for photo in draft.load().photos] == [f"photo {k}.png" for k in range(1, 6)]


def test_the_best_are_kept_and_the_others_come_back(open_tab, server, tmp_path):
    page = open_tab()
    drop(page, fake_feed.make_photos(tmp_path / "many", 26, side=64))
    wait_for_tiles(page, 26)
    page.locator("#photos [data-do=keep_best]").click()
    page.locator("#photos .aside").wait_for()
    now = draft.load()
    assert 0 < len(now.photos) <= 20 and len(now.photos) + len(now.aside) == 26
    wait_for_tiles(page, len(now.photos))
    page.reload()
    page.locator("#photos .small-tiles button").first.click()
    wait_for_tiles(page, len(now.photos) + 1)
    page.locator("#photos [data-do=bring_back]").last.click()
    wait_for_tiles(page, 26)
    assert not draft.load().aside


def test_several_photos_are_captioned_set_aside_and_removed(open_tab, server, tmp_path):
    page = open_tab()
    drop(page, fake_feed.make_photos(tmp_path / "pet", 6))
    wait_for_tiles(page, 6)
    page.locator("[data-select=start]").click()
    tiles = page.locator("#photos .open")
    tiles.nth(1).click()
    tiles.nth(3).click(modifiers=["Shift"])
    wait_for_text(page, ".select-bar", "3 photos selected")
    page.locator("[data-select=caption]").click()
    page.locator("dialog textarea").fill("asleep")
    page.locator("dialog .primary").click()
    wait_for(page, "document.querySelectorAll('#photos .words').length === 3")
    assert [p.caption for p in draft.load().photos] == ["", *["asleep"] * 3, "", ""]
    tiles.nth(5).click()
    page.locator("[data-select=set_aside]").click()
    wait_for_tiles(page, 5)
    tiles.nth(0).click()
    tiles.nth(1).click()
    page.locator("[data-select=remove]").click()
    page.locator("dialog .danger").click()
    wait_for_tiles(page, 3)
    page.locator("[data-select=done]").click()
    tiles.nth(0).click()
    page.locator("dialog.photo").wait_for()
    assert [p.name for p in draft.load().aside] == ["photo 6.png"]


def test_the_way_to_a_gated_model_and_a_budget_by_a_press(open_tab, server):
    """Account, licence and token have a link each; the usual sizes of cards set the budget."""
    page = open_tab()
    page.locator("[data-do=model][data-model=flux-dev]").click()
    page.wait_for_selector("#models .way")
    links = page.locator("#models .way a").evaluate_all("all => all.map(one => one.pathname)")
    assert links == ["/join", "/black-forest-labs/FLUX.1-dev", "/settings/tokens"]
    assert "launch" not in page.locator("#setup").inner_text()
    page.locator("#marks [data-budget='16']").click()
    wait_for(page, "document.querySelector('#budget input[type=number]').value === '16'")
    page.wait_for_selector("#marks [data-budget='16'][aria-pressed=true]")


def test_undo_brings_photos_back_also_after_a_reload(dialog):
    page, box = dialog
    box.locator("textarea").fill("on a boat")
    page.keyboard.press("Escape")
    wait_for(page, "JSON.parse(document.querySelector('[data-photos]').dataset.photos)[0].caption")
    page.locator("#photos .tiles .remove").first.click()
    wait_for_tiles(page, 2)
    page.reload()
    wait_for_text(page, "#photos .undo", "photo 1")
    page.locator("#photos [data-do=clear]").click()
    wait_for_text(page, "#photos .undo", "2 photos")
    page.locator("#photos [data-do=undo]").click()
    wait_for_tiles(page, 2)
    page.locator("#photos [data-do=undo]").click()
    wait_for_tiles(page, 3)
    assert [photo.caption for photo in draft.load().photos] == ["on a boat", "", ""]
    page.locator("#photos .undo").wait_for(state="detached")


def test_problems_are_shown_at_their_fields(open_tab, server, tmp_path):
    """All at once; the first is scrolled to and has the focus; each goes with its cause."""
    page = open_tab()
    page.locator("#train").click()
    page.locator("#drop + .problem").wait_for(state="visible")
    name = page.locator("#name input")
    assert name.get_attribute("aria-invalid") == "true"
    described = name.get_attribute("aria-describedby")
    assert strings.NO_NAME in page.locator(f"#{described}").inner_text()
    assert page.evaluate("!!document.activeElement.closest('#drop')")
    box = page.locator("#drop").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900
    drop(page, fake_feed.make_photos(tmp_path / "pet"))
    wait_for_tiles(page, 5)
    page.locator("#drop + .problem").wait_for(state="detached")
    page.locator("#train").click()
    page.locator("#own .problem").wait_for(state="visible")
    assert "name" in focused(page)
    page.keyboard.type("Luna")
    page.locator("#name .problem").wait_for(state="detached")
    assert name.get_attribute("aria-invalid") is None
    page.locator("#anyway input").check()
    page.locator("#own .problem").wait_for(state="detached")
    assert not list_runs() and not page.locator(".toast-wrap").inner_text()
