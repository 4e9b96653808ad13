"""Qwen-Image-2.1's pipeline, tiny and random."""

import json

import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
)
from helpers import family_checks as checks
from helpers.family_cases import CASES
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from blockskip.models.families.qwen_image21 import TextProcessor
from blockskip.training import encode
from blockskip.training.residuals import Span

ROW = checks.tiny_row("qwen_image21", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 24, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        PreTrainedTokenizerFast,
        [*checks.WORDS, "user", "assistant", "system", "prompt"],
        unk_token="<unk>",
        pad_token="<pad>",
    )
    words.add_tokens(["<|im_start|>", "<|im_end|>", "<|image_pad|>"], special_tokens=True)
    text = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 20,
                "intermediate_size": 16,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 10,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 2]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 20,
                "deepstack_visual_indexes": [0],
            },
        )
    )
    vae = AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=8,
        z_dim=6,
        dim_mult=[1, 1, 2, 2, 2],
        num_res_blocks=1,
        latents_mean=[-0.2, 0.1, 0.3, 0.0, 0.5, -0.4],
        latents_std=[0.5, 2.0, 1.5, 1.0, 0.7, 1.1],
    )
    pipe = QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02, use_dynamic_shifting=True
        ),
        vae=vae.eval(),
        text_encoder=text.eval(),
        processor=TextProcessor(words),
        transformer=CASES["qwen_image21"].model(),
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny qwen image 2.1"
    pipe.save_pretrained(path)
    index = json.loads((path / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen3VLProcessor"]  # as published
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_captions_are_the_librarys(folder):
    family, pipe = checks.opened(ROW, folder)
    text = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS)
    whole = family.load(folder, torch.float32)
    with torch.no_grad():
        embeds, mask, _ = whole.encode_prompt(list(checks.CAPTIONS))
    length = embeds.shape[1]
    assert len(set(mask.sum(1).tolist())) == 3 and length < TOKENS
    torch.testing.assert_close(text.embeds[:, :length], embeds, atol=1e-5, rtol=1e-4)
    assert torch.equal(text.pooled_or_mask[:, :length], mask.float())
    assert not text.pooled_or_mask[:, length:].any() and not text.embeds[:, length:].any()


def test_pictures(folder):
    """The library's are made with its cache of the text's keys."""
    negative = ["", ""]
    checks.check_pictures(
        ROW, folder, TOKENS, SIDE, 3.0, negative_prompt=negative, true_cfg_scale=3.0
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


def test_export(folder, tmp_path):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), "attention+ff")
