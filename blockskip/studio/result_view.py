"""The results of a training: the file, before and after, likeness, own pictures."""

from __future__ import annotations

from collections.abc import Sequence

from blockskip.core.events import Done
from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Settings
from blockskip.models.lora.comfyui_workflow import has_workflow
from blockskip.runs.image_requests import ImageRequest
from blockskip.studio import pictures, sheet_view, strings
from blockskip.studio.formatting import action_button, duration, e, in_words, json_attribute
from blockskip.studio.run_state import RunState
from blockskip.studio.run_view import picture_urls, preview_prompts, step_label


def hero(
    state: RunState,
    settings: Settings,
    name: str,
    row: ModelRow,
    in_comfyui: bool,
    message: str = "",
) -> str:
    """Return that the LoRA is ready, and how to use it.

    in_comfyui: whether ComfyUI supports the model by itself. message: result of the last click.
    """
    exported = state.exported
    if isinstance(state.end, Done):
        peak = state.end.peak_vram_gib if state.end.peak_vram_gib > 0 else state.end.peak_rss_gib
        title = strings.DONE.format(name=name)
        about = strings.DONE_ABOUT.format(
            time=duration(state.active_s),
            steps=state.end.steps,
            peak=f"{strings.number(peak, '.1f')} GB",
        )
    else:
        title = strings.STOPPED_READY.format(name=name)
        step = exported.step if exported else state.step
        about = strings.STOPPED_READY_ABOUT.format(step=step, total=state.steps)
    usage = strings.HOW_TO if in_comfyui else strings.HOW_TO_NODE
    if has_workflow(row):
        usage += f" {strings.HOW_TO_WORKFLOW}"
    usage = strings.HOW_TO_DEMO if row.demo else usage
    words = {"trigger": e(settings.trigger), "kind": e(settings.class_name), "model": e(row.title)}
    usage = usage.format(**words)
    status = f'<p class="said" role="status">{e(message)}</p>' if message else ""
    folder = (
        f"<p>{action_button('show_folder', strings.SHOW_FOLDER, 'link', run=state.run.name)}</p>"
    )
    return f'<div class="result"><h2>{e(title)}</h2><p>{e(about)}</p><p class="how">{usage}</p>{status}{folder}</div>'


def card(row: ModelRow, words: str) -> str:
    """Return the model card, folded, with the base model's licence always visible.

    words: the card as plain text, with a blank line between paragraphs.
    """
    paragraphs = "".join(f"<p>{e(part)}</p>" for part in words.split("\n\n"))
    licence = strings.CARD_LICENCE.format(licence=row.licence)
    return (
        f'<p class="hint">{e(licence)}</p>'
        f'<details><summary>{strings.CARD_TITLE}</summary><div class="card-text">{paragraphs}</div></details>'
    )


def compare(
    state: RunState, settings: Settings, kept: int, steps: Sequence[int], likeness: str
) -> str:
    """Return the untrained model's picture over a step's, with a line to move between them.

    steps: those with a LoRA. kept: the step to download. likeness: of likeness_view.py.
    """
    all_prompts = preview_prompts(settings)
    prompts = list(dict.fromkeys(all_prompts))
    shown = [s for s in steps if (s, 0) in state.images]
    if not shown or (0, 0) not in state.images:
        return ""
    first = [all_prompts.index(prompt) for prompt in prompts]
    images = {
        step: [picture_urls(state, step, i)[1] if (step, i) in state.images else "" for i in first]
        for step in (0, *shown)
    }
    start = kept if kept in shown else shown[-1]
    radios = "".join(
        f'<label><input type="radio" name="step" value="{step}"{" checked" if step == start else ""}>'
        f"<span>{step_label(step)}</span></label>"
        for step in shown
    )
    options = "".join(f'<option value="{i}">{e(p)}</option>' for i, p in enumerate(prompts))
    words = strings.COMPARE
    return (
        f'<div class="title"><h2>{strings.COMPARE_TITLE}</h2><p class="hint">{strings.COMPARE_ABOUT}</p></div>'
        f'<div class="compare" data-images="{json_attribute(images)}" data-kept="{kept}" data-prompts="{json_attribute(first)}">'
        f'<div class="stage"><img class="after" src="{e(images[start][0])}" alt="{words["after"]}">'
        f'<img class="before" src="{e(images[0][0])}" alt="{words["before"]}">'
        f'<span class="tag left">{words["before"]}</span><span class="tag right">{words["after"]}</span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{words["slider"]}"></div>'
        f'<div class="choices"><label class="field">{words["prompt"]}<select name="prompt">{options}</select></label>'
        f'<fieldset class="steps"><legend>{words["step"]}</legend>{radios}</fieldset>'
        f'<p class="hint kept" role="status">{words["kept"]}</p>'
        f"{sheet_view.buttons('pair', state.run.name, start, first[0])}{likeness}</div></div>"
    )


