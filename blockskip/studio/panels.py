"""The widgets of the page, panel by panel. Their events are wired in page.py.

Each function adds one panel to the surrounding `gr.Blocks` and returns its widgets by name. Parts
that only display are `gr.HTML`, drawn by the view modules. A click inside one becomes an event with
the data attributes of the clicked element (assets/studio.js).
"""

from __future__ import annotations

from typing import Any, Literal

import gradio as gr

from blockskip.core.settings import PREVIEW_SPEEDS, ExecutionPlan
from blockskip.studio import news, photo_set_view, places, plans, strings

Widgets = dict[str, Any]  # components: each kind has its own events
BLOCKS = "".join(
    f'<rect x="{4 + 6.2 * x}" y="{9 + 6.2 * y}" width="5.4" height="5.4" rx="1.3"/>'
    for y in range(3)
    for x in range(4)
    if (x, y) not in ((0, 2), (3, 2))
)
ICON = (
    f'<svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><path d="M4 8.4V1.8L9.6 8.4zM28 8.4V1.8L22.4 8.4z"/>'
    f'{BLOCKS}<circle class="eye" cx="9.6" cy="14" r="1.9"/><circle class="eye" cx="22" cy="14" r="1.9"/></svg>'
)


def hidden() -> Widgets:
    """Add a tab's own state: its view (run, "" = setup, "*" = the list) and what it has received.

    The view follows the address (places.py). led: where an answer leads. Not gr.State, which keeps
    one connection per tab open; browsers allow only six. answered: number of the last request for
    updates that was answered. tick: asks for updates; assets/places.js presses it, unlike gr.Timer
    only when no answer is on its way.
    """
    return {
        "shown": gr.Textbox(places.NO_VIEW, visible="hidden", label="run", elem_id="shown"),
        "led": gr.Textbox(places.NO_VIEW, visible="hidden", label="led", elem_id="led"),
        "problems": gr.Textbox("[]", visible="hidden", label="problems"),
        "tokens": gr.Textbox(visible="hidden", label="tokens", elem_id="tokens"),
        "answered": gr.Textbox(visible="hidden", label="answered", elem_id="answered"),
        "model": gr.Textbox(visible="hidden", label="model", elem_id="model"),
        "sent": gr.Textbox(visible="hidden", label="answers sent"),
        "tick": gr.Button("", visible="hidden", elem_id="tick"),
        "news": html(elem_id="news", js="news"),
        "spoken": html(elem_id="spoken", js="element.setAttribute('role', 'status')"),
    }


def header() -> Widgets:
    """Add the name of the app, the four steps, and the link to other trainings."""
    with gr.Row(elem_id="header"):
        html(
            f'<div class="brand">{ICON}<div><h1>{strings.APP}</h1><p>{strings.TAGLINE}</p></div></div>',
            elem_id="brand",
            js=f"document.documentElement.lang = '{strings.tag()}'",
            min_width=200,
        )
        nav = html(elem_id="nav", js="nav", min_width=200)
    html(f'<p class="note warning" role="status" hidden>{strings.BEHIND}</p>', elem_id="behind")
    html(f'<p class="hint center" tabindex="-1">{strings.OPENING_PLACE}</p>', elem_id="opening")
    return {"nav": nav, "list": html(elem_id="list", js="presses")}


def setup() -> Widgets:
    """Add photos, the two questions, the model, the budget and Train.

    The list, this column and that of a run are always there. studio.css shows the one of the tab's
    view: Gradio loses updates of parts that it is about to build.
    """
    with gr.Column(elem_id="setup"):
        with gr.Row(elem_classes="two"):
            with gr.Column(elem_classes="card wide", min_width=320):
                ui = _photos()
            with gr.Column(elem_classes="side", min_width=320):
                with gr.Column(elem_classes="card"):
                    ui |= _pet()
                with gr.Column(elem_classes="card"):
                    _title("", strings.MODEL_TITLE)
                    ui["models"] = html(elem_id="models", js="models")
        with gr.Column(elem_classes="card"):
            ui |= _budget()
        ui |= _train_button()
    return ui


