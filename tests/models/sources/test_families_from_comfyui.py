"""Models of every family from ComfyUI's files: found, read exactly, trained and exported."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from helpers import comfy_text_encoders as text_encoders
from helpers.comfy_cases import CASES
from helpers.comfy_families import (
    PRECISIONS,
    comfyui,
    is_unused,
    packed,
    part_state,
    program,
    qwen_vocabulary,
    save_packed,
    usual_file,
    write_part,
)
from helpers.ggufs import llama_names, write_gguf
from helpers.sibling_checks import make_sibling
from PIL import Image
from safetensors.torch import load_file, save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos, read_photos
from blockskip.data.schedule import build_schedule
from blockskip.memory.open_model import open_model, open_sibling
from blockskip.models import sources
from blockskip.models.families.base import Sampling, get_family
from blockskip.models.lora.export import export_lora
from blockskip.models.sources import Source, availability
from blockskip.models.sources.part_checks import check_part
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.tensors import tensor_table
from blockskip.sampling.sample import sample
from blockskip.training import encode
from blockskip.training.draws import TrainingData
from blockskip.training.trainer import Trainer

CPU = torch.device("cpu")
WITH_SIBLING = [name for name in CASES if (its := presets.model_row(name).sibling) and not its.lora]
# of other models, in checkpoints of several parts
OTHERS = {
    "model_ema.decay": torch.ones(()),
    "text_encoders.llama.transformer.model.layers.0.mlp.down_proj.weight": torch.ones(2, 2),
    "text_encoders.llama.logit_scale": torch.ones(()),
    "text_encoders.llama.tekken_model": torch.ones(9, dtype=torch.uint8),
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    qwen_vocabulary(folder / "qwen25_tokenizer", " ".join(case.texts for case in CASES.values()))
    text_encoders.vocabularies(folder)
    return folder


@pytest.fixture(scope="module", params=CASES)
def model(request, tmp_path_factory, vocabulary):
    """(case, tiny pipeline in diffusers' layout)."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(case.row) / "tiny pipeline"
    torch.manual_seed(0)
    with torch.no_grad():
        case.save(folder, vocabulary)
    for path in folder.glob("*/*.safetensors"):  # numbers that bfloat16 holds too
        numbers = {k: t.bfloat16().to(t.dtype) for k, t in load_file(path).items()}
        save_file(numbers, path, metadata={"format": "pt"})
    return case, folder


@pytest.fixture
def only(model, monkeypatch):
    """The row of the tiny model, the only one that the program knows."""
    case, folder = model
    return know(monkeypatch, case.tiny_row(folder))


def know(monkeypatch, row):
    monkeypatch.setattr(presets, "model_rows", lambda: {row.name: row})
    return row


def select(monkeypatch, capsys, home):
    monkeypatch.setattr("sys.argv", ["blockskip", "models", "use-comfyui", str(home), "--json"])
    assert app.main() == 0, capsys.readouterr().out
    return json.loads(capsys.readouterr().out)


def check_weights(case, source, wanted):
    """Check that every weight of every part is read as `wanted` has it, and none is left out."""
    reader = Reader()
    for part, meaning in wanted.items():
        weights = check_part(source, part)
        read = {name: weight.read(torch.float32, reader) for name, weight in weights.items()}
        original = case.original[part](read)
        assert {key for key in meaning if not is_unused(key)} == original.keys()
        assert [key for key, t in original.items() if not torch.equal(t, meaning[key])] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_weight_is_the_files(model, only, vocabulary, precision, tmp_path):
    case, _ = model
    wanted = comfyui(case, only, tmp_path, vocabulary, precision)
    check_weights(case, sources.comfyui.source_from_files(only, [tmp_path]), wanted)


def test_the_original_names_are_those_that_diffusers_converts(model):
    case, folder = model
    for part, convert in case.library.items():
        wanted = part_state(folder, part)
        converted = convert(case.original[part](wanted))
        assert converted.keys() == wanted.keys()
        assert [k for k, t in converted.items() if not torch.equal(t, wanted[k])] == []


def test_a_checkpoint_of_all_parts_and_others_is_read(model, only, vocabulary, tmp_path):
    """With a head of the encoder, without its tower for pictures. Its name says nothing of that."""
    case, folder = model
    wanted, tensors = {}, dict(OTHERS)
    for part, state in case.states(folder).items():
        _, wanted[part] = packed(state, "fp8_scaled")
        if part in case.llama:
            state = {key: tensor for key, tensor in state.items() if "visual." not in key}
            state = case.spellings.get(part, dict)(state | {"lm_head.weight": torch.ones(4, 4)})
        stored, _ = packed(state, "fp8_scaled")
        tensors |= {case.prefixes[part] + key: tensor for key, tensor in stored.items()}
    seeing = any(own.name.endswith("VL") for own in case.llama.values())
    name = f"{only.comfyui.usual('transformer')[0]}{'' if seeing else '-vl'}.safetensors"
    save_packed(path := tmp_path / "models/checkpoints" / name, tensors, "fp8_scaled")
    program(case, tmp_path, vocabulary)
    source = sources.comfyui.source_from_files(only, [tmp_path])
    assert set(source.files.values()) == {path}
    check_weights(case, source, wanted)


def test_a_tensor_of_another_size_is_another_models(model, only, tmp_path):
    """One row less, none, one number; a bias that is missing: never rows of the next tensor."""
    case, folder = model
    others = itertools.cycle([lambda t: t[:-1], lambda t: t[:0], lambda t: t.new_ones(()), None])
    for part, state in case.states(folder).items():
        found = [key for key in state if not is_unused(key) and "num_batches" not in key]
        few = [key for key in found if re.search(r"qkv|linear1|gate_up|lin$|adaLN|conv_out", key)]
        for key in {*few[:3], *few[-2:], found[0], found[-1]}:
            other, path = next(others), tmp_path / part
            changed = {k: t for k, t in state.items() if k != key}
            changed |= {} if other is None else {key: other(state[key])}
            save_file({k: t.contiguous() for k, t in changed.items()}, path)
            with pytest.raises(UserError, match=part):
                check_part(Source(only, folder, {part: path}), part)


@pytest.mark.parametrize("names", ["diffusers", "another spelling"])
def test_other_names_are_read(model, only, vocabulary, names, tmp_path):
    """As diffusers names them; or as some programs do, without what no prompt needs."""
    case, folder = model
    wanted = {}
    for part, state in case.states(folder).items():
        wanted[part] = packed(state, "bf16")[1]
        if names == "diffusers":
            state = part_state(folder, part)
        else:
            state = case.spellings.get(part, dict)(state)
            state = {key: tensor for key, tensor in state.items() if "visual." not in key}
        write_part(usual_file(only, tmp_path, part), state, "bf16")
    program(case, tmp_path, vocabulary)
    check_weights(case, sources.comfyui.source_from_files(only, [tmp_path]), wanted)


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3vl", "qwen2vl", ""])
def test_a_gguf_of_another_encoder_is_never_taken(model, only, architecture, tmp_path):
    """Qwen3 and Qwen3-VL have equal shapes. Without metadata, the name tells."""
    case, folder = model
    for part, own in case.llama.items():
        if not own.name.startswith("QWEN"):
            continue
        format = Source(only, folder).format(part)
        state = case.original[part](part_state(folder, part))
        for name in ("qwen_3_4b", "qwen3vl_4b", "encoder", "Qwen3-VL-4B-Instruct"):
            path = tmp_path / f"{name}.gguf"
            write_gguf(path, llama_names(state, 40, own), architecture=architecture)
            seeing = "vl" in (architecture or name.lower())
            found = format.find(tensor_table([path]), Source(only, folder).config(part))
            assert (found is not None) == (seeing == ("VL" in own.name)), (part, name)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("int8", marks=pytest.mark.long)])
