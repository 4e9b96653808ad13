"""On a graphics card nothing may meet what waits in RAM: windows and previews on a pretended one."""

from contextlib import nullcontext

import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from fake_card import CARD, fake_card, to_card
from tiny import tiny_draws, tiny_flux

from blockskip import preview
from blockskip.config import ASSETS
from blockskip.families.base import Sampling, Text
from blockskip.families.flux import Flux
from blockskip.residuals import Alongside, Span, compute_window, full_velocity
from blockskip.skipping import add_lora

FAMILY = Flux()


def on_cpu(tensors) -> bool:
    return all(tensor.device.type == "cpu" for tensor in tensors)


@pytest.mark.parametrize("front", [0, 1])
@pytest.mark.parametrize("on_card", [True, False])
def test_a_window_is_in_ram_afterwards(front, on_card):
    span, model = Span(front, 1), tiny_flux(guidance=True)
    add_lora(model, FAMILY, span, 4, "attention", 0)
    with fake_card():
        to_card(model)
        draws, more = tiny_draws(guidance=True), tiny_draws(num=3, guidance=True)
        alongside = Alongside(more, lambda name: nullcontext())
        window = compute_window(
            model, FAMILY, span, draws, 2, CARD, alongside=alongside, on_card=on_card
        )
        assert on_cpu(window.values()) and "back" in window
        assert on_cpu([alongside.velocity, full_velocity(model, FAMILY, draws, 2, CARD)])


@pytest.mark.parametrize("rows", [1, preview.TOGETHER])
@pytest.mark.parametrize("tiled", [False, True])
def test_pictures_are_sampled_where_their_inputs_wait(rows, tiled, monkeypatch):
    pipe = FAMILY.load(ASSETS / "demo-model", torch.float32)
    monkeypatch.setattr(VaeImageProcessor, "postprocess", lambda self, pixels, **_: [pixels])
    with fake_card():
        to_card(pipe.transformer)
        to_card(pipe.vae)
        config = pipe.transformer.config
        text = Text(
            torch.empty(3, 22, config.joint_attention_dim),
            torch.empty(3, config.pooled_projection_dim),
        )
        sampling, seeds = Sampling(64, 2, 3.0), [1, 2]
        parts = text.rows([0, 1]), text.rows([2]), sampling, seeds, CARD, rows, tiled
        (pixels,) = preview.sample(FAMILY, pipe, *parts)
        assert pixels.shape == (2, 3, 64, 64)
