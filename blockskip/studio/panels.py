"""The widgets of the page, panel by panel; what they do is wired in page.py.

Each function adds one panel to the surrounding `gr.Blocks` and returns its widgets by name.
"""

from __future__ import annotations

import gradio as gr
from gradio.components.base import Component

from blockskip import config
from blockskip.studio import texts
from blockskip.studio.actions import DEMO

Widgets = dict[str, Component]
PHOTO_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff"]

# A click on a photo's × or on "Remove all" becomes an event with the name of what was pressed.
PHOTO_CLICKS = """
document.title = props.app;
element.addEventListener('click', event => {
  const button = event.target.closest('[data-remove], [data-clear]');
  if (button) trigger('click', {remove: button.dataset.remove || '', clear: !!button.dataset.clear});
});"""
# The newest column is scrolled into view. A press on a picture shows it large; any press closes it.
ZOOM = """
const newest = () => {
  const box = element.querySelector('.scroll'), shown = element.querySelectorAll('tbody tr:first-child .zoom');
  const last = shown[shown.length - 1];
  if (last) box.scrollLeft += last.getBoundingClientRect().right + 16 - box.getBoundingClientRect().right;
};
newest();
watch('value', newest);
element.addEventListener('click', event => {
  const button = event.target.closest('.zoom');
  if (!button) return;
  const dialog = document.createElement('dialog'), picture = document.createElement('img');
  picture.src = button.dataset.large;
  picture.alt = button.querySelector('img').alt;
  dialog.className = 'large';
  dialog.append(picture, Object.assign(document.createElement('p'), {textContent: picture.alt}));
  dialog.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => { dialog.remove(); button.focus(); });
  element.appendChild(dialog);
  dialog.showModal();
});"""
TITLE = """
const title = () => {
  const status = element.querySelector('[data-title]');
  if (status) document.title = status.dataset.title;
};
title();
watch('value', title);"""
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


def header() -> Widgets:
    """Name of the app, the list of trainings, and the way to a new one."""
    with gr.Row(elem_id="header"):
        _html(
            f'<div class="brand">{ICON}<div><h1>{texts.APP}</h1><p>{texts.TAGLINE}</p></div></div>',
            elem_id="brand",
            min_width=200,
        )
        chooser = gr.Dropdown(
            [],
            label=texts.CHOOSER,
            visible=False,
            elem_id="chooser",
            min_width=220,
            filterable=False,
            interactive=True,
            show_label=False,
        )
        new = gr.Button(texts.NEW, visible=False, elem_id="new", size="md", min_width=110, scale=0)
    return {"chooser": chooser, "new": new}


def setup() -> Widgets:
    """Photos on the left, questions and budget on the right."""
    with gr.Column(visible=False, elem_id="setup") as column, gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="card wide", min_width=320):
            ui = _photos()
        with gr.Column(elem_classes="side", min_width=320):
            with gr.Column(elem_classes="card"):
                ui |= _pet()
            with gr.Column(elem_classes="card"):
                ui |= _memory()
            ui |= _go()
    return {"setup": column, **ui}


def _photos() -> Widgets:
    _title(1, texts.PHOTOS_TITLE, texts.PHOTOS_ABOUT)
    files = gr.File(
        file_count="multiple",
        file_types=PHOTO_TYPES,
        label=texts.PHOTOS_DROP,
        elem_id="drop",
        height=150,
        show_label=False,
    )
    demo = gr.Button(texts.PHOTOS_DEMO, elem_id="demo", size="md")
    photos = _html(elem_id="photos", js=PHOTO_CLICKS, app=texts.APP)
    return {"files": files, "demo": demo, "photos": photos}


def _pet() -> Widgets:
    _title(2, texts.PET_TITLE)
    with gr.Row():
        kind = gr.Dropdown(
            list(texts.PET_KINDS),
            value="cat",
            label=texts.PET_KIND,
            allow_custom_value=True,
            elem_id="kind",
            min_width=150,
        )
        name = gr.Textbox(
            label=texts.PET_NAME,
            placeholder=texts.PET_NAME_PLACEHOLDER,
            max_lines=1,
            max_length=40,
            elem_id="name",
            min_width=150,
        )
    return {"kind": kind, "name": name, "wording": _html(elem_id="wording")}