def test_a_lora_is_trained_on_the_files_and_exported(
    model, only, vocabulary, precision, tmp_path, monkeypatch, capsys
):
    """On bf16 files, whose numbers are the folder's, everything is equal to the bit."""
    case, folder = model
    comfyui(case, only, tmp_path / "ComfyUI", vocabulary, precision)
    assert select(monkeypatch, capsys, tmp_path / "ComfyUI")["unreadable"] == []
    made = trained(case, only, sources.find_model(only), tmp_path / "files")
    assert all(torch.isfinite(tensor).all() for tensor in made.values())
    if precision == "bf16":
        wanted = trained(case, only, Source(only, folder), tmp_path / "folder")
        assert made.keys() == wanted.keys()
        assert [key for key in made if not torch.equal(made[key], wanted[key])] == []


def trained(case, row, source, folder):
    """Return encoded captions, a picture and the exported LoRA of two steps."""
    folder.mkdir()
    family, settings = get_family(row.family), Settings.of(
        s_min_px=case.side_px // 2, s_max_px=case.side_px, text_tokens=case.tokens, front=1, back=1,
        steps=2, window_steps=2, lr=0.01, rank=2, batch=2, accumulation=1, micro_batch=2, prior=0,
    )  # fmt: skip
    pipe = open_model(family, row, source, settings, CPU)
    text = encode.encode_captions(family, pipe, ["a photo of sks cat", ""], case.tokens)
    assert not torch.equal(*text.embeds), "the caption is not cut off"
    pixels = np.random.default_rng(0).integers(0, 255, (case.side_px, case.side_px, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "cat.png")
    photos, _ = read_photos(find_photos([folder]), "a photo of sks cat")
    draws = build_schedule(photos, settings, family.pixel_multiple)
    latents = encode.encode_draws(family, pipe, photos, draws, settings, CPU)
    data = TrainingData(draws, latents, text, [0], 1, 1)
    trainer = Trainer(pipe.transformer, family, settings, data, CPU, folder / "windows", "a run")
    assert len(list(trainer.run())) == 2
    done = export_lora(
        {name: parameter.detach() for name, parameter in trainer.lora.items()},
        folder / "lora.safetensors",
        format="comfyui",
        settings=settings,
        row=row,
        started="2026-01-01T00:00:00+00:00",
        num_photos=1,
        step=2,
    )
    shown = picture(case, family, pipe, text, 3.0)
    return load_file(done.path) | {"text": text.embeds, "latents": latents, "picture": shown}


def picture(case, family, pipe, text, guidance):
    sampling = Sampling(case.side_px, 2, guidance)
    (image,) = sample(family, pipe, text.rows([0]), text.rows([1]), sampling, [3], CPU)
    return torch.from_numpy(np.array(image))


@pytest.mark.parametrize("model", WITH_SIBLING, indirect=True)
def test_pictures_are_made_on_the_sibling_beside_it(
    model, vocabulary, tmp_path, monkeypatch, capsys
):
    """In the same folder, told apart by name; with its own scheduler and options."""
    case, folder = model
    theirs = make_sibling(case.tiny_row(folder), folder, tmp_path)
    index = theirs / "model_index.json"
    table = json.loads(index.read_text(encoding="utf-8"))
    if "is_distilled" in table:
        index.write_text(json.dumps(table | {"is_distilled": True}), encoding="utf-8")
    row = know(monkeypatch, case.tiny_row(folder, theirs))
    comfyui(case, row, home := tmp_path / "ComfyUI", vocabulary, "bf16")
    state = case.original["transformer"](part_state(theirs, "transformer"))
    path = usual_file(row.sibling_row, home, "transformer")
    write_part(path, state, "fp32")
    select(monkeypatch, capsys, home)
    source, base = sources.find_model(row.sibling_row), sources.find_model(row)
    assert source.files == {"transformer": path} and base.files["transformer"] != path
    assert availability.picture_model(row, "auto") == row.sibling_row.name
    family, settings, made = get_family(row.family), Settings.of(rank=2, front=1, back=1), []
    pipe = open_model(family, row, base, settings, CPU)
    text = encode.encode_captions(family, pipe, ["a photo of sks cat", ""], case.tokens)
    for its in (source, Source(row.sibling_row, theirs)):
        opened = open_sibling(family, pipe, row.sibling_row, its, settings, CPU)
        assert opened.config.get("is_distilled", True)
        assert opened.scheduler.config.shift == pipe.scheduler.config.shift + 1
        made.append(picture(case, family, opened, text, 1.0))
    assert torch.equal(*made)
    assert not torch.equal(made[0], picture(case, family, pipe, text, 1.0))
