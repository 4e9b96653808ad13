"""A training in progress: status, stages, messages, pictures. Outside text is escaped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from blockskip.core import stages
from blockskip.core.events import Failed, Image, Stopped
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.memory.planning.oom_fallback import describe
from blockskip.studio import pictures, run_state, sheet_view, strings
from blockskip.studio.formatting import clock, count_photos, e, kind_in_words, note, time_left
from blockskip.studio.run_state import RunState, pending_command


def status(
    state: RunState,
    settings: Settings,
    name: str,
    info: Mapping[str, Any],
    num_photos: int,
    expected_s: float | None = None,
) -> str:
    """Return a run's name, state, facts and progress. data-title becomes the tab's title,
    data-run says which run is drawn. info: as in run.toml. expected_s: how long it will take, None if unknown."""
    share = percent(state)
    facts = strings.FACTS.format(
        kind=kind_in_words(settings.class_name),
        photos=count_photos(num_photos),
        steps=settings.steps,
        model=strings.translated(model_row(settings.model).title),
        budget=settings.budget_gib,
        started=clock(info.get("started", "")),
    )
    now, left = _activity(state, expected_s)
    working = " working" if state.status == "running" else ""
    title = f"{share} % · {name}" if working else f"{strings.STATES[state.status]} · {name}"
    return (
        f'<div class="status {state.status}" data-run="{e(state.run.name)}" '
        f'data-title="{e(title)}"><div class="head"><h2 tabindex="-1">{e(name)}</h2><span class="pill">{strings.STATES[state.status]}</span></div>'
        f'<p class="facts">{e(facts)}</p>{_stages(state)}'
        f'<progress class="bar{working}" max="100" value="{share}" aria-label="{e(now)}">{share} %</progress>'
        f'<div class="doing"><span>{e(now)}</span><span>{e(left)}</span></div></div>'
    )


def _stages(state: RunState) -> str:
    """Return the stages as a row of words, each marked done, now or next."""
    names = list(strings.STAGE_LINE)
    over = state.status == "done"
    last = max((names.index(s) for s in state.stages if s in names), default=-1)
    items = []
    for index, words in enumerate(strings.STAGE_LINE.values()):
        marker = "done" if over or index < last else "now" if index == last else "next"
        current = ' aria-current="step"' if marker == "now" and state.status == "running" else ""
        items.append(f'<li class="{marker}"{current}>{words}</li>')
    return f'<ol class="stages">{"".join(items)}</ol>'


def screen_reader_text(state: RunState, name: str) -> str:
    """Return the text for screen readers: state and stage, not every step."""
    stage = strings.STAGES.get(state.stage, strings.STARTING) if state.status == "running" else ""
    return e(f"{name}: {strings.STATES[state.status]}. {stage}")


def _activity(state: RunState, expected_s: float | None) -> tuple[str, str]:
    """Return (current activity, time left) for the line under the progress bar."""
    step = strings.STEP_OF.format(n=state.step, total=state.steps) if state.steps else ""
    if state.status != "running":
        return step, ""
    now = strings.STAGES.get(state.stage, strings.STARTING)
    if wanted := pending_command(state.run):
        words = strings.PENDING if state.step else strings.PENDING | strings.PENDING_EARLY
        return words.get(wanted, strings.STARTING).format(stage=now) + " …", step
    if state.stage == stages.TRAIN:
        now += f": {step}"
    elif state.stage_total > 1:
        now += f": {state.stage_done}/{state.stage_total}"
    return now, _time_left(state, expected_s)


def _time_left(state: RunState, expected_s: float | None) -> str:
    """Return the time left by the pace of the steps, before those by what was expected of the run,
    "" if it is unknown or already over."""
    since = time.time() - state.last_time if state.last_time else 0.0
    if state.eta_s >= 0 and state.step > 2:
        left = max(0.0, state.eta_s - since)
    elif expected_s is not None and not state.step:
        left = expected_s - state.active_s - since
    else:
        return ""
    return time_left(left) if left >= 0 else ""


def percent(state: RunState) -> int:
    """Return the progress of the whole run, 0 to 100. It does not fall while stages alternate."""
    if state.status == "done":
        return 100
    if state.step:
        return 8 + int(88 * state.step / max(1, state.steps))
    within = state.stage_done / state.stage_total if state.stage_total else 0
    first = {
        stages.PHOTOS: 1,
        stages.LOAD: 1,
        stages.TEXT: 2,
        stages.LATENTS: 2 + 4 * within,
        stages.PREVIEW: 7,
        stages.RESIDUALS: 7 + within,
    }
    return int(first.get(state.stage, 0))


def messages(state: RunState) -> str:
    """Return how the run ended, unless it finished or is running."""
    parts = []
    match state.end if state.status not in ("running", "waiting") else None:
        case Failed(title=title, remedy=remedy):
            parts.append(note(title, remedy, "error"))
        case Stopped(reason=reason, step=0):
            words = strings.PAUSED_BEFORE if reason == "paused" else strings.STOPPED_BEFORE
            parts.append(note("", words, "info"))
        case Stopped(reason="paused", step=step):
            parts.append(note("", strings.PAUSED_AT.format(step=step), "info"))
        case Stopped(step=step):
            parts.append(note("", strings.STOPPED_AT.format(step=step), "info"))
    if state.status == "crashed":
        remedy = strings.CRASHED_REMEDY.format(log=state.run.folder / "worker.log")
        killed = run_state.killed_by(state.run)
        title, remedy = (killed.title, killed.remedy) if killed else (strings.CRASHED, remedy)
        parts.append(note(title, remedy, "error"))
    return "".join(parts)


def eased(planned: Settings, settings: Settings) -> str:
    """Return what was changed when graphics memory ran out, and the way back."""
    changes = map(strings.translated, describe(planned, settings).split("; "))
    told = strings.EASED.format(changes="; ".join(changes))
    return note(told, strings.EASED_BACK.format(button=strings.AS_PLANNED), "info")


def notes(state: RunState) -> str:
    """Return the run's latest six notes: photos left out, failed pictures, warnings."""
    return "".join(
        note("", n.text, "warning" if n.level == "warning" else "info") for n in state.notes[-6:]
    )