def _memory() -> Widgets:
    row, preset = config.model_row(DEMO), config.training_preset(DEMO)
    _title(3, texts.MEMORY_TITLE)
    budget = gr.Radio(
        [(rung.title, rung.gib) for rung in config.rungs()],
        label=texts.MEMORY_BUDGET,
        elem_id="budget",
    )
    plan = _html(elem_id="plan")
    card = _html(elem_id="card")
    model = gr.Dropdown(
        [(row.title, row.name)],
        value=row.name,
        label=texts.MODEL,
        elem_id="model",
        filterable=False,
        interactive=True,
    )
    _html(f'<p class="hint">{texts.MODEL_ABOUT}</p>')
    return {"budget": budget, "plan": plan, "card": card, "model": model} | _advanced(preset)


def _advanced(preset: dict) -> Widgets:
    """What hardly anybody needs to change. preset: defaults from presets/training.toml."""
    fields = (
        ("steps", preset["steps"], texts.STEPS, texts.STEPS_INFO, 1, 20000),
        ("rank", preset["rank"], texts.RANK, texts.RANK_INFO, 1, 256),
        ("seed", 0, texts.SEED, texts.SEED_INFO, 0, 2**31 - 1),
    )
    with gr.Accordion(texts.ADVANCED, open=False, elem_id="advanced"), gr.Row():
        return {
            name: gr.Number(
                value,
                label=label,
                info=info,
                minimum=least,
                maximum=most,
                precision=0,
                elem_id=name,
                min_width=120,
            )
            for name, value, label, info, least, most in fields
        }


def _go() -> Widgets:
    with gr.Column(visible=False, elem_classes="note warning", elem_id="own") as own:
        _html(texts.OWN_PHOTOS)
        anyway = gr.Checkbox(False, label=texts.OWN_PHOTOS_ANYWAY, elem_id="anyway")
    train = gr.Button(texts.TRAIN, variant="primary", elem_id="train")
    return {"own": own, "anyway": anyway, "train": train, "busy": _html(elem_id="busy")}


def run_view() -> Widgets:
    """One training: how it goes, what came out, its pictures and its curves."""
    with gr.Column(visible=False, elem_id="run") as column:
        with gr.Column(elem_classes="card"):
            ui = {"status": _html(js=TITLE, elem_id="status")}
            ui["messages"] = _html(elem_id="messages", visible=False)
            ui["results"] = _html(elem_id="results", visible=False)
            with gr.Row(elem_id="controls"):
                for name, text in (
                    ("pause", texts.PAUSE),
                    ("stop", texts.STOP),
                    ("look", texts.LOOK),
                ):
                    ui[name] = _button(name, text)
                ui["resume"] = _button("resume", texts.RESUME, "primary")
                ui["lora"] = gr.DownloadButton(
                    texts.DOWNLOAD,
                    variant="primary",
                    size="md",
                    visible=False,
                    elem_id="lora",
                    scale=0,
                    min_width=200,
                )
                ui["workflow"] = gr.DownloadButton(
                    texts.DOWNLOAD_WORKFLOW,
                    size="md",
                    visible=False,
                    elem_id="workflow",
                    scale=0,
                    min_width=180,
                )
                ui["again"] = _button("again", texts.AGAIN)
            ui["notes"] = _html(elem_id="notes", visible=False)
        with gr.Column(elem_classes="card"):
            ui["previews"] = _html(js=ZOOM, elem_id="previews")
        with gr.Column(elem_classes="card"):
            ui["charts"] = _html(elem_id="charts")
    return {"run": column, **ui}


def hidden() -> Widgets:
    """What a tab remembers for itself: the run it shows and what it has already got. Never
    gr.State, which would hold a connection per tab open, and browsers allow only six."""
    return {
        "shown": gr.Textbox(visible="hidden", label="run", elem_id="shown"),
        "tokens": gr.Textbox(visible="hidden", label="tokens"),
        "spoken": _html(elem_id="spoken", js="element.setAttribute('role', 'status')"),
    }


def _html(value: str = "", js: str | None = None, **options: object) -> gr.HTML:
    """A part drawn by views.py: styled by studio.css alone, and deaf to clicks unless `js` says
    so."""
    return gr.HTML(value, js_on_load=js, apply_default_css=False, **options)


def _button(name: str, text: str, variant: str = "secondary") -> gr.Button:
    return gr.Button(
        text, variant=variant, size="md", visible=False, elem_id=name, scale=0, min_width=120
    )


def _title(number: int, title: str, about: str = "") -> None:
    below = f'<p class="hint">{about}</p>' if about else ""
    _html(f'<div class="title"><h2><span class="number">{number}</span>{title}</h2>{below}</div>')
