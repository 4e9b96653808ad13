"""Digits of an int8 file are used as they are where 8-bit arithmetic is planned."""

import pytest
import torch
from helpers.int8_files import from_int8, to_int8
from helpers.parked import CPU
from helpers.tiny import tiny_draws, tiny_flux
from safetensors.torch import save_file

from blockskip.memory import open_model
from blockskip.memory.quantisation import (
    QuantisedLinear,
    block_linears,
    dequantise,
)
from blockskip.memory.quantised_cache import _largest_of, quantise_blocks
from blockskip.memory.streaming import offload
from blockskip.models.families.flux import Flux
from blockskip.models.sources.empty_model import build_empty
from blockskip.models.sources.tensor_reader import Reader, StoredTensor
from blockskip.models.sources.tensors import find_weight, tensor_table
from blockskip.training.residuals import full_velocity

FAMILY = Flux()
WHOLE = "transformer_blocks.1"  # the block that a mixed file has in full precision
MIXED = "single_transformer_blocks.0.proj_out.weight"


@pytest.fixture(scope="module")
def packed():
    return {kind: to_int8(tiny_flux().state_dict(), kind == "rotated") for kind in KINDS}


KINDS = ("rotated", "plain")


def opened(packed, folder, rotates, mixed=False):
    """Return an empty model whose weights are in an int8 file, what they mean, and where they are."""
    state = dict(packed)
    meaning = from_int8(state)
    if mixed:
        for name in [n for n in meaning if n.startswith(f"{WHOLE}.") or n == MIXED]:
            state[name] = meaning[name]
            base = name.removesuffix("weight")
            state.pop(f"{base}weight_scale", None), state.pop(f"{base}comfy_quant", None)
    path = folder / "int8.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    table = tensor_table([path])
    index = {name: open_model.stored_tensor(find_weight(table, name)) for name in meaning}
    config = dict(tiny_flux().config)
    model = build_empty(lambda: type(tiny_flux()).from_config(config), torch.float32)
    blocks, cache = FAMILY.blocks(model), folder / "cache"
    where = quantise_blocks(model, blocks, index, "int8", cache, "print", CPU, rotates=rotates)
    return model, meaning, where, cache


def unpacked(model, where):
    """Return every quantised weight in float32."""
    reader, weights = Reader(), {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantisedLinear):
            parts = {}
            for part, shape in (("weight", layer.weight), ("scale", layer.scale)):
                parts[part] = torch.empty(shape.shape, dtype=shape.dtype)
                reader.read(where[f"{name}.{part}"], parts[part])
            shape = tuple(layer.weight.shape)
            weights[name] = dequantise(parts, shape, "int8", torch.float32, layer.rotation)
    return weights


@pytest.mark.parametrize("kind, rotates", [("rotated", True), ("rotated", False), ("plain", False)])
def test_digits_are_the_files_and_nothing_is_cached(packed, kind, rotates, tmp_path):
    model, meaning, where, cache = opened(packed[kind], tmp_path, rotates)
    weights = unpacked(model, where)
    assert weights.keys() == block_linears(FAMILY.blocks(tiny_flux())).keys()
    for name, weight in weights.items():
        if kind == "plain":
            assert torch.equal(weight, meaning[f"{name}.weight"]), name
        torch.testing.assert_close(weight, meaning[f"{name}.weight"], rtol=1e-5, atol=1e-6)
        digits = packed[kind][f"{name}.weight"]
        read = torch.empty(digits.shape, dtype=torch.int8)
        Reader().read(where[f"{name}.weight"], read)
        assert torch.equal(read, digits), name
    assert not cache.exists()
    plain = tiny_flux()
    plain.load_state_dict(meaning)
    offload(model, where)
    draws = tiny_draws()
    expected = full_velocity(plain, FAMILY, draws, 5, CPU)
    torch.testing.assert_close(full_velocity(model, FAMILY, draws, 5, CPU), expected)


def test_a_file_that_is_not_rotated_is_rounded_again_for_products_in_8_bits(packed, tmp_path):
    model, meaning, where, cache = opened(packed["plain"], tmp_path, True)
    assert len(list(cache.iterdir())) == len(FAMILY.blocks(model))
    for name, weight in unpacked(model, where).items():
        error = (weight - meaning[f"{name}.weight"]).norm() / weight.norm()
        assert 0 < error < 0.012, name


def test_a_file_with_some_linears_in_full_precision_gives_the_others_digits(packed, tmp_path):
    model, meaning, where, cache = opened(packed["plain"], tmp_path, False, mixed=True)
    made = {path.stem for path in cache.iterdir()}
    assert made == {WHOLE, "single_transformer_blocks.0"}
    for name, weight in unpacked(model, where).items():
        rounded = name.startswith(f"{WHOLE}.") or f"{name}.weight" == MIXED
        torch.testing.assert_close(weight, meaning[f"{name}.weight"], rtol=0.02, atol=0.002)
        assert rounded or torch.equal(weight, meaning[f"{name}.weight"]), name
        in_cache = where[f"{name}.weight"].path.parent == cache
        assert in_cache == rounded, name
    again, _, same, _ = opened(packed["plain"], tmp_path, False, mixed=True)
    assert {k: (w.path, w.key) for k, w in same.items()} == {
        k: (w.path, w.key) for k, w in where.items()
    }


def test_factors_become_largest_values_and_back(tmp_path):
    """Exactly if they were made as 127ths, in the last digit otherwise."""
    torch.manual_seed(0)
    largest = torch.rand(100_000) * 3
    for factors, exact in ((largest / 127, True), (largest * (1 / 127), False)):
        path = tmp_path / "factors.safetensors"
        save_file({"s": factors}, path)
        out = torch.empty_like(factors)
        Reader().read(_largest_of(StoredTensor(path, "s")), out)
        assert torch.equal(out / 127, factors) or not exact
        assert (out / 127 - factors).abs().le(factors * 2**-23).all()
        assert (out / 127 == factors).float().mean() > 0.98