def _photos() -> Widgets:
    _title(1, strings.PHOTOS_TITLE, strings.PHOTOS_ABOUT)
    files = gr.File(file_count="multiple", label=strings.PHOTOS_LABEL, visible=False)  # programs'
    html(photo_set_view.drop_zone(), elem_id="drop", js="drop")
    demo = gr.Button(strings.PHOTOS_DEMO, elem_id="demo", size="md")
    shown = {"photos": html(elem_id="photos", js="photos")}
    html(elem_id="coming")  # filled by assets/photos.js
    shown["describe"] = html(elem_id="describe", js="models")
    return {"files": files, "demo": demo, **shown}


def _pet() -> Widgets:
    _title("", strings.PET_TITLE)
    with gr.Row():
        kind = gr.Dropdown(
            list(zip(strings.PET_KINDS_SHOWN, strings.PET_KINDS, strict=True)),
            value="cat",
            label=strings.PET_KIND,
            allow_custom_value=True,
            elem_id="kind",
            min_width=150,
        )
        name = gr.Textbox(
            label=strings.PET_NAME,
            placeholder=strings.PET_NAME_EXAMPLE,
            max_lines=1,
            max_length=40,
            elem_id="name",
            min_width=150,
        )
    return {"kind": kind, "name": name, "wording": html(elem_id="wording")}


def _budget() -> Widgets:
    _title(2, strings.BUDGET_TITLE, strings.BUDGET_ABOUT)
    low, high = plans.budget_range()
    budget = gr.Slider(
        low,
        high,
        value=plans.default_budget(),
        step=plans.STEP_GIB,
        label=strings.BUDGET_LABEL,
        elem_id="budget",
        buttons=[],
    )
    marks = html(elem_id="marks", js="presses")
    plan = html(elem_id="plan", js="presses")
    return {"budget": budget, "marks": marks, "plan": plan} | _advanced()


def _advanced() -> Widgets:
    """Add settings that few users need. An empty field means the studio's own choice."""
    fields = (
        ("steps", strings.STEPS, strings.STEPS_INFO, 1, 20000),
        ("rank", strings.RANK, strings.RANK_INFO, 1, 256),
        ("seed", strings.SEED, strings.SEED_INFO, 0, 2**31 - 1),
    )
    with gr.Accordion(strings.ADVANCED, open=False, elem_id="advanced"):
        with gr.Row():
            numbers = {
                name: gr.Number(
                    None,
                    label=label,
                    info=info,
                    placeholder=strings.AUTOMATIC,
                    minimum=least,
                    maximum=most,
                    precision=0,
                    elem_id=name,
                    min_width=120,
                )
                for name, label, info, least, most in fields
            }
        speed = gr.Radio(
            [(strings.SPEEDS[name], name) for name in PREVIEW_SPEEDS],
            value=ExecutionPlan.preview_speed,
            label=strings.SPEED,
            info=strings.SPEED_INFO,
            elem_id="speed",
        )
    return numbers | {"speed": speed}


def _train_button() -> Widgets:
    with gr.Column(elem_classes="note warning", elem_id="own"):  # without words not shown
        own_words = html(elem_id="own_words", js="presses")
        anyway = gr.Checkbox(False, label=strings.OWN_PHOTOS_ANYWAY, elem_id="anyway")
    train = gr.Button(strings.TRAIN, variant="primary", elem_id="train")
    return {
        "own_words": own_words,
        "anyway": anyway,
        "train": train,
        "busy": html(elem_id="busy", js="presses"),
    }


def run_view() -> Widgets:
    """Add one training: its status, results, pictures and curves."""
    with gr.Column(elem_id="run"):
        with gr.Column(elem_classes="card"):
            ui: Widgets = {"status": html(js="title", elem_id="status")}
            ui["messages"] = html(js="presses", elem_id="messages", visible=False)
            with gr.Row(elem_id="controls"):
                ui["pause"] = _button("pause", strings.PAUSE)
                ui["resume"] = _button("resume", strings.RESUME, "primary")
                ui["as_planned"] = _button("as_planned", strings.AS_PLANNED)
                ui["stop"] = _button("stop", strings.STOP)
                ui["look"] = _button("look", strings.LOOK)
                ui["delete"] = html(elem_id="delete", js="presses", min_width=0)
            html(news.switch(), elem_id="tell", js="tellSwitch")
            ui["notes"] = html(elem_id="notes", visible=False)
        ui |= _results()
        with gr.Column(elem_classes="card"):
            ui["previews"] = html(js="zoom", elem_id="previews")
        with gr.Column(elem_classes="card"):
            ui["charts"] = html(elem_id="charts")
    return ui