def _presets(settings: Settings) -> str:
    """Return prompts to press, which then stand in the field of the prompt."""
    demo = model_row(settings.model).demo
    words = {"pet": f"{settings.trigger} {settings.class_name}"}
    buttons = "".join(
        f'<button type="button" class="press preset" data-prompt="{e(prompt.format(**words))}">{e(label)}</button>'
        for label, prompt in (strings.PRESETS_DEMO if demo else strings.PRESETS).items()
    )
    return f'<div class="presses presets"><span>{strings.PRESETS_TITLE}</span>{buttons}</div>'


def own_pictures(requests: Sequence[ImageRequest], run: str, settings: Settings) -> str:
    """Return prompts to press, and the pictures of the user's own prompts, each without and with
    the LoRA."""
    if not requests:
        return f'{_presets(settings)}<p class="hint">{strings.OWN_EMPTY}</p>'
    busy = any(request.state in ("waiting", "working") for request in requests)
    stop = action_button("paint_stop", strings.OWN_STOP) if busy else ""
    tiles = "".join(_request_card(request, run) for request in requests[:MAX_SHOWN])
    done = any(request.state == "done" for request in requests)
    sheet = sheet_view.buttons("own", run) if done else ""
    return f'{_presets(settings)}{stop}<ul class="painted">{tiles}</ul>{sheet}'


MAX_SHOWN = 24  # own pictures shown


def _request_card(request: ImageRequest, run: str) -> str:
    facts = strings.OWN_FACTS.format(
        step=request.step, strength=request.strength, seed=request.seed
    )
    delete = (
        f'<button type="button" class="remove" data-do="paint_delete" data-id="{e(request.id)}" '
        f'aria-label="{strings.OWN_DELETE}" title="{strings.OWN_DELETE}">×</button>'
    )
    if request.state == "done":
        pair = "".join(
            f'<figure><button type="button" class="zoom" data-large="{_image_url(run, request, kind, 1)}">'
            f'<img src="{_image_url(run, request, kind, 0)}" alt="{e(f"{request.prompt}, {words}")}" loading="lazy"></button>'
            f"<figcaption>{words}</figcaption></figure>"
            for kind, words in (
                ("base", strings.COMPARE["before"]),
                ("tuned", strings.COMPARE["after"]),
            )
        )
        body = f'<div class="pair">{pair}</div>'
    else:
        words = strings.OWN_STATES[request.state].format(n=request.n, total=request.total)
        why = in_words(request) if request.state == "failed" else ""
        body = f'<div class="pair empty"><p>{e(words)} {e(why)}</p></div>'
    return f'<li>{body}<p>{e(request.prompt)}</p><p class="hint">{e(facts)}</p>{delete}</li>'


def _image_url(run: str, request: ImageRequest, kind: str, size: int) -> str:
    return pictures.url(
        "pictures", run, f"{request.id}/{kind}.png", pictures.SIZES[size], request.id
    )
