"""Blocks in 8 or 4 bits: one set of weights for every stage, made once, never half."""

import math

import pytest
import torch
from helpers.parked import CPU, is_empty, offloaded_model, saved_checkpoint
from helpers.tiny import randomise, tiny_draws, tiny_flux
from torch import nn

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.safetensors_files import Damaged
from blockskip.memory.quantisation import QuantisedLinear, dequantise, part_shapes, quantise
from blockskip.models.families.flux import Flux
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window, full_velocity
from blockskip.training.skipping import skip_blocks, velocity

FAMILY, SPAN = Flux(), Span(1, 2)
PRECISIONS = ["int8", "nf4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_checkpoint(tmp_path_factory.mktemp("model") / "transformer")


@pytest.fixture(scope="module")
def caches(tmp_path_factory, folder):
    root = tmp_path_factory.mktemp("caches")
    for precision in PRECISIONS:
        offloaded_model(folder, precision=precision, cache=root / precision)
    return root


@pytest.mark.parametrize("precision, error", [("int8", 0.01), ("nf4", 0.11)])
@pytest.mark.parametrize("shape", [(48, 192), (6, 30), (1, 64), (300, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_comes_back_nearly(precision, error, shape, dtype):
    torch.manual_seed(0)
    weight = torch.randn(shape).to(dtype)
    parts = quantise(weight, precision)
    expected = part_shapes(shape, precision)
    assert {n: (t.dtype, tuple(t.shape)) for n, t in parts.items()} == expected
    back = dequantise(parts, shape, precision, dtype)
    assert back.shape == weight.shape and back.dtype == dtype
    assert (back.float() - weight.float()).norm() < error * weight.float().norm()
    bits = 8 * sum(t.numel() * t.element_size() for t in parts.values()) / weight.numel()
    if weight.numel() > 5000:
        assert bits < (4.3 if precision == "nf4" else 8.7)


def test_pieces_quantise_as_the_whole(monkeypatch):
    weight = torch.randn(96, 64)
    whole = {p: quantise(weight, p) for p in PRECISIONS}
    monkeypatch.setattr("blockskip.memory.quantisation._CHUNK_WEIGHTS", 1024)
    for precision in PRECISIONS:
        for name, part in quantise(weight, precision).items():
            assert torch.equal(part, whole[precision][name]), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_quantised_linear_has_its_weights_product_and_gradient(precision):
    torch.manual_seed(1)
    linear = nn.Linear(64, 10)
    layer = QuantisedLinear(linear, precision)
    parts = quantise(linear.weight.detach(), precision)
    for name, part in parts.items():
        setattr(layer, name, nn.Parameter(part, requires_grad=False))
    plain = nn.Linear(64, 10)
    plain.weight = nn.Parameter(dequantise(parts, (10, 64), precision, torch.float32))
    plain.bias = linear.bias
    grads, outputs = [], []
    for one in (layer, plain):
        x = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        outputs.append(one(x))
        outputs[-1].square().sum().backward()
        grads.append(x.grad)
    assert torch.equal(*outputs)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_windows_and_the_middle_use_the_same_weights(folder, caches, precision):
    """Fresh residuals give the quantised full model's output: nothing differs between stages."""
    model, store = offloaded_model(folder, precision=precision, cache=caches / precision)
    draws = tiny_draws()
    randomise(add_lora(model, FAMILY, SPAN, 4, "attention+ff", seed=0))
    expected = full_velocity(model, FAMILY, draws, 5, CPU)
    window = compute_window(model, FAMILY, SPAN, draws, 5, CPU)
    with skip_blocks(model, FAMILY, SPAN, streamed_to=CPU) as step_inputs, step_inputs.bind(window):
        from blockskip.memory.placement import on_device

        with on_device(CPU, model):
            actual = velocity(model, FAMILY, step_inputs, window, draws.text, draws.side_px)
            actual.square().mean().backward()
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert is_empty(model)
    plain = full_velocity(tiny_flux(), FAMILY, draws, 5, CPU)
    plain_model, _ = offloaded_model(folder, precision=precision, cache=caches / precision)
    error = (full_velocity(plain_model, FAMILY, draws, 5, CPU) - plain).norm() / plain.norm()
    assert error < (0.01 if precision == "int8" else 0.15)


def test_the_cache_is_made_once(folder, tmp_path):
    cache = tmp_path / "nf4"
    offloaded_model(folder, precision="nf4", cache=cache)
    made = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in cache.iterdir()}
    assert len(made) == 6, "a file a block, and nothing else"
    offloaded_model(folder, precision="nf4", cache=cache)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in cache.iterdir()} == made


def test_a_flipped_bit_in_the_cache_is_noticed_and_the_file_made_again(folder, tmp_path):
    cache, draws = tmp_path / "nf4", tiny_draws(2)
    model, _ = offloaded_model(folder, precision="nf4", cache=cache)
    expected = full_velocity(model, FAMILY, draws, 5, CPU)
    path = cache / "transformer_blocks.1.safetensors"
    whole = path.read_bytes()
    for data in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-9], bytes(len(whole))):
        path.write_bytes(data)
        with pytest.raises(Damaged, match=r"transformer_blocks\.1\.safetensors") as error:
            model, _ = offloaded_model(folder, precision="nf4", cache=cache)
            full_velocity(model, FAMILY, draws, 5, CPU)
        error.value.path.unlink()
    model, _ = offloaded_model(folder, precision="nf4", cache=cache)
    assert path.read_bytes() == whole
    assert torch.equal(full_velocity(model, FAMILY, draws, 5, CPU), expected)


def test_an_interrupted_cache_holds_nothing_half_and_goes_on(folder, tmp_path, monkeypatch):
    whole, cache = tmp_path / "whole", tmp_path / "cut"
    offloaded_model(folder, precision="int8", cache=whole)
    real = files.replace
    calls = []

    def dies(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(files, "replace", dies)
    with pytest.raises(UserError, match="disk is full"):
        offloaded_model(folder, precision="int8", cache=cache)
    assert len(list(cache.iterdir())) == 2, "two whole blocks, no temporary file"
    offloaded_model(folder, precision="int8", cache=cache)
    assert {p.name: p.read_bytes() for p in cache.iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()
    }


def test_less_is_read_from_a_quantised_model(folder, caches):
    draws, read = tiny_draws(), {}
    for precision in ("full", *PRECISIONS):
        model, store = offloaded_model(folder, precision=precision, cache=caches / precision)
        full_velocity(model, FAMILY, draws, 5, CPU)
        read[precision] = store.stats.read_bytes
    assert read["nf4"] < read["int8"] < read["full"]
    assert math.isclose(read["int8"] / read["full"], 0.33, abs_tol=0.1)  # float32 here


def test_8_bits_are_unpacked_to_bitsandbytes_digits():
    from bitsandbytes.functional import int8_vectorwise_dequant

    parts = quantise(torch.randn(300, 130).bfloat16(), "int8")
    theirs = int8_vectorwise_dequant(parts["weight"], parts["scale"]).bfloat16()
    assert torch.equal(dequantise(parts, (300, 130), "int8", torch.bfloat16), theirs)
