"""What is done with many photos at once: the drop zone, several selected, and those set aside."""

from __future__ import annotations

from blockskip.data.photo_checks import MOST
from blockskip.studio import pictures, strings
from blockskip.studio.draft import Draft, PreparedPhoto
from blockskip.studio.formatting import action_button, count_photos, e, json_attribute


def drop_zone() -> str:
    """Return the zone that photos are dropped on, or chosen with. assets/photos.js takes them.

    It accepts all files, since names tell little; what is no photo is named with the reason.
    """
    return (
        f'<label class="drop-zone" data-texts="{json_attribute(strings.DROP)}">'
        f'<input type="file" multiple><span aria-hidden="true">↑</span> {strings.PHOTOS_DROP}</label>'
    )


def foot(now: Draft) -> str:
    """Return the number of photos, and what can be done with several of them."""
    count = len(now.photos)
    best = strings.PHOTOS_BEST.format(count=MOST)
    buttons = action_button("keep_best", best) if count > MOST else ""
    if count > 1:
        buttons += _select("start", strings.PHOTOS_SELECT)
    buttons += action_button("clear", strings.PHOTOS_CLEAR, "link")
    return (
        f'<div class="tiles-foot"><span>{count_photos(count)}</span>'
        f'<span class="presses">{buttons}</span></div>{_select_bar()}'
    )


def _select_bar() -> str:
    """Return what is shown while photos are being selected."""
    buttons = (
        _select("all", strings.SELECT_ALL)
        + _select("caption", strings.SELECT_CAPTION)
        + _select("set_aside", strings.SELECT_ASIDE)
        + _select("remove", strings.SELECT_REMOVE, "danger", strings.SELECT_REMOVE_ASK)
        + _select("done", strings.SELECT_DONE, "primary")
    )
    return (
        f'<div class="select-bar" data-texts="{json_attribute(strings.SELECT)}"><p role="status"></p>'
        f'<p class="hint">{strings.SELECT_HINT}</p><div class="presses">{buttons}</div></div>'
    )


def _select(action: str, label: str, style: str = "link", question: str = "") -> str:
    """Return a button of assets/photos.js, which knows the selected photos."""
    asked = f' data-question="{e(question)}"' if question else ""
    return (
        f'<button type="button" class="press {style}" data-select="{action}"{asked}>'
        f"{e(label)}</button>"
    )


def aside(now: Draft) -> str:
    """Return the photos that are set aside, and the ways to bring them back."""
    if not now.aside:
        return ""
    count = len(now.aside)
    title = strings.ASIDE_ONE if count == 1 else strings.ASIDE.format(count=count)
    tiles = "".join(map(_aside_tile, now.aside))
    return (
        f'<div class="note aside"><b role="status">{title}.</b> {strings.ASIDE_ABOUT}'
        f'<ul class="small-tiles">{tiles}</ul>{action_button("bring_back", strings.ASIDE_BACK)}</div>'
    )


def _aside_tile(photo: PreparedPhoto) -> str:
    source = pictures.url(pictures.DRAFT, "", photo.file, version=photo.sha[:8])
    words = e(strings.ASIDE_BACK_ONE.format(name=photo.name))
    return (
        f'<li><button type="button" data-do="bring_back" data-file="{e(photo.file)}" '
        f'aria-label="{words}" title="{words}"><img src="{source}" alt="" loading="lazy"></button></li>'
    )
