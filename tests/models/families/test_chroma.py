"""Chroma's pipeline, tiny and random."""

import pytest
import torch
from diffusers import ChromaPipeline, FlowMatchEulerDiscreteScheduler
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from blockskip.training.residuals import Span

ROW = checks.tiny_row("chroma", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 40, 24  # mostly padding


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in checks.WORDS)]
    words = T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0)
    text = T5EncoderModel(
        T5Config(
            vocab_size=len(words),
            d_model=20,
            d_kv=8,
            d_ff=16,
            num_layers=3,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )
    transformer = CASES["chroma"].model()
    # so that blocks have a say in the picture
    transformer.distilled_guidance_layer.out_proj.weight.mul_(10)
    pipe = ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=checks.tiny_vae(3, 0.3611, 0.1159),
        text_encoder=text.eval(),
        tokenizer=words,
        transformer=transformer,
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny chroma"
    pipe.save_pretrained(path)
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_pictures(folder):
    """The library's, once its mask is true and false and not numbers that are added to scores."""

    def mend(pipe):
        def encoded(*given, whole=pipe._get_t5_prompt_embeds, **more):
            embeds, mask = whole(*given, **more)
            return embeds, mask.bool()

        pipe._get_t5_prompt_embeds = encoded

    call = {"guidance_scale": 3.0, "max_sequence_length": TOKENS}
    checks.check_pictures(ROW, folder, TOKENS, SIDE, 3.0, mend, **call)


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


@pytest.mark.parametrize("targets", ["attention", "attention+ff"])
def test_export(folder, tmp_path, targets):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), targets)


def test_padding_changes_nothing_but_its_first_token(folder):
    """What is masked is not read: by no block, at no place, however many there are."""
    case = CASES["chroma"]
    model, family, draws = case.model(), case.family, case.draws()
    hidden = draws.text.pooled_or_mask == 0
    assert hidden.any()
    said = []
    for noise in (0, 5):
        embeds = torch.where(hidden[..., None], draws.text.embeds + noise, draws.text.embeds)
        text = type(draws.text)(embeds, draws.text.pooled_or_mask)
        given = family.inputs(model.config, draws.noisy, text, draws.t, draws.side_px)
        with torch.no_grad():
            said.append(family.velocity(model(**given)))
    assert torch.equal(*said)


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
