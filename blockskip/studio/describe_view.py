"""Captions by a model: who writes them, what that costs, and how far it is."""

from __future__ import annotations

from pathlib import Path

from blockskip.data.descriptions import INSTRUCTION
from blockskip.models.captioners.found import TOOL, Captioner
from blockskip.models.captioners.jobs import STOPPED, Progress
from blockskip.studio import strings, tool_view
from blockskip.studio.describe import SERVER, Describing
from blockskip.studio.draft import Draft
from blockskip.studio.formatting import action_button, e, note, time_left
from blockskip.studio.model_view import text_field


def captions(now: Draft, state: Describing) -> str:
    """Return the part below the photos, "" without photos."""
    if not now.photos:
        return ""
    count = sum(bool(photo.caption) for photo in now.photos)
    about = strings.DESCRIBE_ABOUT.format(count=count, total=len(now.photos))
    running = state.progress is not None and state.progress.running
    parts = (
        f"<h3>{strings.DESCRIBE_TITLE}</h3>",
        f'<p class="hint">{e(about)}</p>',
        _problem(now, state.progress),
        _progress(state.progress) if state.progress and running else _start(now, state, count),
        _choice(state),
        tool_view.offer(TOOL, _offer_title(state)),
        _server(state),
        _instruction(state),
    )
    return f'<div class="describe">{"".join(parts)}</div>'


def _offer_title(state: Describing) -> str:
    return strings.DESCRIBE_OTHER_OFFER if state.list_captioners else strings.DESCRIBE_OFFER


def _problem(now: Draft, progress: Progress | None) -> str:
    """Return why describing ended early, unless the photos have their captions by now."""
    if progress is None or progress.problem is None or progress.problem.title == STOPPED:
        return ""
    asked = {Path(path).name for path in progress.job.photos}
    if not any(photo.file in asked and not photo.caption for photo in now.photos):
        return ""
    return note(progress.problem.title, progress.problem.remedy, "warning")


def _progress(progress: Progress) -> str:
    total, done = len(progress.job.photos), len(progress.lines)
    left = f" · {time_left(progress.eta_s)}" if progress.eta_s > 0 else ""
    words = strings.DESCRIBING.format(n=done, total=total, left=left)
    if not done and progress.job.server is None:
        words = strings.DESCRIBE_LOADING
    return (
        f'<p class="hint" role="status">{e(words)}</p><progress class="bar working" max="{total}" '
        f'value="{done}" aria-label="{e(words)}"></progress>'
        f"{action_button('describe_stop', strings.DESCRIBE_STOP)}"
    )


def _start(now: Draft, state: Describing, count: int) -> str:
    """Return the button that begins, and what it will use."""
    if not state.ready:
        return ""
    if count == len(now.photos):
        return f'<p class="hint">{strings.DESCRIBE_DONE}</p>'
    if state.training:
        button = action_button("describe_anyway", strings.DESCRIBE_ANYWAY, "link")
        return f'<p class="hint">{strings.DESCRIBE_TRAINING}</p>{button}'
    return f'<p class="hint">{e(_who(state))}</p>{action_button("describe", strings.DESCRIBE_ALL)}'


def _who(state: Describing) -> str:
    if state.captioner is None:
        server = state.choices.server
        return strings.DESCRIBE_BY_SERVER.format(model=server.model, address=server.address)
    return strings.DESCRIBE_BY.format(
        title=strings.translated(state.captioner.title), gib=state.captioner.ram_gib()
    )


def _choice(state: Describing) -> str:
    """Return the captioners to choose from, if there are several."""
    server = state.choices.server
    rows = [_row(one, state) for one in state.list_captioners]
    if server.address and server.model:
        words = strings.SERVER_ROW.format(model=server.model, address=server.address)
        rows.append(_pick(SERVER, words, state.choices.captioner == SERVER))
    if len(rows) < 2:
        return ""
    group = f'<div role="radiogroup" aria-label="{strings.DESCRIBE_WITH}">{"".join(rows)}</div>'
    return f"<details><summary>{strings.DESCRIBE_WITH}</summary>{group}</details>"


def _row(one: Captioner, state: Describing) -> str:
    return _pick(
        one.name,
        strings.translated(one.title),
        state.captioner is not None and state.captioner.name == one.name,
    )


def _pick(name: str, title: str, chosen: bool) -> str:
    return (
        f'<div class="model{" chosen" if chosen else ""}"><button type="button" role="radio" '
        f'aria-checked="{str(chosen).lower()}" class="press pick" data-do="describe_with" '
        f'data-value="{e(name)}"><b>{e(title)}</b></button></div>'
    )


def _server(state: Describing) -> str:
    """Return the address of a server, and its models once they were asked for."""
    server = state.choices.server
    parts = [
        f'<p class="hint">{strings.SERVER_ABOUT}</p>',
        text_field("server", strings.SERVER_ADDRESS, value=server.address),
        action_button("server_look", strings.SERVER_LOOK, field="server", slow=1),
        f'<p class="hint warn" role="status">{e(state.message)}</p>' if state.message else "",
    ]
    if state.allow:
        words = strings.SERVER_ALLOW.format(address=state.allow)
        parts.append(action_button("server_allow", words, "danger", value=state.allow))
    if state.models:
        names = [_model(model, model == server.model) for model in state.models]
        parts.append(f'<p class="hint">{strings.SERVER_MODELS}</p>')
        parts.append(f'<p class="presses">{"".join(names)}</p>')
    return f"<details><summary>{strings.SERVER_TITLE}</summary>{''.join(parts)}</details>"


def _model(name: str, chosen: bool) -> str:
    return action_button("server_model", name, "primary" if chosen else "", model=name)


def _instruction(state: Describing) -> str:
    text = state.choices.instruction or INSTRUCTION
    usual = ""
    if state.choices.instruction:
        usual = action_button("describe_words", strings.DESCRIBE_WORDS_USUAL, "link", reset="words")
    return (
        f"<details><summary>{strings.DESCRIBE_WORDS_TITLE}</summary>"
        f'<label class="field">{e(strings.DESCRIBE_WORDS)}<textarea name="words" rows="6" '
        f'maxlength="2000">{e(text)}</textarea></label>'
        f"{action_button('describe_words', strings.DESCRIBE_WORDS_SAVE, field='words')}{usual}"
        "</details>"
    )
