"""A worker that keeps the model of its last run open: the next run's tensors are those of a cold
start, whatever the two have in common."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from blockskip.core import presets
from blockskip.core.events import Done
from blockskip.core.paths import ROOT
from blockskip.core.units import GIB
from blockskip.data.photos import find_photos
from blockskip.memory.planning.planner import choose_settings
from blockskip.memory.planning.requirements import StageMemory
from blockskip.runs import kept_model, worker_process
from blockskip.runs.kept_model import KeptModel
from blockskip.runs.run import Run, create_run
from blockskip.sampling import loaded_model

DEMO = ROOT / "assets/demo-model"
DOG, CAT = sorted((ROOT / "assets/demo-photos").glob("*/"))
# first run, second run: settings that differ
PAIRS = {
    "another pet": ({}, {}),
    "other blocks, LoRA and loss": (
        {"skip": "0,0"},
        {"skip": "2,1", "rank": 4, "targets": "attention+ff", "prior": 0.3, "flip": True},
    ),
    "longer captions in 8 bits": (
        {"precision": "int8", "arithmetic": "int8", "text_tokens": 20},
        {"precision": "int8", "arithmetic": "int8", "text_tokens": 24},
    ),
    "streamed": ({}, {"middle": "streamed", "ram_weights_gib": 0.0}),
}


def new_run(name: str, pet, **changes) -> Run:
    plan = {key: changes.pop(key) for key in ("middle", "ram_weights_gib") if key in changes}
    settings = choose_settings(
        trigger=name[:3], class_name=pet.name.split("-")[-1], steps=2, preview_every=0,
        preview_steps=1, device="cpu", **changes
    ).changed(**plan, preview_px=32, preview_prompts=(f"{name[:3]} in the snow", "a cat"))  # fmt: skip
    return create_run(settings, find_photos([pet])[:2], name)


def train(run: Run, kept: KeptModel | None = None) -> Run:
    assert worker_process.main(str(run.folder), None, kept) == 0, run.events()[0][-1]
    return run


def made(run: Run) -> list[bytes]:
    """The pictures of a run, and its crops."""
    paths = [*sorted(run.previews_dir.rglob("*.png")), run.cache_dir / "latents.safetensors"]
    return [path.read_bytes() for path in paths[:-1]] + [
        load_file(paths[-1])["latents"].numpy().tobytes()
    ]


def assert_same(one: Run, other: Run):
    ours, theirs = load_file(one.export_path()), load_file(other.export_path())
    assert ours.keys() == theirs.keys() and made(one) == made(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(theirs[name].any() for name in theirs if "lora_B" in name or "lora_up" in name)


@pytest.mark.parametrize(
    "pair",
    [pytest.param(p, marks=pytest.mark.long) if p == "streamed" else p for p in PAIRS],
)
def test_tensors_and_pictures_are_those_of_a_cold_start(pair):
    first, second = PAIRS[pair]
    kept = KeptModel()
    train(new_run("one", CAT, **first), kept)
    assert kept.key
    model = kept._model
    warm = train(new_run("two warm", DOG, **second), kept)
    assert kept._model is model, "it was opened once"
    assert_same(warm, train(new_run("two cold", DOG, **second)))


def test_on_a_sibling_too(tmp_path, monkeypatch):
    folder = tmp_path / "distilled ü"
    shutil.copytree(DEMO, folder)
    row = {"name": "demo-fast", "title": "Fast demo", "source": str(folder), "steps": 3}
    row |= {"guidance": 1.0, "shift": 1.0, "licence": "Apache-2.0", "licence_url": ""}
    monkeypatch.setitem(presets.read_preset("models")["demo"], "sibling", row)
    kept, on_it = KeptModel(), {"preview_model": "demo-fast"}
    train(new_run("one", CAT, **on_it), kept)
    model = kept._model
    warm = train(new_run("two warm", DOG, **on_it), kept)
    assert kept._model is model
    assert_same(warm, train(new_run("two cold", DOG, **on_it)))
    (folder / "transformer/config.json").touch()
    assert kept.take(warm.settings()) is None, "its files were written meanwhile"


def test_what_both_say_is_encoded_once(monkeypatch):
    asked, encode = [], loaded_model.encode.encode_captions

    def counting(family, pipe, captions, *args):
        asked.append(list(captions))
        return encode(family, pipe, captions, *args)

    monkeypatch.setattr(loaded_model.encode, "encode_captions", counting)
    kept = KeptModel()
    train(new_run("one", CAT), kept)
    train(new_run("two", CAT), kept)
    common = {"a cat", "a photo of a cat", ""}
    assert common < set(asked[0]) and len(asked) == 2
    assert set(asked[1]) == {"a photo of two cat", "two in the snow"}


@pytest.mark.parametrize("change", ["model", "precision", "file"])
def test_another_model_is_opened_anew(tmp_path, monkeypatch, change):
    folder = tmp_path / "models ü"
    shutil.copytree(DEMO, folder)
    monkeypatch.setitem(presets.read_preset("models")["demo"], "source", str(folder))
    kept, other = KeptModel(), {}
    train(new_run("one", CAT), kept)
    if change == "model":
        other = {"model": "demo-sana"}
    elif change == "precision":
        other = {"precision": "int8"}
    else:
        (folder / "vae/config.json").touch()
    assert kept.take(new_run("two", CAT, **other).settings()) is None
    assert kept.key == "" and kept._model is None, "its memory is free"


def test_weights_stay_on_the_device_only_where_all_stages_have_room(monkeypatch):
    kept, run = KeptModel(), new_run("one", CAT)
    train(run, kept)
    held = kept._pinned
    assert held and all(leaf._parameters[key] is not slot.placeholder for leaf, key, slot in held)
    room = sum(slot.num_bytes for _, _, slot in held) / GIB
    for train_gib in (1 + 1.01 * room, 1 + 0.99 * room):
        needs = {"text": 0.5, "latents": 1.0, "train": train_gib}
        needs = {stage: StageMemory(gib, 0.0, 0.0) for stage, gib in needs.items()}
        monkeypatch.setattr(kept_model, "planned_memory", lambda _, needs=needs: needs)
        model = kept.take(run.settings())
        assert (kept._pinned == held) == (train_gib > 1 + room)
        kept.put(model, [])
    assert all(leaf._parameters[key] is slot.placeholder for leaf, key, slot in held)


def test_a_model_that_cannot_be_kept_does_not_spoil_the_run(monkeypatch):
    def broken(self):
        raise RuntimeError("no")

    monkeypatch.setattr(loaded_model.LoadedModel, "forget_run", broken)
    kept = KeptModel()
    run = train(new_run("one", CAT), kept)
    assert isinstance(run.events()[0][-1], Done) and kept.key == ""