def _results() -> Widgets:
    """Add the results: download, compare, own pictures, continue."""
    with gr.Column(elem_id="results"):  # studio.css shows it with its hero
        with gr.Column(elem_classes="card"):
            ui: Widgets = {"hero": html(elem_id="hero", js="presses")}
            ui |= _files()
            ui["card"] = html(elem_id="model_card", js="keep")
        with gr.Column(elem_classes="card"):
            ui["compare"] = html(elem_id="compare", js="compare")
        with gr.Column(elem_classes="card"):
            ui |= _own_pictures()
        with gr.Column(elem_classes="card"):
            ui |= _extend_training()
    return ui


def _files() -> Widgets:
    """Add the LoRA's file format and download, the copy to ComfyUI and the workflow."""
    with gr.Row(elem_id="export"):
        return {
            "format": gr.Dropdown(
                [(words, name) for name, words in strings.FORMATS.items()],
                value="comfyui",
                label=strings.FORMAT,
                elem_id="format",
                filterable=False,
                interactive=True,
                min_width=190,
                scale=0,
            ),
            "lora": gr.DownloadButton(
                strings.DOWNLOAD,
                variant="primary",
                size="md",
                elem_id="lora",
                scale=0,
                min_width=190,
            ),
            "make": _button("make", strings.MAKE, "primary"),
            "to_comfyui": _button("to_comfyui", strings.TO_COMFYUI),
            "workflow": gr.DownloadButton(
                strings.DOWNLOAD_WORKFLOW,
                size="md",
                visible=False,
                elem_id="workflow",
                scale=0,
                min_width=170,
            ),
        }


def _own_pictures() -> Widgets:
    html(
        f'<div class="title"><h2>{strings.OWN_TITLE}</h2><p class="hint">{strings.OWN_ABOUT}</p></div>'
    )
    prompt = gr.Textbox(
        label=strings.OWN_PROMPT, max_lines=2, max_length=400, elem_id="prompt", lines=1
    )
    with gr.Row(elem_id="paint_row"):
        strength = gr.Slider(
            0,
            1.5,
            value=1.0,
            step=0.05,
            label=strings.STRENGTH,
            info=strings.STRENGTH_INFO,
            elem_id="strength",
            min_width=220,
            buttons=[],
        )
        paint_seed = gr.Number(
            None,
            label=strings.SEED,
            info=strings.PAINT_SEED_INFO,
            placeholder=strings.RANDOM,
            minimum=0,
            maximum=2**31 - 1,
            precision=0,
            elem_id="paint_seed",
            min_width=150,
        )
        paint = gr.Button(
            strings.PAINT, variant="primary", size="md", elem_id="paint", min_width=150
        )
    return {
        "prompt": prompt,
        "strength": strength,
        "paint_seed": paint_seed,
        "paint": paint,
        "pictures": html(elem_id="pictures", js="pictures"),
    }


def _extend_training() -> Widgets:
    html(f'<div class="title"><h2>{strings.GO_ON_TITLE}</h2></div>')
    with gr.Row(elem_id="go_on"):
        more = gr.Number(
            label=strings.MORE_STEPS,
            info=strings.MORE_STEPS_INFO,
            minimum=1,
            maximum=100000,
            precision=0,
            elem_id="more",
            min_width=170,
        )
        extend = gr.Button(strings.EXTEND, size="md", elem_id="extend", min_width=150)
        again = gr.Button(strings.AGAIN, size="md", elem_id="again", min_width=150)
    return {"more": more, "extend": extend, "again": again}


def html(value: str = "", js: str | None = None, **options: Any) -> gr.HTML:
    """Add a part drawn by a view, styled by studio.css alone. Clicks need `js`.

    js: the name of a function in studio.js, or a statement.
    """
    if js and js.isidentifier():
        js = f"blockskip.{js}({{element, trigger, watch, props}})"
    return gr.HTML(value, js_on_load=js, apply_default_css=False, **options)


def _button(
    name: str, text: str, variant: Literal["primary", "secondary"] = "secondary"
) -> gr.Button:
    return gr.Button(
        text, variant=variant, size="md", visible=False, elem_id=name, scale=0, min_width=120
    )


def _title(number: int | str, title: str, about: str = "") -> None:
    mark = f'<span class="number">{number}</span>' if number else ""
    below = f'<p class="hint">{about}</p>' if about else ""
    html(f'<div class="title"><h2>{mark}{title}</h2>{below}</div>')
