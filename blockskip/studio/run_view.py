"""How a training goes: status, stages, messages, pictures. Everything from outside is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence

from blockskip.core import stages
from blockskip.core.events import Failed, Stopped
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.studio import pictures, strings
from blockskip.studio.formatting import clock, count_photos, duration, e, note
from blockskip.studio.run_state import Story, pending


def status(story: Story, settings: Settings, name: str, started: str, num_photos: int) -> str:
    """Name, state, facts and progress of a run. data-title is what the browser tab shows."""
    share = percent(story)
    facts = strings.FACTS.format(
        kind=settings.class_name,
        photos=count_photos(num_photos),
        steps=settings.steps,
        model=model_row(settings.model).title,
        budget=settings.budget_gib,
        started=clock(started),
    )
    now, left = _doing(story)
    working = " working" if story.state == "running" else ""
    title = f"{share} % · {name}" if working else f"{strings.STATES[story.state]} · {name}"
    return (
        f'<div class="status {story.state}" data-title="{e(title)}"><div class="head">'
        f'<h2>{e(name)}</h2><span class="pill">{strings.STATES[story.state]}</span></div>'
        f'<p class="facts">{e(facts)}</p>{_stages(story)}'
        f'<progress class="bar{working}" max="100" value="{share}" aria-label="{e(now)}">{share} %</progress>'
        f'<div class="doing"><span>{e(now)}</span><span>{e(left)}</span></div></div>'
    )


def _stages(story: Story) -> str:
    """The stages as a line of words: done, being worked on, still to come."""
    names = list(strings.STAGE_LINE)
    over = story.state == "done"
    last = max((names.index(s) for s in story.stages if s in names), default=-1)
    items = []
    for place, words in enumerate(strings.STAGE_LINE.values()):
        state = "done" if over or place < last else "now" if place == last else "next"
        current = ' aria-current="step"' if state == "now" and story.state == "running" else ""
        items.append(f'<li class="{state}"{current}>{words}</li>')
    return f'<ol class="stages">{"".join(items)}</ol>'


def spoken(story: Story, name: str) -> str:
    """What a screen reader hears: state and stage, not every step."""
    stage = strings.STAGES.get(story.stage, strings.STARTING) if story.state == "running" else ""
    return e(f"{name}: {strings.STATES[story.state]}. {stage}")


def _doing(story: Story) -> tuple[str, str]:
    """(what happens now, how long it takes) under the progress bar."""
    step = strings.STEP_OF.format(n=story.step, total=story.steps) if story.steps else ""
    if story.state != "running":
        return step, ""
    if wanted := pending(story.run):
        return strings.PENDING.get(wanted, strings.STARTING) + " …", step
    now = strings.STAGES.get(story.stage, strings.STARTING)
    if story.stage == stages.TRAIN:
        now += f": {step}"
    elif story.total > 1:
        now += f": {story.n}/{story.total}"
    left = story.eta_s - (time.time() - story.last_time)
    known = story.eta_s >= 0 and story.step > 2
    return now, strings.LEFT.format(time=duration(left)) if known else ""


def percent(story: Story) -> int:
    """How much of the whole run is done, 0 to 100; never runs back while windows alternate."""
    if story.state == "done":
        return 100
    if story.step:
        return 8 + int(88 * story.step / max(1, story.steps))
    within = story.n / story.total if story.total else 0
    first = {
        stages.PHOTOS: 1,
        stages.LOAD: 1,
        stages.TEXT: 2,
        stages.LATENTS: 2 + 4 * within,
        stages.PREVIEW: 7,
        stages.RESIDUALS: 7 + within,
    }
    return int(first.get(story.stage, 0))


def messages(story: Story) -> str:
    """How the run ended if it did not end well, in plain words."""
    parts = []
    match story.end if story.state != "running" else None:
        case Failed(title=title, remedy=remedy):
            parts.append(note(title, remedy, "error"))
        case Stopped(reason="paused", step=step):
            parts.append(note("", strings.PAUSED_AT.format(step=step), "info"))
        case Stopped(step=step):
            parts.append(note("", strings.STOPPED_AT.format(step=step), "info"))
    if story.state == "crashed":
        remedy = strings.CRASHED_REMEDY.format(log=story.run.folder / "worker.log")
        parts.append(note(strings.CRASHED, remedy, "error"))
    return "".join(parts)


def notes(story: Story) -> str:
    """What the run said while it worked: photos left out, pictures that failed, warnings."""
    return "".join(
        note("", n.text, "warning" if n.level == "warning" else "info") for n in story.notes[-6:]
    )


def previews(story: Story, settings: Settings, photo_files: Sequence[str]) -> str:
    """The user's photos, and a grid: a row a prompt, a column a step; places for those still to
    come."""
    strip = "".join(
        f'<img src="{pictures.url("photos", story.run.name, file)}" alt="">'
        for file in photo_files[:8]
    )
    prompts = preview_prompts(settings)
    steps = _columns(story, settings)
    head = "".join(f"<th scope='col'>{when(step)}</th>" for step in steps)
    rows = "".join(
        f'<tr><th scope="row">{e(prompt)}</th>{"".join(_cell(story, s, index, prompt) for s in steps)}</tr>'
        for index, prompt in enumerate(prompts)
    )
    return (
        f'<section class="previews"><div class="title"><h2>{strings.PICTURES_TITLE}</h2>'
        f'<p class="hint">{strings.PICTURES_ABOUT}</p></div>'
        f'<div class="strip"><span>{strings.PICTURES_PHOTOS}</span><div>{strip}</div></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{strings.PICTURES_TITLE}">'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def preview_prompts(settings: Settings) -> list[str]:
    """One prompt a row of pictures."""
    return [p for p in settings.preview_prompts for _ in range(settings.preview_images)]


MOST_COLUMNS = 12  # steps shown side by side


def _columns(story: Story, settings: Settings) -> list[int]:
    """The steps that have or will have pictures, the latest ones of many; a stopped run promises no
    more."""
    shown = {step for step, _ in story.images}
    if story.state in ("running", "paused", "new"):
        every = settings.preview_every
        nexts = story.step // every * every + every if every else settings.steps
        shown |= {0, settings.steps, min(nexts, settings.steps)}
        if every and settings.steps // every < MOST_COLUMNS:
            shown |= set(range(0, settings.steps + 1, every))
    ordered = sorted(shown)
    return ordered if len(ordered) <= MOST_COLUMNS else [ordered[0], *ordered[1 - MOST_COLUMNS :]]


def _cell(story: Story, step: int, index: int, prompt: str) -> str:
    image = story.images.get((step, index))
    if image is None:
        return '<td><span class="blank"></span></td>'  # not made yet
    small, large = picture_urls(story, step, index)
    alt = strings.PICTURES_ALT.format(prompt=prompt, when=when(step))
    return (
        f'<td><button type="button" class="zoom" data-large="{e(large)}"><img src="{e(small)}" '
        f'alt="{e(alt)}"></button></td>'
    )


def picture_urls(story: Story, step: int, index: int) -> tuple[str, str]:
    """Addresses of a preview picture, small and large, not escaped."""
    image = story.images[step, index]
    file, version = image.path.removeprefix("previews/"), str(int(image.time))
    small, large = (
        pictures.url("previews", story.run.name, file, size, version, escape=False)
        for size in pictures.SIZES
    )
    return small, large


def when(step: int) -> str:
    return strings.PICTURES_STEP.format(step=step) if step else strings.PICTURES_BEFORE
