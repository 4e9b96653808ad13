"""Products by oneDNN are torch's own but for rounding, whatever the layout of the matrices."""

import subprocess
import sys

import pytest
import torch

from blockskip.memory import cpu_products

LAYOUTS = {
    "as it is": lambda m: m,
    "transposed": lambda m: m.t().contiguous().t(),
    "part of rows": lambda m: torch.cat([m, m], 1)[:, : m.shape[1]],
    "every other": lambda m: torch.stack([m, m], 2)[:, :, 0],
    "one row": lambda m: m[:1].expand_as(m),
    "one column": lambda m: m[:, :1].expand_as(m),
}
pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN"
)


@pytest.mark.parametrize("of_x", LAYOUTS)
@pytest.mark.parametrize("of_y", LAYOUTS)
def test_every_layout_gives_the_product(of_x, of_y):
    torch.manual_seed(0)
    x, y = LAYOUTS[of_x](torch.randn(40, 24)), LAYOUTS[of_y](torch.randn(24, 36))
    expected = (x.double() @ y.double()).float()
    torch.testing.assert_close(cpu_products.mm(x, y), expected, atol=1e-5, rtol=1e-5)
    for added in (
        torch.randn(36),
        torch.randn(1),
        *(f(torch.randn(40, 36)) for f in LAYOUTS.values()),
    ):
        kept = added.clone()
        found = cpu_products.addmm(added, x, y)
        torch.testing.assert_close(found, expected + added, atol=1e-5, rtol=1e-5)
        scaled = cpu_products.addmm(added, x, y, beta=0.5, alpha=2)
        torch.testing.assert_close(scaled, 2 * expected + added / 2, atol=2e-5, rtol=1e-5)
        assert torch.equal(added, kept)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_what_it_cannot_do_is_left_to_torch(dtype):
    x, y = torch.randn(5, 0, dtype=dtype), torch.randn(0, 3, dtype=dtype)
    assert torch.equal(cpu_products.mm(x, y), torch.zeros(5, 3, dtype=dtype))
    assert cpu_products.addmm(torch.ones(3, dtype=dtype), x, y).sum() == 15
    assert cpu_products.mm(y, torch.ones(3, 2, dtype=dtype)).shape == (0, 2)
    x, y = torch.ones(4, 6, dtype=dtype), torch.ones(6, 2, dtype=dtype)
    assert (cpu_products.mm(x, y) == 6).all()
    with pytest.raises(RuntimeError):
        cpu_products.mm(x, x)


def test_a_process_that_uses_it_learns_the_same():
    """In a process of its own, since kernels stay replaced: gradients, other threads and types."""
    code = """
import threading, torch
from blockskip.memory.cpu_products import use_onednn
def results():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(24, 36), torch.randn(2, 5, 24, requires_grad=True)
    layer(x).square().sum().backward()
    half = torch.randn(4, 8, dtype=torch.bfloat16)
    return [x.grad, layer.weight.grad, layer.bias.grad, half @ half.T, torch.randn(0, 3) @ torch.randn(3, 2)]
before = results()
use_onednn(); use_onednn()
found = [results()]
thread = threading.Thread(target=lambda: found.append(results()))
thread.start(); thread.join()
for after in found:
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
assert len(found) == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)
