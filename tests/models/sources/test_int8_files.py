"""ComfyUI's int8 weights are what its formats say, to the last digit; others are refused."""

import json

import pytest
import torch
from helpers.comfy import flux_format, original_transformer
from helpers.int8_files import described, from_int8, hadamard, meant, rotated, rounded, to_int8
from helpers.tiny import tiny_flux
from safetensors.torch import save_file

from blockskip.core.errors import BadFile
from blockskip.memory import open_model
from blockskip.models.sources import rotation, tensor_reader
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.tensors import find_weight, tensor_table

TOLD = {"format": "int8_tensorwise"}
ROTATED = TOLD | {"convrot": True, "convrot_groupsize": 64}


def saved(path, weight, scale, told, name="p.a", metadata=None):
    """Save a layer; return its file's tensors without the prefix."""
    tensors = {f"{name}.weight": weight, f"{name}.weight_scale": scale.contiguous()}
    if told is not None:
        tensors[f"{name}.comfy_quant"] = described(**told)
    save_file(tensors, path, metadata=metadata)
    return {key.removeprefix("p."): entry for key, entry in tensor_table([path]).items()}


@pytest.mark.parametrize("group", [4, 16, 64, 256, 1024])
def test_the_rotation_is_comfyuis_and_its_own_inverse(group):
    turn = rotation.rotated(torch.eye(group), group)
    assert torch.equal(turn * group**0.5, hadamard(group).float())
    assert torch.equal(hadamard(group) @ hadamard(group), torch.eye(group).long() * group)
    digits = torch.randint(-128, 128, (30, 2 * group), dtype=torch.int8)
    exact = rotated(digits.long(), group).double() / group**0.5
    assert torch.equal(rotation.rotated(digits.float(), group).double(), exact)
    assert torch.equal(rotation.rotated_digits(digits, group).double(), exact)


