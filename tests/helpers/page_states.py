"""The states of the page, each reached in a tab in the language in use. page: the tab, which is
opened. pet: photos."""

from __future__ import annotations

from helpers import fake_feed
from helpers.browser_steps import drop, wait_for_text, wait_for_tiles

from blockskip.core import events
from blockskip.studio import draft, set_aside, strings


def open_anew(page):
    """Without a place: what a new tab shows."""
    page.goto(page.home)


def empty(page, pet):
    open_anew(page)
    wait_for_text(page, "#setup", strings.PHOTOS_TITLE)


def photos_in(page, pet):
    draft.add([*pet, pet[0].parent])
    draft.save_answers(name="Momo", model="flux-dev")
    open_anew(page)
    wait_for_tiles(page, 5)


def dialog(page, pet):
    photos_in(page, pet)
    page.locator("#photos .open").first.click()
    page.wait_for_selector("dialog.photo")


def selecting(page, pet):
    """Of many: some selected, some set aside, a film left out, an upload that failed."""
    draft.add(pet)
    set_aside.set_aside([photo.file for photo in draft.load().photos[3:]])
    open_anew(page)
    wait_for_tiles(page, 3)
    page.locator("[data-select=start]").click()
    page.locator("#photos .open").first.click()
    film = pet[0].with_suffix(".mp4")
    film.write_bytes(b"film")
    page.route("**/gradio_api/upload", lambda route: route.abort())
    drop(page, [film, *fake_feed.make_photos(pet[0].parent / "more", 3, side=100)])
    page.wait_for_selector("#drop .note.error")


def removed(page, pet):
    """The way back after photos were removed."""
    photos_in(page, pet)
    page.locator("#photos .remove").first.click()
    page.wait_for_selector("#photos .undo")


def captions_for_several(page, pet):
    selecting(page, pet)
    page.locator("[data-select=caption]").click()
    page.wait_for_selector("dialog.ask textarea")


def remove_several(page, pet):
    selecting(page, pet)
    page.locator("[data-select=remove]").click()
    page.wait_for_selector("dialog.ask")


def problems(page, pet):
    """What is missing, said at its fields."""
    empty(page, pet)
    page.locator("#train").click()
    page.wait_for_selector(".problem")


def learning(page, pet):
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 180)
    run.append(events.Note(text="Two photos look alike.", level="warning"))
    fake_feed.seem_alive(run)
    open_anew(page)
    wait_for_text(page, "#status", strings.STEP_OF.format(n=180, total=run.settings().steps))


def paused(page, pet):
    fake_feed.feed(fake_feed.make_run(pet), 60, events.Stopped(reason="paused", step=60))
    open_anew(page)
    wait_for_text(page, "#messages", strings.PAUSED_AT.format(step=60))


def failed(page, pet):
    end = events.Failed(title="The disk is full.", remedy="Free 2 GB, then press Resume.")
    fake_feed.feed(fake_feed.make_run(pet), 60, end)
    open_anew(page)
    wait_for_text(page, "#messages", strings.translated(end.title))


def trainings(page, pet):
    for name in ("one", "two"):
        fake_feed.feed(fake_feed.make_run(pet, name=name, pet="Momo " * 6), 60)
    open_anew(page)
    page.locator("#nav [data-do=list]").click()
    page.wait_for_selector("#list ul")


def renaming(page, pet):
    trainings(page, pet)
    page.locator("#list [data-do=rename]").first.click()
    page.wait_for_selector("dialog.ask input")


def deleting(page, pet):
    trainings(page, pet)
    page.locator("#list [data-do=delete]").first.click()
    page.wait_for_selector("dialog.ask")


STATES = (
    *(empty, problems, photos_in, dialog, selecting, captions_for_several, remove_several),
    *(removed, learning, paused, failed, trainings, renaming, deleting),
)
