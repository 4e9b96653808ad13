"""SANA's pipeline, tiny and random."""

import pytest
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizerFast

from blockskip.memory.placement import pin_on_device
from blockskip.models.families.base import Sampling
from blockskip.training import encode
from blockskip.training.residuals import Span

ROW = checks.tiny_row("sana", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 8, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        GemmaTokenizerFast,
        checks.WORDS,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    text = Gemma2Model(
        Gemma2Config(
            vocab_size=len(words),
            hidden_size=20,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            pad_token_id=words.pad_token_id,
        )
    )
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    pipe = SanaPipeline(
        tokenizer=words,
        text_encoder=text.eval(),
        vae=vae.eval(),
        transformer=CASES["sana"].model(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny sana"
    pipe.save_pretrained(path)
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_pictures(folder):
    checks.check_pictures(
        ROW,
        folder,
        TOKENS,
        SIDE,
        3.0,
        guidance_scale=3.0,
        max_sequence_length=TOKENS,
        use_resolution_binning=False,
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


def test_export(folder, tmp_path):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), "attention")


def test_a_vae_without_room_is_told_as_such(folder, monkeypatch):
    """The library catches that and goes on without a picture; a preview then eases to tiles."""
    family, pipe = checks.opened(ROW, folder)
    pin_on_device(checks.CPU, pipe.transformer)

    def full(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(pipe.vae, "decode", full)
    text = encode.encode_captions(family, pipe, ["a cat", ""], TOKENS)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="no room"):
        family.sample(pipe, text.rows([0]), text.rows([1]), Sampling(SIDE, 1, 3.0), [0])


def test_an_encoder_is_read_once_for_several_captions(folder, monkeypatch):
    family = checks.get_family("sana")
    pipe, passed = family.load(folder, torch.float32), []
    pipe.text_encoder.norm.register_forward_hook(lambda *_: passed.append(1))
    with torch.no_grad():
        text = family.encode_text(pipe, [*checks.CAPTIONS, checks.CAPTIONS[0]], TOKENS)
    assert len(passed) == 2, "captions, and the empty one"
    assert torch.equal(text.embeds[0], text.embeds[3])


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