def previews(state: RunState, settings: Settings, photo_files: Sequence[str]) -> str:
    """Return the user's photos and a grid of previews: prompts as rows, steps as columns.

    Previews still to come are blank cells.
    """
    strip = "".join(
        f'<img src="{pictures.url("photos", state.run.name, file)}" alt="">'
        for file in photo_files[:8]
    )
    sheet = sheet_view.buttons("steps", state.run.name) if state.images else ""
    prompts = preview_prompts(settings)
    columns = [(step, False) for step in _columns(state, settings)]
    columns += [(step, True) for step in _large_columns(state, settings)]
    head = "".join(f"<th scope='col'>{step_label(*column)}</th>" for column in columns)
    rows = "".join(
        f'<tr><th scope="row">{e(prompt)}</th>'
        f"{''.join(_cell(state, *column, index, prompt) for column in columns)}</tr>"
        for index, prompt in enumerate(prompts)
    )
    return (
        f'<section class="previews"><div class="title"><h2>{strings.PICTURES_TITLE}</h2>'
        f'<p class="hint">{strings.PICTURES_ABOUT}</p></div>'
        f'<div class="strip"><span>{strings.PICTURES_PHOTOS}</span><div tabindex="0" role="group" aria-label="{strings.PICTURES_PHOTOS}">{strip}</div></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{strings.PICTURES_TITLE}">'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>{sheet}</section>"
    )


def preview_prompts(settings: Settings) -> list[str]:
    """Return the prompt of each row of pictures."""
    return [p for p in settings.preview_prompts for _ in range(settings.preview_images)]


MOST_COLUMNS = 12  # steps shown side by side
_UNFINISHED = ("running", "waiting", "paused", "new")


def _columns(state: RunState, settings: Settings) -> list[int]:
    """Return at most MOST_COLUMNS steps that have or will have pictures: the first and the latest.

    A stopped run will have no more.
    """
    shown = {step for step, _ in state.images}
    if state.status in _UNFINISHED:
        every = settings.preview_every
        next_step = state.step // every * every + every if every else settings.steps
        shown |= {0, settings.steps, min(next_step, settings.steps)}
        if every and settings.steps // every < MOST_COLUMNS:
            shown |= set(range(0, settings.steps + 1, every))
    ordered = sorted(shown)
    return ordered if len(ordered) <= MOST_COLUMNS else [ordered[0], *ordered[1 - MOST_COLUMNS :]]


def _large_columns(state: RunState, settings: Settings) -> list[int]:
    """Return the step whose pictures are or will be made in full size, if any."""
    made = {step for step, _ in state.large}
    if settings.finishes_large and state.status in _UNFINISHED:
        made.add(settings.steps)
    return sorted(made)[-1:]


def _cell(state: RunState, step: int, in_full: bool, index: int, prompt: str) -> str:
    image = (state.large if in_full else state.images).get((step, index))
    if image is None:
        return '<td><span class="blank"></span></td>'  # not made yet
    small, large = _urls(state, image)
    alt = strings.PICTURES_ALT.format(prompt=prompt, when=step_label(step, in_full))
    return (
        f'<td><button type="button" class="zoom" data-large="{e(large)}"><img src="{e(small)}" '
        f'alt="{e(alt)}"></button></td>'
    )


def picture_urls(state: RunState, step: int, index: int) -> tuple[str, str]:
    """Return the URLs of a preview picture, small and large, not escaped."""
    return _urls(state, state.images[step, index])


def _urls(state: RunState, image: Image) -> tuple[str, str]:
    file, version = image.path.removeprefix("previews/"), str(int(image.time))
    small, large = (
        pictures.url("previews", state.run.name, file, size, version, escape=False)
        for size in pictures.SIZES
    )
    return small, large


def step_label(step: int, in_full: bool = False) -> str:
    words = strings.PICTURES_LARGE if in_full else strings.PICTURES_STEP
    return words.format(step=step) if step else strings.PICTURES_BEFORE
