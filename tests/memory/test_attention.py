"""Masked attention never reaches cuDNN's kernel, and the math kernel is never used silently."""

from unittest import mock

import pytest
import torch
from helpers.family_cases import CASES
from torch.nn import functional

from blockskip.memory import attention
from blockskip.training.residuals import full_velocity


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_family_that_passes_a_mask_says_so(case, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", allowed := mock.Mock())
    attend, masks = functional.scaled_dot_product_attention, []

    def attending(query, key, value, attn_mask=None, *args, **options):
        masks.append(attn_mask)
        return attend(query, key, value, attn_mask, *args, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attending)
    with torch.no_grad():
        full_velocity(case.model(), case.family, case.draws(), 5, torch.device("cpu"))
    assert masks and (case.family.masks_attention or all(mask is None for mask in masks))
    attention.choose_kernels(case.family.masks_attention)
    allowed.assert_called_once_with(not case.family.masks_attention)


@pytest.mark.parametrize("fast", ["flash", "efficient", ""])
def test_only_the_math_kernel_is_warned_of(fast, monkeypatch):
    for kernel in ("flash", "efficient"):
        answer = lambda call, yes=kernel == fast: yes  # noqa: E731
        monkeypatch.setattr(torch.backends.cuda, f"can_use_{kernel}_attention", answer)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "RTX 2070")
    monkeypatch.setattr(torch, "zeros", lambda *shape, device, **more: torch.ones(shape, **more))
    asked = torch.bfloat16, 128, True
    warned = attention.math_kernel_warning(torch.device("cuda"), *asked)
    assert ("RTX 2070 has no fast attention" in warned) == (fast == "")
    assert attention.math_kernel_warning(torch.device("cpu"), *asked) == ""
