"""Every parser of the program as a function of bytes. Only a UserError may leave one,
or the ValueError that the parser documents."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from corpus.fuzz_seeds import pictures

from blockskip.core import events, presets, safetensors_files
from blockskip.core.errors import Unexpected, UserError
from blockskip.core.settings import Settings, settings_from_dict
from blockskip.data import photos, subject_boxes
from blockskip.data.caption_files import Captions
from blockskip.models.sources import (
    comfyui,
    comfyui_paths,
    download_process,
    gguf,
    hub,
    hub_api,
    registry,
)
from blockskip.models.sources.tensors import part_files, tensor_table
from blockskip.runs import checkpoints, control, image_requests, likeness
from blockskip.runs.run import Run, list_runs, run_folder

Target = Callable[[bytes, Path], object]
TARGETS: dict[str, Target] = {}


def target(*documented: type[Exception]) -> Callable[[Target], Target]:
    """Register a parser. documented: errors that its docstring names, besides UserError."""

    def register(parse: Target) -> Target:
        @functools.wraps(parse)
        def run(data: bytes, folder: Path) -> None:
            with contextlib.suppress(*documented):
                try:
                    parse(data, folder)
                except Unexpected:
                    raise
                except UserError:
                    pass

        TARGETS[parse.__name__] = run
        return run

    return register


def _written(data: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@target()
def safetensors_header(data: bytes, folder: Path) -> object:
    from blockskip.models.sources.tensor_reader import Reader

    path = _written(data, folder / "a.safetensors")
    safetensors_files.read_metadata(path)
    tensor_table([path])
    return [Reader().tensor(path, key) for key in Reader().header(path)]


@target()
def lora_metadata(data: bytes, folder: Path) -> object:
    path = _written(data, folder / "lora.safetensors")
    return safetensors_files.read_metadata(path)


@target()
def gguf_header(data: bytes, folder: Path) -> object:
    return gguf.read_table(_written(data, folder / "a.gguf"))


@target(ValueError)
def events_line(data: bytes, folder: Path) -> object:
    return events.from_json(data)


@target()
def event_log(data: bytes, folder: Path) -> object:
    run = Run(folder)
    _written(data, run.events_path)
    return run.events(), run.state()


@target()
def run_toml(data: bytes, folder: Path) -> object:
    _written(data, folder / "run.toml")
    run = Run(folder)
    return run.info(), run.settings(), run.state()


@target()
def settings_dict(data: bytes, folder: Path) -> object:
    value = _json(data)
    return settings_from_dict(value) if isinstance(value, dict) else None


@target()
def control_json(data: bytes, folder: Path) -> object:
    path = _written(data, folder / "control.json")
    with contextlib.suppress(UserError):
        control.send(path, "preview", ["a cat"])
    return control.take(path, control.COMMANDS)


@target()
def image_request(data: bytes, folder: Path) -> object:
    _written(data, folder / "pictures" / "1234567890123-abcd" / "request.json")
    return image_requests.all_requests(Run(folder)), image_requests.pending(Run(folder))


@target()
def likeness_json(data: bytes, folder: Path) -> object:
    if not (folder / "run.toml").exists():
        Run(folder).write_info({"settings": {"model": "demo"}, "format": 2})
        _written(b"x", folder / "adapters" / "step-00001.safetensors")
    _written(data, folder / "likeness.json")
    return likeness.read(Run(folder))


@target()
def file_names(data: bytes, folder: Path) -> object:
    name = data.decode("utf-8", "replace").replace("/", "_").replace("\0", "")[:100] or "x"
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    with contextlib.suppress(OSError):
        _written(b"x", folder / "checkpoints" / f"step-{name}.safetensors")
    return checkpoints.saved_steps(Run(folder)), Run(folder).step()


@target()
def caption_file(data: bytes, folder: Path) -> object:
    captions = Captions([_written(data, folder / "a.txt")])
    text = captions.of(folder / "a.png")
    assert isinstance(text, str) and not (text and captions.problems)
    return text


@target()
def metadata_jsonl(data: bytes, folder: Path) -> object:
    if not (folder / "a.png").exists():
        (folder / "a.png").write_bytes(pictures()[0])
    _written(data, folder / "metadata.jsonl")
    return photos.read_photos(photos.find_photos([folder]), "a photo of sks cat")


@target()
def box_json(data: bytes, folder: Path) -> object:
    return subject_boxes.read_box(_written(data, folder / "a.box.json").with_name("a.png"))


@target()
def photo_file(data: bytes, folder: Path) -> object:
    return photos.open_photo(_written(data, folder / "a.jpg"))


@target()
def photo_profile(data: bytes, folder: Path) -> object:
    from corpus.drawn import encoded, picture

    image = encoded(picture(), "PNG", icc_profile=data[4:] or b"x", exif=b"Exif\0\0" + data)
    return photos.open_photo(_written(image, folder / "a.png"))


@target()
def extra_model_paths(data: bytes, folder: Path) -> object:
    (folder / "models").mkdir(exist_ok=True)
    _written(data, folder / "extra_model_paths.yaml")
    return comfyui_paths.lora_folders(folder), list(comfyui.weight_files(folder))


@target()
def shard_index(data: bytes, folder: Path) -> object:
    _written(data, folder / "model.safetensors.index.json")
    return part_files(folder)


@target()
def models_json(data: bytes, folder: Path) -> object:
    _written(data, _data() / "models.json")
    return registry.selections(), registry.find_model(presets.model_row("flux-dev"))


@target()
def download_status(data: bytes, folder: Path) -> object:
    row = presets.model_row("flux2-klein-4b")
    _written(data, _data() / "downloads" / f"{row.name}.json")
    return download_process.progress(row)


@target()
def download_manifest(data: bytes, folder: Path) -> object:
    row = presets.model_row("flux2-klein-4b")
    _written(data, hub.download_folder(row) / "fetched.json")
    return hub.missing_bytes(row), hub.downloaded(row)


@target()
def hub_answer(data: bytes, folder: Path) -> object:
    from huggingface_hub import HfApi, hf_api

    value = _json(data)
    if not isinstance(value, dict):
        return None
    try:
        info = hf_api.ModelInfo(**({"id": "a/b", "tags": []} | value))
    except Exception:  # huggingface_hub's own parser: its errors are caught where it is asked
        return None
    before, HfApi.model_info = HfApi.model_info, lambda *_, **__: info
    try:
        return hub_api.list_files(presets.model_row("flux2-klein-4b"))
    finally:
        HfApi.model_info = before


@target()
def draft_json(data: bytes, folder: Path) -> object:
    from blockskip.studio import actions, draft

    _written(data, _data() / "draft" / "draft.json")
    return draft.load(), actions.current_answers()


@target()
def run_preferences_json(data: bytes, folder: Path) -> object:
    from blockskip.studio import run_preferences

    run = Run(folder)
    if not (folder / "run.toml").exists():
        run.write_info({"settings": {"model": "demo"}, "format": 2})
    _written(data, folder / "studio.json")
    name = run_preferences.pet_name(run)
    assert isinstance(name, str), name
    return run_preferences.load(run)


@target()
def click_payload(data: bytes, folder: Path) -> object:
    import gradio as gr

    from blockskip.studio import actions, click_handlers, page

    value = _json(data)
    quiet = set(click_handlers.CLICK_HANDLERS) - {
        *("use_comfyui", "fetch", "token", "move_data", "server_look", "server_allow"),
        *("pick_comfyui", "pick_data", "show_folder"),
    }
    if not isinstance(value, dict) or str(value.get("do")) not in quiet:
        return None
    try:
        return actions.user_errors(page.on_click)("", "", SimpleNamespace(_data=value))
    except gr.Error as error:
        assert error.__cause__ is None or isinstance(error.__cause__, UserError), error.__cause__
    return None


@target(ValueError)
def command_values(data: bytes, folder: Path) -> object:
    import typer

    from blockskip.cli import options

    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(typer.BadParameter):
        options.parse_skip(text)
    with contextlib.suppress(typer.BadParameter):
        options.parse_numbers("--x", text, int)
    with contextlib.suppress(UserError):
        run_folder(text)
    return Settings.of(trigger=text, class_name=text, caption=text)


@target()
def model_names(data: bytes, folder: Path) -> object:
    return presets.model_row(data.decode("utf-8", "replace")), list_runs()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _data() -> Path:
    from blockskip.core.paths import data_dir

    return data_dir()
