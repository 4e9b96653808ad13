"""Scales of every name are multiplied; what else stands beside a weight is refused by name."""

import json
import re

import pytest
import torch
from helpers.comfy import flux_format, original_parts, original_transformer
from helpers.tiny import tiny_flux
from safetensors.torch import save_file

from blockskip.core.errors import BadFile
from blockskip.core.paths import ASSETS
from blockskip.models.sources import side_tensors
from blockskip.models.sources.tensors import find_weight, tensor_table

FP8 = torch.float8_e4m3fn


def rounded(weight: torch.Tensor, unit: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (float8, its scale, the float truth) of a weight with a scale per `unit`."""
    blocks = torch.zeros([-(-n // 128) for n in weight.shape])
    for i in range(blocks.shape[0]):
        for j in range(blocks.shape[1]):
            part = weight[i * 128 : i * 128 + 128, j * 128 : j * 128 + 128]
            blocks[i, j] = part.abs().max() / 448
    scale, full = {
        "tensor": lambda: (weight.abs().max() / 448,) * 2,
        "row": lambda: (weight.abs().amax(1, keepdim=True) / 448,) * 2,
        "block": lambda: (
            blocks,
            blocks.repeat_interleave(128, 0).repeat_interleave(128, 1)[
                : weight.shape[0], : weight.shape[1]
            ],
        ),
    }[unit]()
    stored = (weight / full).clamp(-448, 448).to(FP8)
    return stored, scale, stored.float() * full


@pytest.mark.parametrize("unit", ["tensor", "row", "block"])
@pytest.mark.parametrize("name", side_tensors.SCALES)
def test_every_name_of_a_scale_gives_the_float_truth_whole_and_in_rows(tmp_path, name, unit):
    torch.manual_seed(0)
    weight = torch.randn(300, 200) * 0.05 + 0.186
    stored, scale, truth = rounded(weight, unit)
    path = tmp_path / "a.safetensors"
    save_file({"p.a.weight": stored, f"p.a{name}": scale.contiguous()}, path)
    table = {key.removeprefix("p."): entry for key, entry in tensor_table([path]).items()}
    read = find_weight(table, "a.weight").read(torch.float32)
    assert torch.equal(read, truth) and read.mean() == pytest.approx(0.186, abs=0.002)
    assert stored.float().mean() > 60, "without the scale it is another weight"
    part = find_weight(table, "a.weight", rows=(100, 270)).read(torch.float32)
    assert torch.equal(part, truth[100:270])
    assert find_weight(table, "a.weight").read().dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_float8_is_read_as_torch_reads_it(tmp_path, dtype):
    """NaN, infinity, −0 and the smallest ones included."""
    every = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    save_file({"a.weight": every.view(dtype)}, tmp_path / "a.safetensors")
    read = find_weight(tensor_table([tmp_path / "a.safetensors"]), "a.weight").read(torch.float32)
    expected = every.view(dtype).float()
    assert torch.equal(read.isnan(), expected.isnan())
    known = ~expected.isnan()
    assert torch.equal(read.view(torch.int32)[known], expected.view(torch.int32)[known])


@pytest.mark.parametrize(
    "scale",
    [
        {"a.weight_scale": torch.ones(3)},
        {"a.weight_scale": torch.ones(1, 8)},  # one a column, of a square weight
        {"a.weight_scale": torch.ones(8, 2)},  # groups of 4 columns
        {"a.weight_scale": torch.ones(8, dtype=torch.uint8)},  # exponents
        {"a.weight_scale": torch.ones(()), "a.scale_weight": torch.ones(())},
    ],
)
def test_a_scale_that_is_not_understood_is_refused_by_name(tmp_path, scale):
    save_file({"a.weight": torch.ones(8, 8).to(FP8)} | scale, tmp_path / "odd.safetensors")
    with pytest.raises(BadFile, match=r"odd.safetensors is packed .* “a\.(weight_s|s)cale"):
        find_weight(tensor_table([tmp_path / "odd.safetensors"]), "a.weight")


def flux():
    model = tiny_flux(double=1, single=1)
    return original_transformer(model.state_dict()), dict(model.config)


def check(path, part, config):
    tensors = flux_format(part).find(tensor_table([path]), config)
    flux_format(part).check_readable(tensors)


QKV = "double_blocks.0.img_attn.qkv"
BYTES = torch.ones(4, dtype=torch.uint8)
MARK = torch.tensor(list(json.dumps({"format": "mxfp8"}).encode()), dtype=torch.uint8)
PACKED = {  # what stands beside or in place of the weight, and the tensor that is named
    "nvfp4": ({"weight": torch.ones(48, 24, dtype=torch.uint8), "weight_scale_2": torch.ones(())}, ("weight",)),
    "second scale": ({"weight_scale_2": torch.ones(())}, ("weight_scale_2",)),
    "mxfp8": ({"comfy_quant": MARK}, ("comfy_quant",)),
    "unknown scale": ({"weight_scalar": torch.ones(())}, ("weight_scalar",)),
    "zero point": ({"weight_scale": torch.ones(()), "weight_zero_point": torch.ones(())}, ("weight_zero_point",)),
    "zero of an int8": ({"weight": torch.ones(144, 48, dtype=torch.int8), "zero_point": BYTES}, ("weight",)),
    "LLM.int8()": ({"weight": torch.ones(144, 48, dtype=torch.int8), "SCB": torch.ones(144)}, ("weight",)),
    "NF4": ({"weight": torch.ones(3456, 1, dtype=torch.uint8), "weight.absmax": BYTES, "weight.quant_map": torch.ones(16), "weight.quant_state.bitsandbytes__nf4": BYTES.clone()}, ("weight",)),
    "NF4's tables alone": ({"weight.absmax": torch.ones(4)}, ("weight.absmax",)),
    "GPTQ": ({"weight": None, "qweight": torch.ones(6, 144, dtype=torch.int32), "qzeros": torch.ones(1, 18, dtype=torch.int32), "scales": torch.ones(1, 144)}, ("qweight", "qzeros", "scales")),
    "SVDQuant": ({"weight": None, "qweight": torch.ones(144, 24, dtype=torch.int8), "wscales": torch.ones(1, 144), "smooth": torch.ones(48), "proj_down": torch.ones(48, 8)}, ("qweight", "wscales", "smooth", "proj_down")),
    "quanto": ({"weight": None, "weight._data": torch.ones(144, 48).to(FP8), "weight._scale": torch.ones(144, 1)}, ("weight._data", "weight._scale")),
    "LoRA-like": ({"proj_down": torch.ones(48, 8), "proj_up": torch.ones(8, 144)}, ("proj_down", "proj_up")),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_packed_otherwise_is_refused_by_the_tensors_name(tmp_path, kind):
    state, config = flux()
    path = tmp_path / "flux1-dev.safetensors"
    save_file({f"model.diffusion_model.{k}": v for k, v in state.items()}, path)
    check(path, "transformer", config)
    beside, named = PACKED[kind]
    state |= {f"{QKV}.{name}": tensor for name, tensor in beside.items()}
    state = {f"model.diffusion_model.{k}": v for k, v in state.items() if v is not None}
    save_file(state, path)
    with pytest.raises(BadFile, match="flux1-dev.safetensors is packed") as refused:
        check(path, "transformer", config)
    (name,) = re.findall(r"“model\.diffusion_model\.(.+?)”", refused.value.title)
    assert name.removeprefix(f"{QKV}.") in named


def test_scales_that_are_gone_are_told_by_the_numbers(tmp_path):
    """Scaled weights fill float8's range, plain ones do not."""
    state, config = flux()
    path = tmp_path / "flux.safetensors"

    def saved(convert):
        done = {k: convert(v) if v.ndim == 2 else v for k, v in state.items()}
        save_file(done, path)

    saved(lambda weight: weight.to(FP8))
    check(path, "transformer", config)
    saved(lambda weight: (weight / weight.abs().max() * 448).to(FP8))
    with pytest.raises(BadFile, match="lacks the scales of its float8.*numbers up to 448"):
        check(path, "transformer", config)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2"])
def test_encoders_in_scaled_float8_are_read(tmp_path, part):
    """CLIP-L with scale_weight and scale_input, as people have T5 too."""
    state = original_parts(ASSETS / "demo-model")[part]
    config = json.loads((ASSETS / f"demo-model/{part}/config.json").read_text(encoding="utf-8"))
    packed, truth = {"scaled_fp8": torch.zeros(0, dtype=FP8)}, {}
    for key, tensor in state.items():
        packed[key] = truth[key] = tensor
        if tensor.ndim == 2:
            packed[key], scale, truth[key] = rounded(tensor.float(), "tensor")
            packed[key.replace("weight", "scale_weight")] = scale
            packed[key.replace("weight", "scale_input")] = torch.ones(())
    path = tmp_path / "encoder.safetensors"
    save_file({key: tensor.contiguous().clone() for key, tensor in packed.items()}, path)
    check(path, part, config)
    tensors = flux_format(part).find(tensor_table([path]), config)
    index = flux_format(part).weights(tensors, config)
    for name, weight in index.items():
        assert torch.equal(weight.read(torch.float32), truth[weight.entry.key].float()), name
    assert {w.entry.key for w in index.values()} == state.keys()
