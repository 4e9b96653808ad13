"""Single files of FLUX.1 in their makers' layout, and files that are refused."""

import json
import struct

import pytest
import torch
from diffusers import AutoencoderKL
from helpers.comfy import (
    flux_format,
    from_fp8,
    original_transformer,
    original_vae,
    to_fp8,
)
from helpers.tiny import tiny_flux
from safetensors.torch import save_file

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.tensors import find_weight, tensor_table

DEMO = ASSETS / "demo-model"


def read_back(path, part, configuration):
    own = flux_format(part).find(tensor_table([path]), configuration)
    return flux_format(part).weights(own, configuration)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("guidance", [False, True])
def test_the_original_layout_is_the_librarys_model(tmp_path, prefix, guidance):
    model = tiny_flux(guidance=guidance).bfloat16()
    original = original_transformer(model.state_dict())
    save_file({prefix + k: v for k, v in original.items()}, tmp_path / "flux.safetensors")
    index = read_back(tmp_path / "flux.safetensors", "transformer", dict(model.config))
    assert index.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert index[name].shape == tensor.shape and index[name].dtype == torch.bfloat16
        assert torch.equal(index[name].read(), tensor), name
    assert all(index[n].is_plain for n in index if ".to_q." in n or ".proj_mlp." in n)


def test_names_are_those_of_the_librarys_own_conversion():
    """Which knows FLUX's true width only: on tensors without memory."""
    from accelerate import init_empty_weights
    from diffusers import FluxTransformer2DModel
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    with init_empty_weights():
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    original = original_transformer(model.state_dict())
    stored = {k: TensorEntry(DEMO, k, "BF16", tuple(v.shape), 0, 0) for k, v in original.items()}
    index = flux_format("transformer").weights(stored, dict(model.config))
    theirs = convert_flux_transformer_checkpoint_to_diffusers(original)
    assert {k: w.shape for k, w in index.items()} == {k: tuple(v.shape) for k, v in theirs.items()}


def test_the_vae_with_attention(tmp_path):
    torch.manual_seed(0)
    blocks = dict(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, layers_per_block=1
    )
    kinds = {
        f"{w}_block_types": (f"{w.title()}{s}Block2D",) * 2
        for w, s in (("down", "Encoder"), ("up", "Decoder"))
    }
    vae = AutoencoderKL(**blocks, **kinds, use_quant_conv=False, use_post_quant_conv=False)
    save_file(original_vae(vae.state_dict()), tmp_path / "ae.safetensors")
    index = read_back(tmp_path / "ae.safetensors", "vae", dict(vae.config))
    assert index.keys() == vae.state_dict().keys()
    assert all(torch.equal(index[k].read(), v) for k, v in vae.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("style", ["scale_weight", "weight_scale"])
def test_fp8_is_multiplied_by_its_scale_also_in_parts_of_a_fused_layer(tmp_path, style, prefix):
    model = tiny_flux(double=1, single=1)
    packed = to_fp8(original_transformer(model.state_dict()), style)
    save_file({prefix + k: v for k, v in packed.items()}, tmp_path / "fp8.safetensors")
    save_file(from_fp8(packed), tmp_path / "wanted.safetensors")
    index = read_back(tmp_path / "fp8.safetensors", "transformer", dict(model.config))
    wanted = read_back(tmp_path / "wanted.safetensors", "transformer", dict(model.config))
    assert index.keys() == wanted.keys() == model.state_dict().keys()
    for name in index:
        assert torch.equal(index[name].read(torch.float32), wanted[name].read()), name
        assert index[name].read().dtype == index[name].dtype
    error = index["proj_out.weight"].read(torch.float32) - model.proj_out.weight
    assert error.abs().max() < 0.05 * model.proj_out.weight.abs().max()


def test_packed_formats_and_broken_files_are_refused_by_name(tmp_path):
    block = {"a.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn), "a.weight_scale": torch.ones(8)}
    whole = {"a.weight": torch.zeros(4, 4, dtype=torch.uint8)}
    for tensors in (block, whole):
        save_file(tensors, tmp_path / "packed.safetensors")
        with pytest.raises(UserError, match="packed.safetensors is packed"):
            find_weight(tensor_table([tmp_path / "packed.safetensors"]), "a.weight")
    plain = torch.randn(4, 4).to(torch.float8_e4m3fn)  # an fp8 file without scales
    save_file({"a.weight": plain}, tmp_path / "plain.safetensors")
    cast = find_weight(tensor_table([tmp_path / "plain.safetensors"]), "a.weight")
    assert not cast.is_plain and torch.equal(cast.read(), plain.bfloat16())
    data = (tmp_path / "packed.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-3])
    with pytest.raises(UserError, match="cut.safetensors cannot be read"):
        tensor_table([tmp_path / "cut.safetensors"])


def line(**changed):
    """A safetensors table of one tensor of 4 bytes."""
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changed})


@pytest.mark.parametrize(
    "table",
    [
        "[]",
        '{"a": 1}',
        '{"a": {"shape": [1], "data_offsets": [0, 4]}}',
        line(dtype=7),
        line(shape=[2]),
        line(shape="1"),
        line(shape=[1.0]),
        line(data_offsets=[4, 0]),
        line(data_offsets=[-4, 4]),
        line(data_offsets=[0, 4, 4]),
        "[" * 100_000,
        "\x00",
    ],
)
def test_no_table_at_a_files_head_is_trusted(tmp_path, table):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(table)) + table.encode() + b"abcd")
    with pytest.raises(UserError, match="odd.safetensors cannot be read"):
        tensor_table([path])


@pytest.mark.parametrize("name", ["flux.ckpt", "FLUX.BIN", "flux.pt", "flux.pth"])
def test_files_that_can_hold_programs_are_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="never opened. Take the .safetensors file"):
        sources.select_model(presets.model_row("flux-dev"), [tmp_path / name])
