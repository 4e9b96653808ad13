"""Z-Image's pipeline, tiny and random."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from blockskip.core.settings import Settings
from blockskip.memory.open_model import open_model
from blockskip.models.families.z_image import ZImage
from blockskip.models.sources import Source
from blockskip.training import encode
from blockskip.training.residuals import PriorPass, Span, compute_window

ROW = checks.tiny_row("z_image", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 40, 24
CHAT = (  # so long that one caption has fewer than 32 tokens and another more
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} {{ 'end ' * 16 }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        PreTrainedTokenizerFast,
        [*checks.WORDS, "<|", "|>", "user", "end", "assistant"],
        unk_token="<unk>",
        pad_token="<pad>",
    )
    words.chat_template = CHAT
    text = Qwen3Model(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=20,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=checks.tiny_vae(3, 0.36, 0.12),
        text_encoder=text.eval(),
        tokenizer=words,
        transformer=CASES["z_image"].model(),
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny z image"
    pipe.save_pretrained(path)
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_captions_are_the_librarys(folder):
    family, pipe = checks.opened(ROW, folder)
    text = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS)
    given = family.inputs(
        pipe.transformer.config, torch.zeros(3, 36, 12), text, torch.ones(3), SIDE
    )
    whole = family.load(folder, torch.float32)
    with torch.no_grad():
        captions = list(checks.CAPTIONS)
        expected, _ = whole.encode_prompt(captions, None, False, max_sequence_length=TOKENS)
    lengths = [len(caption) for caption in given["cap_feats"]]
    assert lengths[0] < 32 < lengths[2]
    for one, other in zip(given["cap_feats"], expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_pictures(folder):
    """One caption is padded to 32 tokens, the other to 64; an image of 36 tokens to 64."""
    checks.check_pictures(
        ROW, folder, TOKENS, SIDE, 4.0, guidance_scale=3.0, max_sequence_length=TOKENS
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


def test_a_window_reads_every_weight_once(folder):
    """Refiners too, which are brought one after the other as blocks are."""
    family, settings = ZImage(), Settings.of(ram_weights_gib=0)
    pipe = open_model(family, ROW, Source(ROW, folder), settings, checks.CPU)
    draws = CASES["z_image"].draws()
    draws = dataclasses.replace(draws, side_px=3 * family.pixel_multiple)
    prior_pass = PriorPass(draws, lambda name: nullcontext())
    compute_window(
        pipe.transformer, family, Span(1, 2), draws, 2, checks.CPU, prior_pass=prior_pass
    )
    reads = pipe.transformer._store.stats.reads
    assert set(reads.values()) == {1}
    assert len(reads) == len(list(pipe.transformer.parameters()))
    here = [n for n, p in pipe.transformer.named_parameters() if not p.is_meta]
    assert not here, "and lets them go"


def test_export(folder, tmp_path):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), "attention+ff")


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
