"""Stable Diffusion 3.5's pipeline, tiny and random: medium's two kinds of blocks, and the mask over text."""

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
)
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from blockskip.core.paths import ASSETS
from blockskip.lab.selection.text_masking import text_hidden
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span

PARTS = ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")
ROW = checks.tiny_row("sd3", PARTS)
TOKENS, CLIP_TOKENS, SIDE = 8, 13, 24
DEMO = ASSETS / "demo-model"


def clip(width: int) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    words = CLIPTokenizer.from_pretrained(DEMO / "tokenizer", model_max_length=CLIP_TOKENS)
    shape = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        projection_dim=5,
        eos_token_id=words.eos_token_id,
    )
    return CLIPTextModelWithProjection(shape).eval(), words


def t5() -> tuple[T5EncoderModel, T5Tokenizer]:
    words = T5Tokenizer.from_pretrained(DEMO / "tokenizer_2")
    shape = T5Config(vocab_size=len(words), d_model=20, d_kv=6, d_ff=24, num_layers=3, num_heads=3)
    return T5EncoderModel(shape).eval(), words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    transformer = CASES["sd3"].model()
    transformer.pos_embed.pos_embed.normal_()  # the file's positions, not those of the class
    encoders = clip(8), clip(10), t5()
    pipe = StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        checks.tiny_vae(4, 1.5305, 0.0609),
        *(part for encoder in encoders for part in encoder),
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny sd3"
    pipe.save_pretrained(path)
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS, before=CLIP_TOKENS)


def test_pictures(folder):
    checks.check_pictures(
        ROW, folder, TOKENS, SIDE, 3.0, guidance_scale=3.0, max_sequence_length=TOKENS
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


def test_export(folder, tmp_path):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), "attention+ff")


def test_every_linear_of_attention_that_can_learn_has_a_lora():
    """Medium's second attention too; not what the last block asks for a text that it does not give."""
    model, family = CASES["sd3"].model(), CASES["sd3"].family
    lora = add_lora(model, family, Span(0, 0), 2, "attention", seed=0)
    blocks = [sum(f"_blocks.{i}." in n for n in lora) // 2 for i in range(6)]
    assert blocks == [12, 12, 8, 8, 8, 6]


class ByHand:
    """SD3's joint attention written out: image queries over image keys, text queries over all."""

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None):
        def heads(x, names):
            for linear, norm in names:
                part = getattr(attn, linear)(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
                yield getattr(attn, norm)(part) if norm else part

        of_image = [("to_q", "norm_q"), ("to_k", "norm_k"), ("to_v", None)]
        of_text = [
            ("add_q_proj", "norm_added_q"),
            ("add_k_proj", "norm_added_k"),
            ("add_v_proj", None),
        ]
        q, k, v = heads(hidden_states, of_image)
        text_q, text_k, text_v = heads(encoder_hidden_states, of_text)
        image = scaled_dot_product_attention(q, k, v)
        text = scaled_dot_product_attention(
            text_q, torch.cat([text_k, k], 2), torch.cat([text_v, v], 2)
        )
        image, text = (x.transpose(1, 2).flatten(2) for x in (image, text))
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


@pytest.mark.parametrize("span", [range(1), range(1, 4), range(5, 6), range(6)])
def test_masking_a_span_is_attention_without_the_text_keys(span):
    case = CASES["sd3"]
    model, draws, family = case.model(), case.draws(), case.family

    @torch.no_grad()
    def said():
        given = family.inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
        return family.velocity(model(**given))

    plain = said()
    image = (draws.noisy.shape[-1] // 2) ** 2
    with text_hidden(family, family.blocks(model), span, image):
        masked = said()
    assert torch.equal(said(), plain), "afterwards all is as before"
    for i in span:
        model.transformer_blocks[i].attn.set_processor(ByHand())
    torch.testing.assert_close(masked, said(), atol=2e-5, rtol=1e-4)
    assert (masked - plain).abs().max() > 1e-3


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
