"""Krea 2's pipeline, tiny and random."""

import pytest
import torch
from helpers import family_checks as checks
from helpers import tiny_krea2
from helpers.fake_cuda import CARD, fake_cuda, to_card
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling

from blockskip.memory.streaming import weight_stores
from blockskip.models.families.base import Text, get_family
from blockskip.models.families.caption_modules import caption_modules
from blockskip.training import encode
from blockskip.training.lora import lora_layers
from blockskip.training.residuals import Span, WindowInputs, compute_window, full_velocity

ROW = checks.tiny_row("krea2", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 24, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_krea2.save_pipeline(tmp_path_factory.mktemp("tränsformer") / "tiny krea 2")


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_captions_are_the_librarys(folder):
    """They are what its text fusion makes of them, and padding changes nothing."""
    family, pipe = checks.opened(ROW, folder)
    text = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS)
    whole = family.load(folder, torch.float32)
    assert len(whole.tokenizer(whole.prompt_template_encode_prefix).input_ids) == 34
    with torch.no_grad():
        states, mask = whole.encode_prompt(checks.CAPTIONS, max_sequence_length=TOKENS)
        embeds = whole.transformer.text_fusion(states, attention_mask=mask[:, None, None])
    assert torch.equal(text.pooled_or_mask.bool(), mask) and len(set(mask.sum(1).tolist())) == 3
    torch.testing.assert_close(text.embeds, embeds, atol=1e-5, rtol=1e-4)
    short = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS - 5)
    for row, its_mask in enumerate(short.pooled_or_mask.bool()):
        read = text.embeds[row][mask[row]]
        torch.testing.assert_close(short.embeds[row][its_mask], read, atol=1e-5, rtol=1e-4)


def test_captions_are_read_on_a_card(folder):
    """No operation mixes devices, and what waits for the fusion waits in RAM."""
    family = get_family("krea2")
    pipe = family.load(folder, torch.float32)
    taken, fusion = [], pipe.transformer.text_fusion
    fusion.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    with fake_cuda():
        to_card(pipe.text_encoder)
        to_card(pipe.transformer)
        text = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS, CARD)
        assert text.embeds.device.type == text.pooled_or_mask.device.type == "cpu"
        assert [states.device.type for states in taken] == ["cuda"] * 3
        assert {len(states) for states in taken} == {1}, "a caption at a time"


def test_what_sees_the_caption_alone_only_reads_captions(folder):
    """Its weights are loaded when captions are encoded, and not for a window or the whole model."""
    family, pipe = checks.opened(ROW, folder)
    (store,) = weight_stores([pipe.transformer])
    names = {f"{part}." for part in family.caption_modules}

    def loaded():
        return {name: n for name, n in store.stats.reads.items() if name.startswith(tuple(names))}

    assert not [n for n, _ in pipe.transformer.named_parameters() if n.startswith(tuple(names))]
    text = encode.encode_captions(family, pipe, checks.CAPTIONS[:2], TOKENS)
    once = loaded()
    assert once and set(once.values()) == {1}
    (fusion,) = caption_modules(pipe.transformer, family).values()
    assert all(parameter.is_meta for parameter in fusion.parameters()), "gone again"
    draws = WindowInputs(torch.randn(2, 36, 12), text, torch.rand(2), SIDE)
    compute_window(pipe.transformer, family, Span(2, 1), draws, 1, torch.device("cpu"))
    full_velocity(pipe.transformer, family, draws, 1, torch.device("cpu"))
    assert loaded() == once


def test_the_whole_model_gives_the_same_of_unread_captions():
    """The library's forward, with the states of a caption that nobody read before."""
    case = CASES["krea2"]
    family, draws = case.family, case.draws()
    whole, ours = case.whole_model(), case.model()
    states = torch.randn(len(draws), *family.caption_states(whole, case.tokens))
    mask = draws.text.pooled_or_mask.bool()[:, None, None]
    with torch.no_grad():
        read = caption_modules(ours, family)["text_fusion"](states, attention_mask=mask)

        def velocity(model, embeds):
            text = Text(embeds, draws.text.pooled_or_mask)
            inputs = family.inputs(model.config, draws.noisy, text, draws.t, draws.side_px)
            return family.velocity(model(**inputs))

        assert torch.equal(velocity(ours, read), velocity(whole, states))
    layers = lora_layers(whole, family, Span(0, 0), "attention+ff")
    assert len(layers) == 6 * 8 and not [name for name in layers if "fusion" in name]


@pytest.mark.parametrize("guidance", [1.0, 4.5])
def test_pictures(folder, guidance):
    """The library counts guidance from 0."""
    checks.check_pictures(
        ROW,
        folder,
        TOKENS,
        SIDE,
        guidance,
        guidance_scale=guidance - 1,
        max_sequence_length=TOKENS,
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


@pytest.mark.parametrize("targets", ["attention", "attention+ff"])
def test_export(folder, tmp_path, targets):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), targets)


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
