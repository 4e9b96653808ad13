"""The parts of the page that are drawn here as HTML: photos, status, messages, pictures, results.

Everything that comes from outside (names, prompts, reasons) goes through `e`, which escapes it.
"""

from __future__ import annotations

import datetime
import html
import time

from blockskip.config import Settings
from blockskip.events import Done, Failed, Stopped, UserError
from blockskip.studio import pictures, texts
from blockskip.studio.draft import Draft
from blockskip.studio.watch import Story, pending

e = html.escape


def photos(draft: Draft) -> str:
    """The photos chosen so far, with a button to remove each, and what could not be used."""
    rejected = "".join(
        f"<li>{f'<b>{e(name)}</b>: ' if name else ''}{e(reason)}</li>"
        for name, reason in draft.rejected
    )
    bad = (
        f'<div class="note warning" role="status"><b>{texts.PHOTOS_REJECTED}</b><ul>{rejected}</ul></div>'
        if rejected
        else ""
    )
    if not draft.photos:
        return f'{bad}<p class="hint center">{texts.PHOTOS_EMPTY}</p>'
    tiles = "".join(
        f'<li><img src="{pictures.url(pictures.DRAFT, "", p.file, version=p.sha[:8])}" alt="{e(p.name)}">'
        f'<button type="button" data-remove="{e(p.file)}" '
        f'aria-label="{e(texts.PHOTO_REMOVE.format(name=p.name))}" title="{e(p.name)}">×</button></li>'
        for p in draft.photos
    )
    count = len(draft.photos)
    advice = (
        texts.PHOTOS_FEW
        if count < 4
        else texts.PHOTOS_MANY.format(count=count)
        if count > 30
        else ""
    )
    hint = f'<p class="hint">{advice}</p>' if advice else ""
    return (
        f'{bad}<ul class="tiles">{tiles}</ul>'
        f'<div class="tiles-foot"><span>{count_photos(count)}</span>'
        f'<button type="button" class="link" data-clear="1">{texts.PHOTOS_CLEAR}</button></div>{hint}'
    )


def wording(trigger: str, kind: str) -> str:
    """How the pet is called in prompts."""
    if not trigger:
        return f'<p class="hint">{texts.WORDING_EMPTY}</p>'
    if trigger == kind:
        return f'<p class="hint warn">{texts.WORDING_SAME}</p>'
    return f'<p class="hint">{texts.WORDING.format(trigger=e(trigger), kind=e(kind))}</p>'


def plan(settings: Settings | UserError, total: int) -> str:
    """What a budget will do, or why it cannot work."""
    if isinstance(settings, UserError):
        return f'<p class="hint warn"><b>{e(settings.title)}</b> {e(settings.remedy)}</p>'
    skipped = settings.front + settings.back
    text = texts.PLAN if skipped else texts.PLAN_ALL
    return (
        f'<p class="hint">{text.format(skipped=skipped, total=total, trained=total - skipped)}</p>'
    )


def status(story: Story, settings: Settings, name: str, started: str, num_photos: int) -> str:
    """Name, state, facts and progress of a run. data-title is what the browser tab shows."""
    share = percent(story)
    facts = texts.FACTS.format(
        kind=settings.class_name,
        photos=count_photos(num_photos),
        steps=settings.steps,
        budget=settings.budget_gib,
        started=clock(started),
    )
    now, left = _doing(story)
    doing = f'<div class="doing"><span>{e(now)}</span><span>{e(left)}</span></div>' if now else ""
    working = " working" if story.state == "running" else ""
    title = f"{share} % · {name}" if working else f"{texts.STATES[story.state]} · {name}"
    return (
        f'<div class="status {story.state}" data-title="{e(title)}"><div class="head">'
        f'<h2>{e(name)}</h2><span class="pill">{texts.STATES[story.state]}</span></div>'
        f'<p class="facts">{e(facts)}</p>'
        f'<progress class="bar{working}" max="100" value="{share}" aria-label="{e(now)}">{share} %</progress>'
        f"{doing}</div>"
    )


def spoken(story: Story, name: str) -> str:
    """What a screen reader hears: state and stage, not every step."""
    stage = texts.STAGES.get(story.stage, texts.STARTING) if story.state == "running" else ""
    return e(f"{name}: {texts.STATES[story.state]}. {stage}")


def _doing(story: Story) -> tuple[str, str]:
    """(what happens now, how long it takes) under the progress bar."""
    step = texts.STEP_OF.format(n=story.step, total=story.steps) if story.steps else ""
    if story.state != "running":
        return step if story.state != "done" else "", ""
    if wanted := pending(story.run):
        return texts.PENDING.get(wanted, texts.STARTING) + " …", step
    now = texts.STAGES.get(story.stage, texts.STARTING)
    if story.stage == "train":
        now += f": {step}"
    elif story.total > 1 and story.stage in ("latents", "residuals"):
        now += f": {story.n}/{story.total}"
    left = story.eta_s - (time.time() - story.last_time)
    known = story.eta_s >= 0 and story.step > 2
    return now, texts.LEFT.format(time=duration(left)) if known else ""


