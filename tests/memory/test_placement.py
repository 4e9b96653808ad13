"""Weights that wait in files: the same digits as weights in RAM, read once, files untouched."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.parked import CPU, KEEP_ALL, is_empty, num_bytes, offloaded_model, saved_checkpoint
from helpers.tiny import randomise, tiny_draws, tiny_flux
from helpers.training import SETTINGS, losses, trainer
from torch import nn

from blockskip.core.settings import ALL_BLOCKS
from blockskip.memory import layerwise
from blockskip.memory.placement import on_device, pin_on_device, streamed_block
from blockskip.memory.streaming import offloaded_params
from blockskip.models.families.flux import Flux
from blockskip.training import optimizer, residuals
from blockskip.training.lora import add_lora
from blockskip.training.residuals import PriorPass, Span, compute_window, full_velocity
from blockskip.training.skipping import skip_blocks, velocity

FAMILY, SPAN = Flux(), Span(1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_checkpoint(tmp_path_factory.mktemp("model") / "tränsformer")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_full_model_gives_the_same_bits_and_each_weight_is_read_once(folder):
    before, draws = contents(folder), tiny_draws()
    model, store = offloaded_model(folder)
    answer = full_velocity(model, FAMILY, draws, 2, CPU)
    assert torch.equal(answer, full_velocity(tiny_flux(), FAMILY, draws, 2, CPU))
    assert store.stats.read_bytes == store.stats.transferred_bytes == num_bytes(tiny_flux())
    assert set(store.stats.reads.values()) == {1}
    assert is_empty(model)
    assert contents(folder) == before


@pytest.mark.parametrize("keep_bytes", [0, 200_000, KEEP_ALL])
def test_a_window_has_the_same_bits_wherever_weights_wait(folder, keep_bytes):
    model, store = offloaded_model(folder, keep_bytes)
    whole, draws = tiny_flux(), tiny_draws()
    for one in (model, whole):
        randomise(add_lora(one, FAMILY, SPAN, 4, "attention+ff", seed=0))
    for _ in range(2):
        window = compute_window(model, FAMILY, SPAN, draws, 2, CPU)
        expected = compute_window(whole, FAMILY, SPAN, draws, 2, CPU)
        assert window.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in window.items())
    reads = set(store.stats.reads.values())
    assert reads == {0: {2}, 200_000: {1, 2}, KEEP_ALL: {1}}[keep_bytes]


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_a_window_is_the_same_a_few_rows_at_a_time(folder, rows, monkeypatch):
    """As where a card has no room for it; embedders and head then round differently."""
    draws, found = tiny_draws(), []
    for card in (False, True):
        if card:
            monkeypatch.setattr(residuals, "offload_side_modules", layerwise.in_host_memory)
        model, store = offloaded_model(folder)
        randomise(add_lora(model, FAMILY, SPAN, 4, "attention", seed=0))
        prior_pass = PriorPass(draws, lambda name: nullcontext())
        window = compute_window(model, FAMILY, SPAN, draws, rows, CPU, prior_pass=prior_pass)
        assert is_empty(model) and set(store.stats.reads.values()) == {1}
        found.append(window | {"alongside": prior_pass.velocity})
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-5, atol=1e-5)


def gradients(model, lora, window, draws, **how):
    with skip_blocks(model, FAMILY, SPAN, **how) as step_inputs, step_inputs.bind(window):
        pin_on_device(CPU, model)
        velocity(
            model, FAMILY, step_inputs, window, draws.text, draws.side_px
        ).square().mean().backward()
    found = {name: p.grad.clone() for name, p in lora.items()}
    for parameter in lora.values():
        parameter.grad = None
    return found


@pytest.mark.parametrize("keep_bytes", [0, KEEP_ALL])
def test_a_streamed_middle_has_the_gradients_of_one_that_stays(folder, keep_bytes):
    draws = tiny_draws()
    whole, (model, store) = tiny_flux(), offloaded_model(folder, keep_bytes)
    loras = []
    for one in (whole, model):
        loras.append(add_lora(one, FAMILY, SPAN, 4, "attention+ff", seed=0))
        randomise(loras[-1])
    window = compute_window(whole, FAMILY, SPAN, draws, 2, CPU)
    expected = gradients(whole, loras[0], window, draws)
    store.stats.reads.clear()
    for _ in range(2):
        actual = gradients(model, loras[1], window, draws, streamed_to=CPU)
        assert all(torch.equal(actual[name], grad) for name, grad in expected.items())
    blocks = [name for name, _ in FAMILY.blocks(model)]
    middle = {n for n in store.stats.reads if ".".join(n.split(".")[:2]) in blocks[1:4]}
    assert {store.stats.reads[n] for n in middle} == ({4} if keep_bytes == 0 else {1})
    assert not [n for n in middle if "norm" in n and ".linear." in n], "modulation is replayed"
    if keep_bytes == 0:
        assert offloaded_params(FAMILY.blocks(model)[2][1]), "nothing stays behind"


@pytest.mark.parametrize(
    "change", [{}, {"middle": "streamed"}, {"middle": "leaves"}, {"prior": 0.4}]
)
def test_a_parked_run_is_the_resident_run_byte_for_byte(folder, tmp_path, change, monkeypatch):
    settings = SETTINGS.changed(steps=4, recomputed=ALL_BLOCKS)
    whole = trainer(tmp_path / "a", settings)
    if "prior" in change:
        settings = settings.changed(**change)
        whole = trainer(tmp_path / "a", settings)
    expected = losses(whole)
    whole.save(tmp_path / "whole.safetensors")
    model, store = offloaded_model(folder)
    monkeypatch.setattr("helpers.training.tiny_flux", lambda: model)
    one = trainer(tmp_path / "b", settings.changed(**change))
    middle = FAMILY.blocks(model)[1:4]
    if not change:
        left = {key for _, block in middle for leaf, key, _ in offloaded_params(block)}
        assert left == {"weight", "bias"}  # of modulation linears, and of nothing else:
        names = {slot.name for _, block in middle for _, _, slot in offloaded_params(block)}
        assert all("norm" in name and ".linear." in name for name in names)
    assert losses(one) == expected
    one.save(tmp_path / "parked.safetensors")
    written = (tmp_path / "parked.safetensors").read_bytes()
    assert written == (tmp_path / "whole.safetensors").read_bytes()
    if "middle" not in change:
        # two windows: skipped blocks, embedders and modulation twice, the middle and the head once
        assert set(store.stats.reads.values()) == {1, 2}


def test_lora_on_absent_weights_starts_as_on_present_ones(folder):
    model, _ = offloaded_model(folder)
    lora = add_lora(model, FAMILY, SPAN, 4, "attention", seed=3)
    expected = add_lora(tiny_flux(), FAMILY, SPAN, 4, "attention", seed=3)
    assert lora.keys() == expected.keys() and is_empty(model)
    for name, parameter in lora.items():
        assert torch.equal(parameter, expected[name]) and parameter.dtype == torch.float32


def test_lora_of_a_half_precision_model_is_trained_in_full():
    lora = add_lora(tiny_flux().bfloat16(), FAMILY, SPAN, 4, "attention", seed=3)
    assert {parameter.dtype for parameter in lora.values()} == {torch.float32}


def test_a_traversal_cut_off_leaves_nothing_behind(folder):
    model, _ = offloaded_model(folder)

    def stop(n, total):
        if n == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_window(model, FAMILY, SPAN, tiny_draws(), 2, CPU, stop)
    assert is_empty(model)
    answer = full_velocity(model, FAMILY, tiny_draws(), 2, CPU)
    assert torch.equal(answer, full_velocity(tiny_flux(), FAMILY, tiny_draws(), 2, CPU))


def test_two_host_buffers_carry_any_number_of_blocks(folder):
    model, store = offloaded_model(folder)
    blocks = [block for _, block in FAMILY.blocks(model)]
    seen = []
    with torch.no_grad(), on_device(CPU, *model.children()):
        pass
    with torch.no_grad():
        for block, ahead in zip(blocks, [*blocks[1:], None], strict=True):
            with streamed_block(CPU, block, ahead):
                seen.append(next(block.parameters()).untyped_storage().data_ptr())
    grown = len(set(seen[2:]))  # single blocks are of one size
    assert grown <= 2, "only two buffers"


def test_a_preview_has_the_same_pixels(monkeypatch):
    from blockskip.core.paths import ASSETS
    from blockskip.core.presets import model_row
    from blockskip.core.settings import Settings
    from blockskip.memory.open_model import open_model
    from blockskip.models.families.base import Sampling
    from blockskip.models.sources import Source
    from blockskip.sampling import sample
    from blockskip.training import encode

    monkeypatch.setattr(sample, "offload_side_modules", layerwise.in_host_memory)

    row, folder = model_row("demo"), ASSETS / "demo-model"
    pipes = [
        FAMILY.load(folder, torch.float32),
        open_model(FAMILY, row, Source(row, folder), Settings.of(ram_weights_gib=0), CPU),
    ]
    shown, pictures = [], []
    for pipe in pipes:
        text = encode.encode_captions(FAMILY, pipe, ["a red cat", ""], row.text_tokens)
        sampling = Sampling(32, 1, row.preview_guidance)
        (image,) = sample.sample(FAMILY, pipe, text.rows([0]), text.rows([1]), sampling, [5], CPU)
        shown.append((text.embeds, text.pooled_or_mask, image.tobytes()))
        few, how = Sampling(32, 2, row.preview_guidance), {"rows": 1, "tiled": True}
        for seeds, more in (([5, 6], {}), ([5, 6], how)):
            texts = text.rows([0] * len(seeds))
            pictures.append(
                sample.sample(FAMILY, pipe, texts, text.rows([1]), few, seeds, CPU, **more)
            )
        assert not pipe.vae.use_tiling and "decode" not in vars(pipe.vae), "as it was"
    for one, other in zip(pictures[0], pictures[1], strict=True):  # one at a time: other rounding
        assert abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 2
    assert torch.equal(shown[0][0], shown[1][0]) and torch.equal(shown[0][1], shown[1][1])
    assert shown[0][2] == shown[1][2]


def test_adam_of_a_card_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    """There one kernel moves all parameters, and steps are counted beside them."""

    def fused(lora, lr):
        return torch.optim.AdamW(lora.values(), lr, (0.9, 0.99), weight_decay=0.0, fused=True)

    monkeypatch.setattr(optimizer, "make", fused)
    settings = SETTINGS.changed(steps=4)
    whole = trainer(tmp_path / "a", settings)
    expected = losses(whole)
    first = trainer(tmp_path / "b", settings)
    start = losses(first, 2)
    first.save(tmp_path / "cut.safetensors")
    again = trainer(tmp_path / "c", settings)
    again.load(tmp_path / "cut.safetensors")
    assert start + losses(again) == expected


def test_only_linears_that_are_absent_are_brought():
    """A model that was never parked is moved as a whole and comes back to its own memory."""
    layer = nn.Linear(3, 2)
    before = layer.weight.data_ptr()
    with on_device(CPU, layer):
        assert layer.weight.data_ptr() == before
    assert not offloaded_params(layer)
