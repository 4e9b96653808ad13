"""Qwen-Image's pipeline, tiny and random."""

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from blockskip.training import encode
from blockskip.training.residuals import Span

ROW = checks.tiny_row("qwen_image", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 24, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        PreTrainedTokenizerFast,
        [*checks.WORDS, "user", "assistant"],
        unk_token="<unk>",
        pad_token="<pad>",
    )
    text = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 20,
                "intermediate_size": 16,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 2]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 20,
            },
        )
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=3,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.2, 0.1, 0.3],
        latents_std=[0.5, 2.0, 1.5],
    )
    pipe = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=words,
        transformer=CASES["qwen_image"].model(),
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny qwen image"
    pipe.save_pretrained(path)
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_captions_are_the_librarys(folder):
    family, pipe = checks.opened(ROW, folder)
    text = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS)
    whole = family.load(folder, torch.float32)
    captions = [caption or " " for caption in checks.CAPTIONS]
    with torch.no_grad():
        embeds, mask = whole.encode_prompt(captions, max_sequence_length=TOKENS)
    length = embeds.shape[1]
    assert len(set(mask.sum(1).tolist())) == 3 and length < TOKENS
    torch.testing.assert_close(text.embeds[:, :length], embeds, atol=1e-5, rtol=1e-4)
    assert torch.equal(text.pooled_or_mask[:, :length], mask.float())
    assert not text.pooled_or_mask[:, length:].any() and not text.embeds[:, length:].any()


def test_pictures(folder):
    checks.check_pictures(
        ROW,
        folder,
        TOKENS,
        SIDE,
        3.0,
        negative_prompt=[" ", " "],
        true_cfg_scale=3.0,
        max_sequence_length=TOKENS,
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


def test_export(folder, tmp_path):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), "attention+ff")


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