@pytest.mark.parametrize("group", [1, 4, 64, 256])
@pytest.mark.parametrize("shape", [(), (1,), (300,), (300, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_is_its_integers_times_scale_turned_back_and_rounded_once(
    tmp_path, monkeypatch, group, shape, dtype
):
    torch.manual_seed(0)
    weight = torch.randn(300, 512)
    digits, scale = rounded(weight, group, "row" if 300 in shape else "tensor")
    digits[0, :2] = torch.tensor([-128, 127])
    told = TOLD if group == 1 else TOLD | {"convrot": True, "convrot_groupsize": group}
    table = saved(tmp_path / "a.safetensors", digits, scale.reshape(shape), told)
    truth = meant(digits, scale.reshape(shape), group).to(dtype)
    assert torch.equal(find_weight(table, "a.weight").read(dtype), truth)
    assert (truth - weight)[1:].norm() < 0.013 * weight.norm()
    monkeypatch.setattr(tensor_reader, "_CONVERTED_WEIGHTS", 7 * 512)
    part = find_weight(table, "a.weight", rows=(100, 270))
    assert torch.equal(part.read(dtype), truth[100:270])
    swapped = find_weight(table, "a.weight", halves_swapped=True).read(dtype)
    assert torch.equal(swapped, torch.cat([truth[150:], truth[:150]]))


def test_inputs_turned_as_comfyui_turns_them_give_the_same_product(tmp_path):
    """What ComfyUI computes is (x H)(digits · scale)ᵀ."""
    torch.manual_seed(1)
    digits, scale = rounded(torch.randn(96, 256), 64)
    table = saved(tmp_path / "a.safetensors", digits, scale, ROTATED)
    x = torch.randn(10, 256).double()
    theirs = rotated(x, 64) / 8 @ (digits.double() * scale.double()).T
    ours = x @ find_weight(table, "a.weight").read(torch.float32).double().T
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "told",
    [
        ROTATED | {"per_row": True, "orig_dtype": "torch.bfloat16", "orig_shape": [300, 256]},
        TOLD | {"params": {"convrot": True, "convrot_groupsize": 64}},
        ROTATED | {"full_precision_matrix_mult": True},
    ],
)
def test_a_description_may_say_more_and_stand_in_the_header(tmp_path, told):
    digits, scale = rounded(torch.randn(300, 256), 64)
    truth = meant(digits, scale, 64)
    table = saved(tmp_path / "a.safetensors", digits, scale, told)
    assert torch.equal(find_weight(table, "a.weight").read(torch.float32), truth)
    for place in ("model.diffusion_model.a", "a"):
        header = {"_quantization_metadata": json.dumps({"layers": {place: told}})}
        name, path = "model.diffusion_model.a", tmp_path / "b.safetensors"
        table = saved(path, digits, scale, None, name, header)
        assert torch.equal(find_weight(table, f"{name}.weight").read(torch.float32), truth)


def test_blocks_have_their_own_scales(tmp_path):
    told = {"format": "int8_blockwise", "group_size": 128, "orig_dtype": "torch.bfloat16"}
    digits, scale = rounded(torch.randn(300, 200), 1, "block")
    table = saved(tmp_path / "a.safetensors", digits, scale, told)
    truth = meant(digits, scale)
    weight = find_weight(table, "a.weight")
    assert torch.equal(weight.read(torch.float32), truth)
    assert open_model.stored_tensor(weight).int8 is None


PART = r"“p\.a\.{}” "
REFUSED = {  # description, its place, and the tensor that is named
    "nothing is said": (None, "weight"),
    "packed in fours": ({"format": "convrot_w4a4", "convrot_groupsize": 64}, "comfy_quant"),
    "packed in fours too": ({"format": "asym_w4a8_int8", "group_size": 16}, "comfy_quant"),
    "zeros": ({"format": "awq_w4a16", "group_size": 64}, "comfy_quant"),
    "microscaled": ({"format": "mxfp8", "group_size": 32}, "comfy_quant"),
    "float8": ({"format": "float8_e4m3fn"}, "comfy_quant"),
    "no power of 4": (ROTATED | {"convrot_groupsize": 128}, "comfy_quant"),
    "no divisor": (ROTATED | {"convrot_groupsize": 1024}, "comfy_quant"),
    "negative": (ROTATED | {"convrot_groupsize": -64}, "comfy_quant"),
    "no number": (ROTATED | {"convrot_groupsize": "64"}, "comfy_quant"),
    "no answer": (ROTATED | {"convrot": "false"}, "comfy_quant"),
    "blocks turned": (ROTATED | {"format": "int8_blockwise"}, "comfy_quant"),
    "experts": (TOLD | {"num_experts": 2}, "comfy_quant"),
    "a zero point": (TOLD | {"zero_point": 3}, "comfy_quant"),
    "another list": (TOLD | {"params": [1]}, "comfy_quant"),
    "something": ({"format": ["int8_tensorwise"]}, "comfy_quant"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_known_of_integers_is_refused_by_name(tmp_path, kind):
    told, named = REFUSED[kind]
    digits, scale = rounded(torch.randn(256, 256), 64)
    table = saved(tmp_path / "odd.safetensors", digits, scale, told)
    with pytest.raises(BadFile, match=f"odd.safetensors is packed .*{PART.format(named)}"):
        find_weight(table, "a.weight")
    if told is not None:
        header = {"_quantization_metadata": json.dumps({"layers": {"p.a": told}})}
        table = saved(tmp_path / "head.safetensors", digits, scale, None, metadata=header)
        with pytest.raises(BadFile, match=PART.format("weight")):
            find_weight(table, "a.weight")


@pytest.mark.parametrize("header", ["", "[", "{}", '{"layers": 3}', '{"layers": {"p.a": 3}}'])
def test_a_header_that_says_nothing_leaves_integers_unknown(tmp_path, header):
    digits, scale = rounded(torch.randn(8, 8))
    table = saved(
        tmp_path / "a.safetensors", digits, scale, None, metadata={"_quantization_metadata": header}
    )
    with pytest.raises(BadFile, match=PART.format("weight")):
        find_weight(table, "a.weight")


@pytest.mark.parametrize(
    "scale", [torch.ones(2, 2), torch.ones(1, 256), torch.ones(256, dtype=torch.int32)]
)
def test_scales_of_another_form_are_refused(tmp_path, scale):
    digits, _ = rounded(torch.randn(256, 256))
    table = saved(tmp_path / "a.safetensors", digits, scale, TOLD)
    with pytest.raises(BadFile, match=PART.format("weight_scale")):
        find_weight(table, "a.weight")
    without = {key: entry for key, entry in table.items() if not key.endswith("_scale")}
    with pytest.raises(BadFile, match=PART.format("weight")):
        find_weight(without, "a.weight")


def test_float8_called_int8_is_refused(tmp_path):
    weight = torch.randn(8, 8).to(torch.float8_e4m3fn)
    table = saved(tmp_path / "a.safetensors", weight, torch.ones(()), TOLD)
    with pytest.raises(BadFile, match=PART.format("comfy_quant")):
        find_weight(table, "a.weight")


@pytest.mark.parametrize("convrot", [True, False])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformer_in_int8_is_read_with_its_fused_layers_cut(tmp_path, convrot, prefix):
    model = tiny_flux(double=1, single=1, guidance=True)
    plain, config = original_transformer(model.state_dict()), dict(model.config)
    packed = to_int8(plain, convrot)
    path = tmp_path / "flux1-dev-int8.safetensors"
    save_file({prefix + key: tensor.contiguous() for key, tensor in packed.items()}, path)
    save_file({k: v.contiguous() for k, v in from_int8(packed).items()}, tmp_path / "p.safetensors")
    indices = []
    for file in (path, tmp_path / "p.safetensors"):
        tensors = flux_format("transformer").find(tensor_table([file]), config)
        flux_format("transformer").check_readable(tensors)
        indices.append(flux_format("transformer").weights(tensors, config))
    reader, (ours, truth) = Reader(), indices
    assert ours.keys() == truth.keys() == model.state_dict().keys()
    for name, weight in ours.items():
        out = torch.empty(weight.shape)
        reader.read(open_model.stored_tensor(weight), out)
        assert torch.equal(out, truth[name].read()), name
        if out.ndim == 2:
            assert (out - model.state_dict()[name]).norm() < 0.02 * out.norm(), name
