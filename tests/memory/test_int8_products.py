"""Products in 8 bits: how exact they are, and that rows, pieces and padding do not matter."""

import json

import pytest
import torch
from torch import nn

from blockskip.memory import int8_products
from blockskip.memory.int8_products import int8_product, relative_error, rotated, rotation_group
from blockskip.memory.quantisation import QuantisedLinear, dequantise, int8_linears, quantise
from blockskip.sampling.arithmetic import choose_products


def with_outliers(rows, width, seed=0, count=8, times=20):
    """Return activations of which eight of 3072 channels are 20 times as large."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=source)
    x[:, torch.randperm(width, generator=source)[: max(1, count * width // 3072)]] *= times
    return x


def filled(linear, in_int8=True):
    layer = QuantisedLinear(linear, "int8", rotates=True)
    for name, part in quantise(linear.weight.detach(), "int8", layer.rotation).items():
        setattr(layer, name, nn.Parameter(part, requires_grad=False))
    layer.in_int8 = in_int8
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width, out_width", [(3072, 256), (1536, 96)])
def test_a_product_is_within_two_percent_whatever_the_outliers(width, out_width, dtype):
    torch.manual_seed(1)
    linear, x = nn.Linear(width, out_width), with_outliers(48, width)
    grad = with_outliers(48, out_width, seed=2)
    exact = x.requires_grad_()
    expected = linear(exact)
    expected.backward(grad)
    rounded = x.detach().to(dtype).requires_grad_()
    actual = filled(linear)(rounded)
    actual.backward(grad.to(dtype))
    assert actual.dtype == dtype and rounded.grad.dtype == dtype
    assert relative_error(actual.detach(), expected.detach()) < 0.02
    assert relative_error(rounded.grad, exact.grad) < 0.04
    plain = quantise(linear.weight.detach(), "int8")
    unrotated = int8_product(x.detach(), plain["weight"], plain["scale"], linear.bias, 1)
    assert relative_error(unrotated, expected.detach()) > 0.04, "without rotation it would not be"


@pytest.mark.parametrize("width, group", [(3072, 64), (15360, 256), (240, 16), (12, 4), (30, 1)])
def test_a_rotation_is_its_own_inverse(width, group):
    x = torch.randn(3, 2, width)
    assert rotation_group(width) == group
    torch.testing.assert_close(rotated(rotated(x, group), group), x)
    torch.testing.assert_close(rotated(x, group).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rotated_weight_is_unpacked_as_it_was(dtype):
    linear, x = nn.Linear(192, 96), with_outliers(20, 192).to(dtype)
    parts = quantise(linear.weight.detach(), "int8", 64)
    back = dequantise(parts, linear.weight.shape, "int8", dtype, 64)
    assert back.dtype == dtype and relative_error(back, linear.weight) < 0.01
    unpacked = filled(linear, in_int8=False)(x)
    assert torch.equal(unpacked, nn.functional.linear(x, back, linear.bias.to(dtype)))


def test_a_row_does_not_depend_on_others_nor_on_pieces(monkeypatch):
    layer, x = filled(nn.Linear(64, 40)), torch.randn(2, 300, 64)
    x[0, 3] = 0
    whole, grads = layer(x.requires_grad_()), {}
    whole.square().sum().backward()
    grads = x.grad.clone()
    assert torch.equal(layer(x[:1, :5]), whole[:1, :5]), "few rows are padded"
    torch.testing.assert_close(whole[0, 3], layer.bias)
    monkeypatch.setattr(int8_products, "INT8_PIECE_BYTES", 1)
    x.grad = None
    pieces = layer(x)
    pieces.square().sum().backward()
    assert torch.equal(pieces, whole) and torch.equal(x.grad, grads)


def test_rows_of_tiny_weights_and_gradients_keep_their_digits_in_float16():
    linear = nn.Linear(256, 64, bias=False)
    linear.weight.data[::2] *= 1e-4
    x, grad = torch.randn(32, 256) * 50, torch.randn(32, 64) * 1e-3
    layer, given = filled(linear), x.half().requires_grad_()
    actual, expected = layer(given), x @ linear.weight.detach().T
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        assert relative_error(actual[:, rows], expected[:, rows]) < 0.02
    actual.backward(grad.half())
    assert relative_error(given.grad, grad @ linear.weight.detach()) < 0.02


def test_an_overflow_does_not_become_a_number():
    layer, x = filled(nn.Linear(64, 40)), torch.randn(20, 64)
    x[2, 5], x[3, 6] = float("inf"), float("nan")
    finite = layer(x).isfinite().all(dim=1)
    assert not finite[2] and not finite[3] and finite.sum() == 18


class Two(nn.Module):
    """Two linears for tokens, one of which gets four large channels in a group, and one for whole draws."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Linear(8192, 8), nn.Linear(8192, 8)
        self.told = nn.Linear(64, 8)
        for name in ("fine", "coarse", "told"):
            setattr(self, name, filled(getattr(self, name), in_int8=False))

    def forward(self):
        x = torch.randn(1, 32, 8192, generator=torch.Generator().manual_seed(0))
        one = x.clone()
        one[..., 7:11] = 60.0
        return self.fine(x), self.coarse(one), self.told(x[:, 0, :64])


def test_linears_are_chosen_by_their_error_and_the_choice_is_kept(tmp_path):
    choices = []
    for damaged in (False, False, True):
        model, samples = Two(), []
        if damaged:
            (tmp_path / "int8_errors.json").write_text("[", encoding="utf-8")
        choose_products(model, tmp_path, lambda m=model, s=samples: s.append(m()))
        choices.append((int8_linears(model), len(samples)))
        model()
    assert choices == [(["fine"], 1), (["fine"], 0), (["fine"], 1)]
    errors = json.loads((tmp_path / "int8_errors.json").read_text(encoding="utf-8"))
    assert errors["fine"] < 0.018 < errors["coarse"] and "told" not in errors


def test_a_compiled_product_is_one_graph_and_the_same():
    layer, graphs = filled(nn.Linear(128, 64)), []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=count, fullgraph=True)
    results = []
    for product in (layer, compiled, compiled):
        x = with_outliers(40, 128).requires_grad_()
        output = product(x)
        output.square().sum().backward()
        results.append((output, x.grad))
    assert len(graphs) == 1, "nothing is compiled again"
    for output, grad in results[1:]:
        assert torch.equal(output, results[0][0]) and torch.equal(grad, results[0][1])
