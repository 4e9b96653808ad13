"""An exported file does in the library what the trained LoRA did, or it is refused and says why."""

import base64
import dataclasses
import io
import json
import struct

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from helpers.tiny import randomise, tiny_draws, tiny_flux
from PIL import Image
from safetensors.torch import load, load_file

from blockskip.core import presets, safetensors_files
from blockskip.core.errors import UserError
from blockskip.core.settings import Settings
from blockskip.models.families.base import get_family
from blockskip.models.lora import export, flux_names
from blockskip.models.lora.comfyui_workflow import workflow
from blockskip.models.lora.export import export_lora, verify
from blockskip.models.lora.flux_names import FORMATS
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span

DEMO = dataclasses.replace(presets.model_row("demo"), width=48)
FLUX = dataclasses.replace(presets.model_row("flux-dev"), width=48)
SETTINGS = Settings(trigger="zwörg", class_name="cat", rank=4)
REST = dict(settings=SETTINGS, started="2026-01-02T03:04:05+01:00", num_photos=5, step=7)


@pytest.fixture
def lora():
    """A trained state of the middle of a tiny FLUX, as a checkpoint holds it."""
    model = tiny_flux()
    parameters = add_lora(model, get_family("flux"), Span(1, 1), SETTINGS.rank, "attention+ff", 0)
    randomise(parameters)
    return {name: p.detach().clone() for name, p in parameters.items()}


def double_only(lora):
    return {n: t for n, t in lora.items() if n.startswith("transformer.transformer_blocks.")}


def pipeline(single: int = 4) -> FluxPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=tiny_flux(single=single),
    )


@torch.no_grad()
def output(model) -> torch.Tensor:
    draws = tiny_draws(2)
    given = get_family("flux").inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
    return model(**given)[0]


@torch.no_grad()
def merged_output(lora) -> torch.Tensor:
    """The truth: B·A added to the weights by hand."""
    model = tiny_flux()
    for name in [n for n in lora if "lora_A" in n]:
        linear = model.get_submodule(name.removeprefix("transformer.").split(".lora_A")[0])
        linear.weight += lora[name.replace("lora_A", "lora_B")] @ lora[name]
    return output(model)


def header(path) -> dict[str, str]:
    return safetensors_files.read_metadata(path)


