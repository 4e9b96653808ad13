"""Models of strangers: pickles in every place where weights are looked for, programs beside them, and
LoRAs that would be loaded unasked. Each loader is tried, those of the libraries through ours."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from corpus.cases import Case, demand, numbered, refusal
from corpus.house import opened
from helpers import tiny_captioner, tiny_detector, tiny_dino
from security import traps
from security.watched_studio import LET_THROUGH

from blockskip.core import presets, safetensors_files
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.models.captioners import qwen3_vl
from blockskip.models.captioners.blip import open_blip
from blockskip.models.families.base import get_family
from blockskip.models.sources import lora_file, tools
from blockskip.models.sources.tensors import tensor_table

DEMO = ASSETS / "demo-model"
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
NAMES = (
    *("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.bin", "model.ckpt", "model.pt"),
    *("model.pth", "model.pkl", "model.npz", "flax_model.msgpack", "tf_model.h5"),
)
ENDINGS = (
    ".ckpt",
    ".pt",
    ".pth",
    ".bin",
    ".pkl",
    ".npy",
    ".npz",
    ".safetensors",
    ".sft",
    ".gguf",
    "",
)
Load = Callable[[Path], Any]


def cases(seed: int) -> list[Case]:
    """Return folders and files with traps."""
    return [
        *numbered("folder", "pickles in a model's folder", _pickled_folders()),
        *numbered("beside", "pickles beside good weights", _pickles_beside()),
        *numbered("file", "pickles as single files", _single_files()),
        *numbered("program", "programs beside a model", _programs()),
        *numbered("adapter", "LoRAs that lie in a model's folder", _adapters()),
    ]


# how a model's folder is read: name → loader
def _family_loaders() -> dict[str, Load]:
    row, family = presets.model_row("demo"), get_family("flux")
    return {
        "use": lambda folder: sources.select_model(row, [folder]),
        "load": lambda folder: family.load(folder, torch.float32),
        "open": lambda folder: _open(sources.Source(row, folder)),
    }


def _open(source: sources.Source) -> None:
    """Open a model as training does: the big parts without weights, which are read later."""
    get_family("flux").open(source, torch.float32)
    for part in PARTS:
        source.weights(part)


@functools.cache
def _tools() -> dict[str, tuple[Path, Load]]:
    """Return the tools' good folders, and what loads each."""
    from transformers import AutoModelForObjectDetection, Dinov2Model

    made = Path(tempfile.mkdtemp(prefix="security-tools-"))
    detector = made / "detector"
    detector.mkdir()
    for name, data in tiny_detector.published().items():
        (detector / name).write_bytes(data)
    captioner = tiny_captioner.save_tool(made / "captioner")
    return {
        "detector": (detector, lambda f: tools.load_tool(AutoModelForObjectDetection, f)),
        "likeness": (tiny_dino.write(made / "dino"), lambda f: tools.load_tool(Dinov2Model, f)),
        "captioner": (captioner, qwen3_vl.open_tool),
        "blip": (tiny_captioner.save_blip(made / "blip"), open_blip),
        "lab": (tiny_dino.write(made / "lab"), _lab),
    }


def _lab(folder: Path) -> Any:
    from blockskip.lab.evaluation.embedders import Dino

    return Dino(str(folder))


def _tried(load: Load, trapped: Callable[[Path], Path], refuse: bool) -> tuple[Callable, Callable]:
    """Return a case. trapped(folder): makes what is loaded; the canary is beside it."""

    def check(folder: Path) -> None:
        subject = trapped(folder)
        with opened(folder / "data"), traps.watched(folder / "canary"):
            error = refusal(lambda: load(subject))
        demand(error is not None or not refuse, f"{subject.name} was taken", LET_THROUGH)

    return lambda folder: folder, check


def _copy(folder: Path, model: Path = DEMO) -> Path:
    return Path(shutil.copytree(model, folder / "a model"))


def _pickled_folders() -> Iterator[tuple[Callable, Callable]]:
    for part in PARTS:
        for kind in ("pickle", "zip", "old"):
            for name in NAMES[:2] if part != "vae" or kind != "zip" else NAMES:
                for load in _family_loaders().values():
                    yield _tried(load, functools.partial(_pickled_part, part, kind, name), True)
    for model, load in _tools().values():
        for kind in ("pickle", "zip"):
            for name in NAMES:
                yield _tried(load, functools.partial(_pickled_tool, model, kind, name), True)


def _pickled_part(part: str, kind: str, name: str, folder: Path) -> Path:
    model = _copy(folder)
    for weights in (model / part).glob("*.safetensors"):
        weights.unlink()
    (model / part / name).write_bytes(traps.pickled(folder / "canary")[kind])
    return model


def _pickled_tool(model: Path, kind: str, name: str, folder: Path) -> Path:
    copy = _copy(folder, model)
    for weights in copy.glob("*.safetensors"):
        weights.unlink()
    (copy / name).write_bytes(traps.pickled(folder / "canary")[kind])
    return copy


