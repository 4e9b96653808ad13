"""The photos chosen so far: tiles, findings and advice, and the data of the photo dialog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import lru_cache

from blockskip.core.settings import Settings
from blockskip.data import captions, photo_checks
from blockskip.data.subject_boxes import FINDER, Box
from blockskip.models import pet_finder
from blockskip.runs import likeness
from blockskip.studio import draft, photo_set_view, pictures, strings, tool_view
from blockskip.studio.draft import Draft, PreparedPhoto
from blockskip.studio.formatting import action_button, e, json_attribute, kind_in_words
from blockskip.studio.held_out import NONE, HeldOut
from blockskip.studio.pet_search import Search


def photos(
    now: Draft,
    settings: Settings,
    can_describe: bool,
    search: Search,
    pet: str = "",
    unseen: HeldOut = NONE,
) -> str:
    """Return the tiles with their remove buttons, the rejected photos, the findings and the advice.

    settings: the plan's, for the crops shown and the smallest useful size. search: for the pet,
    whose name is `pet`. unseen: the photos that are held out of training.
    """
    bad, aside = _rejected(now) + _reading_bar(), photo_set_view.aside(now)
    if not now.photos:
        return f'{bad}<p class="hint center">{strings.PHOTOS_EMPTY}</p>{aside}'
    findings, advice = _checked(now, settings, search)
    tiles = "".join(
        _tile(photo, findings[photo.file], photo.file in unseen) for photo in now.photos
    )
    items = "".join(f"<li>{e(strings.translated(sentence))}</li>" for sentence in advice)
    hint = f'<ul class="advice">{items}</ul>' if items else ""
    return (
        f'{bad}<div class="photos" data-photos="{json_attribute(_for_dialog(now, settings, findings, search, unseen))}" '
        f'data-texts="{json_attribute(_dialog_texts(settings, can_describe))}">'
        f'<ul class="tiles">{tiles}</ul>{photo_set_view.foot(now)}<p class="hint">{strings.PHOTO_HINT}</p>'
        f"{_search_status(search, pet)}{_box_buttons(now, search)}{_held_out(now, unseen)}{hint}{aside}</div>"
    )


def _reading_bar() -> str:
    """Return a progress bar while photos are being read."""
    if (adding := draft.reading_progress()) is None:
        return ""
    words = strings.PHOTOS_ADDING.format(n=adding[0], total=adding[1])
    return (
        f'<div class="reading"><p class="hint" role="status">{words}</p><progress class="bar working" '
        f'max="{adding[1]}" value="{adding[0]}" aria-label="{words}"></progress></div>'
    )


def _rejected(now: Draft) -> str:
    if not now.rejected:
        return ""
    lines = "".join(
        f"<li>{f'<b>{e(strings.translated(name))}</b>: ' if name else ''}{e(strings.translated(reason))}</li>"
        for name, reason in now.rejected
    )
    return f'<div class="note warning" role="status"><b>{strings.PHOTOS_REJECTED}</b><ul>{lines}</ul></div>'


def _tile(photo: PreparedPhoto, findings: Sequence[photo_checks.Finding], unseen: bool) -> str:
    source = pictures.url(pictures.DRAFT, "", photo.file, version=photo.sha[:8])
    problems = "; ".join(strings.translated(finding.text) for finding in findings)
    badges = f'<span class="badge warn" title="{e(problems)}">!</span>' if findings else ""
    if photo.box:
        found = strings.PHOTO_FOUND if photo.framed_by == FINDER else strings.PHOTO_BOXED
        badges += f'<span class="badge" title="{found}">▣</span>'
    notes = [strings.PHOTO_NOTES[f.kind] for f in findings if f.kind in strings.PHOTO_NOTES]
    badges += f'<span class="tile-note">{" · ".join(notes)}</span>' if notes else ""
    badges += f'<span class="tile-note calm">{strings.PHOTO_UNSEEN}</span>' if unseen else ""
    opened = strings.PHOTO_OPEN.format(name=photo.name) + (f". {problems}" if problems else "")
    words = f'<span class="words">{e(photo.caption)}</span>' if photo.caption else ""
    removed = strings.PHOTO_REMOVE.format(name=photo.name)
    return (
        f'<li><button type="button" class="open" data-open="{e(photo.file)}" data-name="{e(photo.name)}" aria-label="{e(opened)}">'
        f'<img src="{source}" alt="" loading="lazy">{_mark(photo)}{words}</button>{badges}'
        f'<button type="button" class="remove" data-do="remove" data-file="{e(photo.file)}" '
        f'aria-label="{e(removed)}" title="{e(removed)}">×</button></li>'
    )


def _mark(photo: PreparedPhoto) -> str:
    """Return the frame on a tile, which shows the square in the photo's middle."""
    if photo.box is None:
        return ""
    size = draft.features([photo.file])[photo.file]
    scales = (size.width / size.short_px, size.height / size.short_px) * 2
    left, top, right, bottom = (
        100 * (0.5 + (edge - 0.5) * scale) for edge, scale in zip(photo.box, scales, strict=True)
    )
    place = f"left:{left:.1f}%;top:{top:.1f}%;width:{right - left:.1f}%;height:{bottom - top:.1f}%"
    return f'<i class="mark" style="{place}"></i>'