@pytest.mark.parametrize("format", ["comfyui", "diffusers"])
def test_the_library_gives_the_trained_output(lora, tmp_path, format):
    done = export_lora(lora, tmp_path / "ä pet.safetensors", format=format, row=DEMO, **REST)
    pipe = pipeline()
    plain = output(pipe.transformer)
    pipe.load_lora_weights(str(done.path))
    found, truth = output(pipe.transformer), merged_output(lora)
    assert (truth - plain).abs().max() > 0.1, "the LoRA does something"
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-4)
    assert (done.keys, done.modules) == (len(lora), len(lora) // 2)
    assert done.bytes == done.path.stat().st_size


def test_the_library_reads_kohya_names(lora, tmp_path):
    """Double blocks only: diffusers converts single blocks for FLUX's true width alone
    (tests/models/lora/test_flux_names.py does that)."""
    lora = double_only(lora)
    done = export_lora(lora, tmp_path / "k.safetensors", format="kohya", row=DEMO, **REST)
    pipe = pipeline()
    pipe.load_lora_weights(str(done.path))
    torch.testing.assert_close(output(pipe.transformer), merged_output(lora), rtol=1e-4, atol=1e-4)


def test_half_precision_only_where_it_is_harmless(lora, tmp_path):
    done = export_lora(lora, tmp_path / "h.safetensors", format="comfyui", row=FLUX, **REST)
    stored = load_file(done.path)
    assert {t.dtype for t in stored.values()} == {torch.float16}
    pipe = pipeline()
    pipe.load_lora_weights(str(done.path))
    torch.testing.assert_close(output(pipe.transformer), merged_output(lora), rtol=1e-2, atol=1e-2)
    tiny = {n: t * 1e-8 if "lora_B" in n else t for n, t in lora.items()}
    done = export_lora(tiny, tmp_path / "f.safetensors", format="kohya", row=FLUX, **REST)
    assert {t.dtype for t in load_file(done.path).values()} == {torch.float32}


@pytest.mark.parametrize("format", FORMATS)
def test_same_lora_same_bytes(lora, tmp_path, format):
    thumbnail = Image.linear_gradient("L")
    written = []
    for folder, state in (("a", lora), ("b", dict(reversed(lora.items())))):
        done = export_lora(
            state,
            tmp_path / folder / "x.safetensors",
            format=format,
            row=FLUX,
            thumbnail=thumbnail,
            **REST,
        )
        written.append({p.name: p.read_bytes() for p in done.path.parent.iterdir()})
    assert written[0] == written[1]
    expected = {"x.safetensors"} | ({"x.workflow.json"} if format != "diffusers" else set())
    assert set(written[0]) == expected, "nothing else is left beside the file"


def test_scale_is_stated_once_or_never(lora, tmp_path):
    for format in FORMATS:
        done = export_lora(
            lora, tmp_path / f"{format}.safetensors", format=format, row=DEMO, **REST
        )
        alphas = [n for n in load_file(done.path) if n.endswith(".alpha")]
        stated = "lora_adapter_metadata" in header(done.path)
        assert (bool(alphas), stated) == {
            "comfyui": (False, False),
            "diffusers": (False, True),
            "kohya": (True, False),
        }[format]


def test_header_tells_model_managers_what_it_is(lora, tmp_path):
    noise = Image.frombytes(
        "RGB",
        (700, 500),
        torch.randint(0, 256, (500 * 700 * 3,), generator=torch.Generator().manual_seed(1))
        .to(torch.uint8)
        .numpy()
        .tobytes(),
    )
    done = export_lora(
        lora, tmp_path / "me.safetensors", format="kohya", row=FLUX, thumbnail=noise, **REST
    )
    head = header(done.path)
    data = done.path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    assert size < 1 << 20, "ComfyUI reads no bigger header"
    assert head["modelspec.sai_model_spec"] == "1.0.1"
    assert head["modelspec.architecture"] == "flux-1-dev/lora"
    assert head["modelspec.date"] == REST["started"]
    assert head["modelspec.trigger_phrase"] == "zwörg cat"
    assert head["modelspec.hash_sha256"] == f"0x{head['sshs_model_hash']}"
    assert json.loads(head["ss_tag_frequency"]) == {"photos": {"zwörg cat": 5}}
    assert (head["ss_output_name"], head["ss_base_model_version"]) == ("me", "flux1")
    assert head["ss_network_module"] == "networks.lora_flux"
    assert (head["ss_network_dim"], head["ss_network_alpha"]) == ("4", "4")
    kind, _, picture = head["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert max(Image.open(io.BytesIO(base64.b64decode(picture))).size) == 256
    assert "demo" not in head["modelspec.description"]
    demo = export_lora(lora, tmp_path / "demo.safetensors", format="comfyui", row=DEMO, **REST)
    assert "demo model only" in header(demo.path)["modelspec.description"]
    assert header(demo.path)["ss_base_model_version"] == "blockskip-demo"
    assert "ComfyUI cannot load" in demo.workflow.read_text(encoding="utf-8")


def broken(lora, how):
    name = sorted(lora)[0]
    if how == "not a number":
        return lora | {name: lora[name] * float("nan")}
    if how == "infinite":
        return lora | {name: lora[name] * float("inf")}
    if how == "half a pair":
        return {n: t for n, t in lora.items() if n != name}
    if how == "zero":
        return {n: t * 0 if "lora_B" in n else t for n, t in lora.items()}
    if how == "shape":
        return lora | {name: lora[name][:2]}
    return {n.replace("to_q", "to_x"): t for n, t in lora.items()}  # a name nobody knows


@pytest.mark.parametrize(
    "how, words",
    [
        ("not a number", "not finite"),
        ("infinite", "not finite"),
        ("half a pair", "half of the pair"),
        ("zero", "nothing has been learnt"),
        ("shape", "do not fit"),
        ("name", "to_x"),
    ],
)
def test_a_bad_lora_is_refused_and_the_old_file_stays(lora, tmp_path, how, words):
    path = tmp_path / "pet.safetensors"
    export_lora(lora, path, format="comfyui", row=FLUX, **REST)
    before = path.read_bytes()
    with pytest.raises(UserError, match=words) as caught:
        export_lora(broken(lora, how), path, format="comfyui", row=FLUX, **REST)
    assert "pet.safetensors" in caught.value.title and caught.value.remedy
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*unchecked*"))


def test_a_refused_first_export_leaves_no_file_that_looks_good(lora, tmp_path):
    with pytest.raises(UserError):
        export_lora(
            broken(lora, "zero"), tmp_path / "pet.safetensors", format="kohya", row=DEMO, **REST
        )
    assert [p.name for p in tmp_path.iterdir()] == ["pet.safetensors.bad"]


@pytest.mark.parametrize("format", FORMATS)
def test_what_happens_to_the_file_is_noticed(lora, tmp_path, format):
    done = export_lora(lora, tmp_path / "pet.safetensors", format=format, row=DEMO, **REST)
    modules = sorted(
        n.removeprefix("transformer.").removesuffix(".lora_A.weight") for n in lora if "lora_A" in n
    )
    verify(done.path, modules, format=format, names=flux_names)
    good = done.path.read_bytes()
    tensors, head = load(good), header(done.path)
    with pytest.raises(UserError, match="no program would know"):
        verify(
            done.path,
            [m for m in modules if not m.endswith("ff.net.2")],
            format=format,
            names=flux_names,
        )
    with pytest.raises(UserError, match="is missing"):
        verify(done.path, [*modules, "proj_out"], format=format, names=flux_names)
    for data in (good[:-4], good[:100], b"", good[:-1] + bytes([good[-1] ^ 1])):
        done.path.write_bytes(data)
        with pytest.raises(UserError, match="pet.safetensors"):
            verify(done.path, modules, format=format, names=flux_names)
    if format == "kohya":
        name = next(n for n in tensors if n.endswith(".alpha"))
        head.pop("modelspec.hash_sha256")
        safetensors_files.save_tensors(done.path, tensors | {name: torch.tensor(1.0)}, head)
        with pytest.raises(UserError, match="scale"):
            verify(done.path, modules, format=format, names=flux_names)


def test_names_of_files_are_made_to_fit(lora, tmp_path):
    done = export_lora(lora, tmp_path / "v1.5 best", format="comfyui", row=DEMO, **REST)
    assert done.path.name == "v1.5 best.safetensors"
    done = export_lora(lora, tmp_path, format="comfyui", row=DEMO, **REST)
    assert done.path == tmp_path / "zwörg-cat.safetensors"
    with pytest.raises(UserError, match="format"):
        export_lora(lora, tmp_path, format="onnx", row=DEMO, **REST)


def test_the_workflow_lies_beside_the_file(lora, tmp_path):
    done = export_lora(lora, tmp_path / "Mötz #1.safetensors", format="comfyui", row=FLUX, **REST)
    assert done.workflow == tmp_path / "Mötz #1.workflow.json"
    written = json.loads(done.workflow.read_text(encoding="utf-8"))
    assert written == workflow(done.path.name, "a photo of zwörg cat", FLUX)


def test_a_full_disk_is_said_in_words(lora, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.files, "replace", full)
    with pytest.raises(UserError, match="disk is full"):
        export_lora(lora, tmp_path / "pet.safetensors", format="comfyui", row=DEMO, **REST)
    assert not (tmp_path / "pet.safetensors").exists()