def _pickles_beside() -> Iterator[tuple[Callable, Callable]]:
    """As many repositories have them; they must stay unread, and the model usable."""

    def everywhere(model: Path, folder: Path) -> Path:
        copy = _copy(folder, model)
        for place in [copy, *(path for path in copy.iterdir() if path.is_dir())]:
            for name in (*NAMES, "adapter_model.bin", "tokenizer.pkl", "scheduler.pkl"):
                (place / name).write_bytes(traps.pickled(folder / "canary")["zip"])
        return copy

    for load in _family_loaders().values():
        yield _tried(_works(load), functools.partial(everywhere, DEMO), False)
    for name, (model, load) in _tools().items():
        if name != "lab":  # made without all its files
            yield _tried(_works(load), functools.partial(everywhere, model), False)


def _works(load: Load) -> Load:
    def loaded(folder: Path) -> Any:
        error = refusal(lambda: load(folder))
        demand(error is None, f"a good model is refused: {error}")

    return loaded


def _single_files() -> Iterator[tuple[Callable, Callable]]:
    row = presets.model_row("demo")
    loads: dict[str, Load] = {
        "use": lambda path: sources.select_model(row, [path]),
        "table": lambda path: tensor_table([path]),
        "lora": lambda path: lora_file.read_lora(path, ["a"]),
        "header": lambda path: safetensors_files.read_header(path, "Fetch it."),
    }
    for kind in ("pickle", "zip", "old", "npy", "npz"):
        for ending in ENDINGS:
            for load in loads.values():

                def trapped(folder: Path, kind: str = kind, ending: str = ending) -> Path:
                    path = folder / f"model{ending}"
                    path.write_bytes(traps.pickled(folder / "canary")[kind])
                    return path

                yield _tried(load, trapped, True)


def _programs() -> Iterator[tuple[Callable, Callable]]:
    """A program in any place where a library could look for one, named by every config."""

    def planted(model: Path, folder: Path, unknown: bool = False) -> Path:
        copy = _copy(folder, model)
        for place in [copy, *(path for path in copy.iterdir() if path.is_dir())]:
            code = traps.plant_code(place, folder / "canary")
            for name in ("pipeline.py", "modeling.py", "tokenization.py", "__init__.py"):
                shutil.copy(code, place / name)
            for config in place.glob("*config*.json"):
                traps.point_to_code(config, unknown)
        return copy

    def index(change: Callable[[dict], None], folder: Path) -> Path:
        copy = planted(DEMO, folder)
        told = json.loads((copy / "model_index.json").read_text(encoding="utf-8"))
        change(told)
        (copy / "model_index.json").write_text(json.dumps(told), encoding="utf-8")
        return copy

    changes: tuple[Callable[[dict], Any], ...] = (
        lambda told: None,
        lambda told: told.update(_class_name=[traps.CODE, "Evil"]),
        lambda told: told.update(_class_name=["pipeline", "Evil"]),
        lambda told: told.update(custom_pipeline=traps.CODE),
        *(
            functools.partial(lambda part, told: told.update({part: [traps.CODE, "Evil"]}), part)
            for part in (*PARTS, "scheduler", "tokenizer", "tokenizer_2", "image_encoder")
        ),
        lambda told: told.update(scheduler=["os", "system"]),
        lambda told: told.update(vae=["subprocess", "Popen"]),
        lambda told: told.update(safety_checker=[traps.CODE, "Evil"]),
    )
    for change in changes:
        for load in _family_loaders().values():
            yield _tried(load, functools.partial(index, change), False)
    for model, load in _tools().values():
        for unknown in (False, True):
            yield _tried(load, functools.partial(planted, model, unknown=unknown), False)
    for load in _family_loaders().values():
        yield _tried(load, functools.partial(planted, DEMO, unknown=True), False)


def _adapters() -> Iterator[tuple[Callable, Callable]]:
    """transformers adds a LoRA that lies in a model's folder, from whatever file it is in."""

    def with_adapter(model: Path, places: tuple[str, ...], weights: str, folder: Path) -> Path:
        copy = _copy(folder, model)
        told = {
            "peft_type": "LORA",
            "base_model_name_or_path": "evil/base",
            "r": 4,
            "target_modules": ["q"],
        }
        for place in places:
            (copy / place / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
            (copy / place / weights).write_bytes(traps.pickled(folder / "canary")["zip"])
        return copy

    for weights in ("adapter_model.bin", "adapter_model.safetensors", "adapter_model.pt"):
        for part in PARTS[2:]:
            for name, load in _family_loaders().items():
                trapped = functools.partial(with_adapter, DEMO, (part,), weights)
                yield _tried(load, trapped, name != "use")
        for name, (model, load) in _tools().items():
            if name != "lab":
                yield _tried(load, functools.partial(with_adapter, model, ("",), weights), True)