def _search_status(search: Search, pet: str) -> str:
    """Return the progress of the search for the pet, why it failed, or the offer of the finder."""
    if search.offered:
        return tool_view.offer(pet_finder.TOOL, strings.FINDER_OFFER)
    if search.problem:
        retry = action_button("find_again", strings.FINDER_AGAIN)
        return f'<p class="hint warn" role="status">{e(search.problem)}</p>{retry}'
    if search.progress:
        done, total = search.progress
        words = e(strings.FINDER_LOOKING.format(pet=pet or strings.YOUR_PET, n=done, total=total))
        return (
            f'<p class="hint" role="status">{words}</p><progress class="bar working" max="{total}" '
            f'value="{done - 1}" aria-label="{words}"></progress>'
        )
    unknown = next((s.kind for s in search.sightings.values() if not s.can_be_found), "")
    words = e(strings.FINDER_UNKNOWN.format(kind=kind_in_words(unknown)))
    return f'<p class="hint">{words}</p>' if unknown else ""


def _held_out(now: Draft, unseen: HeldOut) -> str:
    """Return which photos are held out of training and why, and the way to change it, or the offer
    of the judge of likeness, for which they are."""
    if unseen.offered:
        return tool_view.offer(likeness.TOOL, strings.UNSEEN_OFFER)
    if not unseen.files:
        return ""
    names = ", ".join(photo.name for photo in now.photos if photo.file in unseen)
    why = strings.UNSEEN_BY_RULE if unseen.by_rule else strings.UNSEEN_BY_USER
    words = e(strings.UNSEEN_PHOTOS.format(names=names, why=why))
    return f'<p class="hint">{words}</p>{action_button("hold_out", strings.UNSEEN_NONE, "link")}'


def _box_buttons(now: Draft, search: Search) -> str:
    """Return buttons that mark or unmark the pet, with the number of marked photos."""
    boxed = sum(photo.box is not None for photo in now.photos)
    unmarked = sum(photo.box is None and bool(_proposal(photo, search)) for photo in now.photos)
    buttons = action_button("mark_all", strings.PHOTOS_BOX_ALL) if unmarked else ""
    buttons += action_button("unmark_all", strings.PHOTOS_BOX_NONE, "link") if boxed else ""
    about = strings.PHOTOS_BOXED_ABOUT.format(count=boxed, total=len(now.photos))
    words = f'<p class="hint">{about}</p>' if boxed else ""
    return f'<div class="marks-row">{buttons}</div>{words}' if buttons or words else ""


def _checked(now: Draft, settings: Settings, search: Search) -> tuple[dict, list[str]]:
    """Return ({file: findings}, advice), both empty while photos are being read: comparing each with
    each other would slow that down."""
    if draft.reading_progress():
        return {photo.file: [] for photo in now.photos}, []
    key = tuple((p.file, p.name, p.box, search.sightings.get(p.file)) for p in now.photos)
    return _check_photos(key, settings.plan.s_max_px)


@lru_cache(maxsize=4)
def _check_photos(key: tuple, least_px: int) -> tuple[dict, list[str]]:
    """Return ({file: findings}, advice on the set). key: (file, name, frame, sighting) of each."""
    features = draft.features(file for file, *_ in key)
    frames = {file: Box(*box) if box else None for file, _, box, _ in key}
    names = {file: name for file, name, *_ in key}
    sightings = {file: seen for file, *_, seen in key if seen}
    findings = photo_checks.findings(features, frames, least_px, names, sightings)
    return findings, photo_checks.advice(features, frames, findings)


def _proposal(photo: PreparedPhoto, search: Search) -> tuple[float, ...] | None:
    """Return the frame to suggest: where the pet was found, else what stands out."""
    seen = search.sightings.get(photo.file)
    return astuple(seen.frame) if seen and seen.frame else photo.proposal


def _for_dialog(
    now: Draft,
    settings: Settings,
    findings: Mapping[str, Sequence[photo_checks.Finding]],
    search: Search,
    unseen: HeldOut,
) -> list[dict]:
    """Return the dialog's data for each photo."""
    automatic = captions.default_caption(settings.trigger, settings.class_name)
    return [
        {
            "file": photo.file,
            "name": photo.name,
            "large": pictures.url(
                pictures.DRAFT, "", photo.file, pictures.SIZES[1], photo.sha[:8], escape=False
            ),
            "caption": photo.caption,
            "automatic": automatic,
            "box": photo.box,
            "proposal": _proposal(photo, search),
            "unseen": photo.file in unseen if unseen.possible else None,
            "findings": [strings.translated(f.text) for f in findings[photo.file]],
        }
        for photo in now.photos
    ]


def _dialog_texts(settings: Settings, can_describe: bool) -> dict:
    return strings.PHOTO | {
        "can_describe": can_describe,
        "crops_about": strings.CROPS_ABOUT[settings.plan.patches],
        "crop": f"patches={settings.plan.patches}&low={settings.plan.s_min_px}&high={settings.plan.s_max_px}"
        f"&model={settings.model}",
    }