def percent(story: Story) -> int:
    """How much of the whole run is done, 0 to 100; never runs back while windows alternate."""
    if story.state == "done":
        return 100
    if story.losses:
        return 8 + int(88 * story.step / max(1, story.steps))
    within = story.n / story.total if story.total else 0
    first = {
        "photos": 1,
        "load": 1,
        "text": 2,
        "latents": 2 + 4 * within,
        "preview": 7,
        "residuals": 7 + within,
    }
    return int(first.get(story.stage, 0))


def messages(story: Story) -> str:
    """How the run ended if it did not end well, in plain words."""
    parts = []
    match story.end if story.state != "running" else None:
        case Failed(title=title, remedy=remedy):
            parts.append(note(title, remedy, "error"))
        case Stopped(reason="paused", step=step):
            parts.append(note("", texts.PAUSED_AT.format(step=step), "info"))
        case Stopped(step=step):
            parts.append(note("", texts.STOPPED_AT.format(step=step), "info"))
    if story.state == "crashed":
        remedy = texts.CRASHED_REMEDY.format(log=story.run.folder / "worker.log")
        parts.append(note(texts.CRASHED, remedy, "error"))
    return "".join(parts)


def notes(story: Story) -> str:
    """What the run said while it worked: photos left out, pictures that failed."""
    return "".join(
        note("", n.text, "warning" if n.level == "warning" else "info") for n in story.notes[-6:]
    )


def note(title: str, text: str, level: str) -> str:
    """A message box. level: info | warning | error."""
    strong = f"<b>{e(title)}</b> " if title else ""
    return f'<div class="note {level}">{strong}{e(text)}</div>'


def results(story: Story, settings: Settings, name: str) -> str:
    """What came out of the run and how to use it; "" before there is a file."""
    exported = story.exported
    if exported is None or story.state == "running":
        return ""
    if isinstance(story.end, Done):
        peak = story.end.peak_vram_gib if story.end.peak_vram_gib > 0 else story.end.peak_rss_gib
        title = texts.DONE.format(name=name)
        about = texts.DONE_ABOUT.format(
            time=duration(story.active_s), steps=story.end.steps, peak=f"{peak:.1f} GB"
        )
    else:
        title = texts.STOPPED_READY.format(name=name)
        about = texts.STOPPED_READY_ABOUT.format(step=exported.step, total=story.steps)
    how = texts.HOW_TO_DEMO if settings.model == "demo" else texts.HOW_TO
    how = how.format(trigger=e(settings.trigger), kind=e(settings.class_name))
    return f'<div class="result"><h3>{e(title)}</h3><p>{e(about)}</p><p class="how">{how}</p></div>'


def previews(story: Story, settings: Settings, photo_files: list[str]) -> str:
    """The user's photos, and a grid: a row a prompt, a column a step; places for those still to
    come."""
    strip = "".join(
        f'<img src="{pictures.url("photos", story.run.name, file)}" alt="">'
        for file in photo_files[:8]
    )
    prompts = [p for p in settings.preview_prompts for _ in range(settings.preview_images)]
    steps = _columns(story, settings)
    head = "".join(f"<th scope='col'>{_when(step)}</th>" for step in steps)
    rows = "".join(
        f'<tr><th scope="row">{e(prompt)}</th>{"".join(_cell(story, s, index, prompt) for s in steps)}</tr>'
        for index, prompt in enumerate(prompts)
    )
    return (
        f'<section class="previews"><div class="card-head"><h3>{texts.PICTURES_TITLE}</h3>'
        f'<p class="hint">{texts.PICTURES_ABOUT}</p></div>'
        f'<div class="strip"><span>{texts.PICTURES_PHOTOS}</span><div>{strip}</div></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{texts.PICTURES_TITLE}">'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _columns(story: Story, settings: Settings) -> list[int]:
    """The steps that have or will have pictures; a stopped run promises no more."""
    shown = {step for step, _ in story.images}
    if story.state in ("running", "paused", "new"):
        every = settings.preview_every
        shown |= {0, settings.steps} | set(range(0, settings.steps + 1, every) if every else ())
    return sorted(shown)


def _cell(story: Story, step: int, index: int, prompt: str) -> str:
    image = story.images.get((step, index))
    if image is None:
        return "<td></td>"  # not made yet
    file = image.path.removeprefix("previews/")
    version = str(int(image.time))
    small = pictures.url("previews", story.run.name, file, version=version)
    large = pictures.url("previews", story.run.name, file, pictures.SIZES[1], version)
    alt = texts.PICTURES_ALT.format(prompt=prompt, when=_when(step))
    return (
        f'<td><button type="button" class="zoom" data-large="{large}"><img src="{small}" '
        f'alt="{e(alt)}"></button></td>'
    )


def _when(step: int) -> str:
    return texts.PICTURES_STEP.format(step=step) if step else texts.PICTURES_BEFORE


def count_photos(count: int) -> str:
    return texts.PHOTOS_COUNT_ONE if count == 1 else texts.PHOTOS_COUNT.format(count=count)


def clock(iso: str) -> str:
    """A start time as people write it: 14:05 today, 21 Nov 14:05 otherwise."""
    try:
        when = datetime.datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return ""
    today = when.date() == datetime.datetime.now().astimezone().date()
    return f"{when:%H:%M}" if today else f"{when.day} {when:%b %H:%M}"


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 3 min, 1 h 20 min."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{max(1, round(seconds / 5) * 5)} s" if seconds > 5 else "a few seconds"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
