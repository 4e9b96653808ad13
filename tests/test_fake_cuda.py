"""On a graphics card nothing may meet what waits in RAM: windows and previews on a pretended one."""

from contextlib import nullcontext

import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from fake_cuda import CARD, fake_cuda, to_card
from families.cases import CASES

from blockskip import preview
from blockskip.config import ASSETS, model_row
from blockskip.families.base import Sampling, Text
from blockskip.families.flux import Flux
from blockskip.lab.meta_models import Streamed, build_transformer, weights
from blockskip.lab.peak import PeakMeter, card_kernels, fake_card
from blockskip.memory.tables import GIB, Choice, stage_needs
from blockskip.residuals import Alongside, Span, WindowInputs, compute_window, full_velocity
from blockskip.skipping import add_lora

FAMILY = Flux()


def on_cpu(tensors) -> bool:
    return all(tensor.device.type == "cpu" for tensor in tensors)


@pytest.mark.parametrize(
    "name, front, on_card", [("flux", 0, False), *((name, 1, True) for name in CASES)]
)
def test_a_window_is_in_ram_afterwards(name, front, on_card):
    case = CASES[name]
    span, model, family = Span(front, 1), case.model(), case.family
    add_lora(model, family, span, 4, "attention", 0)
    draws, more = case.draws(), case.draws(num=3)
    with fake_cuda():
        to_card(model)
        alongside = Alongside(more, lambda name: nullcontext())
        window = compute_window(
            model, family, span, draws, 4, CARD, alongside=alongside, on_card=on_card
        )
        assert on_cpu(window.values()) and "back" in window
        assert on_cpu([alongside.velocity, full_velocity(model, family, draws, 4, CARD)])


@pytest.mark.parametrize("rows", [1, preview.TOGETHER])
@pytest.mark.parametrize("tiled", [False, True])
def test_pictures_are_sampled_where_their_inputs_wait(rows, tiled, monkeypatch):
    demo = Flux()  # of its own: loading tells it how many pixels a token is
    pipe = demo.load(ASSETS / "demo-model", torch.float32)
    monkeypatch.setattr(VaeImageProcessor, "postprocess", lambda self, pixels, **_: [pixels])
    with fake_cuda():
        to_card(pipe.transformer)
        to_card(pipe.vae)
        config = pipe.transformer.config
        text = Text(
            torch.empty(3, 22, config.joint_attention_dim),
            torch.empty(3, config.pooled_projection_dim),
        )
        sampling, seeds = Sampling(64, 2, 3.0), [1, 2]
        parts = text.rows([0, 1]), text.rows([2]), sampling, seeds, CARD, rows, tiled
        (pixels,) = preview.sample(demo, pipe, *parts)
        assert pixels.shape == (2, 3, 64, 64)


class OnCard(PeakMeter):
    """Counts what is on the card, not what waits in RAM."""

    def _track(self, tensor):
        if tensor.is_cuda:
            super()._track(tensor)


@pytest.mark.parametrize("on_card", [True, False])
def test_a_window_of_full_size_takes_of_the_card_what_is_planned(on_card):
    """The real walk through all blocks, which lab/simulate.py only imitates."""
    draws, row, span = 16, model_row("flux-dev"), Span(19, 10)
    choice = Choice(side_px=256, rows=4, window_on_card=draws * on_card, middle="leaves")
    with fake_card():
        model = build_transformer(row, "bf16")
        lora = add_lora(model, FAMILY, span, choice.rank, choice.targets, 0)
    names, streamed = set(lora), [block for _, block in FAMILY.blocks(model)]
    with fake_cuda(), card_kernels():
        to_card(model)
        lora = [p for name, p in model.named_parameters() if p.dtype == torch.float32]
        assert len(lora) == len(names)
        around = weights(*(c for n, c in model.named_children() if "blocks" not in n))
        state = [torch.empty_like(p) for p in (*lora, *lora)]  # AdamW's
        with OnCard() as meter:
            Streamed(meter, streamed, [*around, *lora, *state])
            given = WindowInputs(
                torch.empty(draws, 256, 64),
                Text(torch.empty(draws, 512, 4096), torch.empty(draws, 768)),
                torch.empty(draws, dtype=torch.float32),
                256,
                True,
            )
            meter.restart()
            compute_window(model, FAMILY, span, given, choice.rows, CARD, on_card=on_card)
    planned = stage_needs(row, choice)["residuals"].vram_gib
    assert meter.peak_bytes / GIB <= planned * 1.01 and planned <= meter.peak_bytes / GIB * 1.05
