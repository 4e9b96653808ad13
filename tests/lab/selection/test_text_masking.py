"""Hiding text from image queries is attention recomputed without the text keys."""

import dataclasses

import pytest
import torch
from diffusers import SanaTransformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from helpers.family_cases import CASES
from helpers.tiny import tiny_draws, tiny_flux

from blockskip.lab.selection.text_masking import text_hidden
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Text
from blockskip.models.families.flux import Flux
from blockskip.models.families.sana import Sana

TEXT, IMAGE = 7, 9  # tokens of a case's draws


def heads(attn, x, names):
    """q, k, v (B, tokens, heads, ·) of the linears and norms of those names."""
    parts = []
    for linear, norm in names:
        part = getattr(attn, linear)(x).unflatten(-1, (attn.heads, -1))
        parts.append(getattr(attn, norm)(part) if norm else part)
    return parts


def attended(q, k, v, rotary, mask):
    """Text queries over all keys, image queries over image keys only, each as far as mask (B, 1,
    tokens, tokens) lets them; (B, tokens, D)."""
    q, k = (apply_rotary_emb(x, rotary, sequence_dim=1) for x in (q, k))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, heads, tokens, ·)
    mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool) if mask is None else mask

    def attend(queries, keys):
        scores = q[:, :, queries] @ k[:, :, keys].mT / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~mask[..., queries, keys], -torch.inf)
        return scores.softmax(-1).nan_to_num(0) @ v[:, :, keys]  # padding sees nothing

    everything, text, image = slice(None), slice(TEXT), slice(TEXT, None)
    out = torch.cat([attend(text, everything), attend(image, image)], 2)
    return out.transpose(1, 2).flatten(2)


def joint_by_hand(attn, hidden_states, encoder_hidden_states=None, mask=None, rotary=None):
    """The joint attention of FLUX's kin written out. Nothing of the library's processors is used but
    its projections and rotary table."""
    names = [("to_q", "norm_q"), ("to_k", "norm_k"), ("to_v", None)]
    added = [("add_q_proj", "norm_added_q"), ("add_k_proj", "norm_added_k"), ("add_v_proj", None)]
    parts = heads(attn, hidden_states, names)
    if encoder_hidden_states is None:
        return attended(*parts, rotary, mask)
    texts = heads(attn, encoder_hidden_states, added)
    parts = [torch.cat(two, 1) for two in zip(texts, parts, strict=True)]
    out = attended(*parts, rotary, mask)
    return attn.to_out[0](out[:, TEXT:]), attn.to_add_out(out[:, :TEXT])


def parallel_by_hand(attn, hidden_states, mask=None, rotary=None):
    """The same of FLUX.2's single blocks, where the feed-forward is in the same linears."""
    sizes = [attn.inner_dim] * 3 + [attn.mlp_hidden_dim] * 2
    *parts, gate, up = attn.to_qkv_mlp_proj(hidden_states).split(sizes, -1)
    q, k, v = (part.unflatten(-1, (attn.heads, -1)) for part in parts)
    out = attended(attn.norm_q(q), attn.norm_k(k), v, rotary, mask)
    return attn.to_out(torch.cat([out, torch.nn.functional.silu(gate) * up], -1))


def said(family, model, draws):
    with torch.no_grad():
        given = family.inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
        return family.predict(model, given)


SPANS = [range(1), range(2), range(1, 4), range(3, 6), range(6)]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("name", ["flux", "flux2", "chroma"])
def test_masking_a_span_is_attention_without_the_text_keys(name, span):
    case = CASES[name]
    model, draws, family = case.model(), case.draws(), case.family
    blocks, plain = family.blocks(model), said(family, model, draws)
    with text_hidden(family, blocks, span, IMAGE):
        masked = said(family, model, draws)
    assert torch.equal(said(family, model, draws), plain), "afterwards all is as before"
    for i in span:
        attention = blocks[i][1].attn
        fused = hasattr(attention, "to_qkv_mlp_proj")
        attention.set_processor(parallel_by_hand if fused else joint_by_hand)
    torch.testing.assert_close(masked, said(family, model, draws), atol=2e-5, rtol=1e-4)
    assert (masked - plain).abs().max() > 1e-3


def test_with_all_text_hidden_another_text_is_another_picture_only_by_the_pooled_vector():
    model, one = tiny_flux(), tiny_draws()
    words = Text(one.text.embeds.flip(0) + 1, one.text.pooled_or_mask)
    other = dataclasses.replace(one, text=words)
    family = Flux()
    assert not torch.allclose(said(family, model, one), said(family, model, other))
    with text_hidden(family, family.blocks(model), range(6), IMAGE):
        assert torch.equal(said(family, model, one), said(family, model, other))


def test_masked_blocks_may_be_wrapped():
    """As `preview.sample` wraps them; the masked attention is that of the block inside."""
    from blockskip.memory.layerwise import layerwise

    model, draws, family = tiny_flux(), tiny_draws(), Flux()
    with text_hidden(family, family.blocks(model), range(2), IMAGE):
        expected = said(family, model, draws)
        with replace_modules(model, layerwise(model, family, 2, torch.device("cpu"))):
            torch.testing.assert_close(said(family, model, draws), expected, atol=2e-5, rtol=1e-4)


def tiny_sana() -> SanaTransformer2DModel:
    torch.manual_seed(0)
    model = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=12,
        sample_size=4,
        interpolation_scale=None,
    )
    return model.requires_grad_(False).eval()


def sana_said(model, text):
    torch.manual_seed(1)
    image, t = torch.randn(2, 4, 4, 4), torch.tensor([300.0, 700.0])
    with torch.no_grad():
        return model(image, encoder_hidden_states=text, timestep=t, return_dict=False)[0]


@pytest.mark.parametrize("span", [range(1), range(1, 3), range(4)])
def test_masking_a_cross_attention_leaves_its_block_without_it(span):
    model, text = tiny_sana(), torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(2))
    plain = sana_said(model, text)
    blocks = [(f"transformer_blocks.{i}", b) for i, b in enumerate(model.transformer_blocks)]
    with text_hidden(Sana(), blocks, span, 16):
        masked = sana_said(model, text)
        other = sana_said(model, text + 1)
    assert torch.equal(masked, other) == (len(span) == 4), "only where all blocks are blind"
    assert torch.equal(sana_said(model, text), plain), "afterwards all is as before"
    for i in span:  # by hand: softmax over no keys gives nothing, not even the output's bias
        linear = model.transformer_blocks[i].attn2.to_out[0]
        linear.weight.zero_(), linear.bias.zero_()
    torch.testing.assert_close(masked, sana_said(model, text), atol=1e-6, rtol=1e-5)
    assert (masked - plain).abs().max() > 1e-4


def turned(x, freqs):
    """Rotary positions as complex numbers, freqs (…, tokens, ·/2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * freqs.unsqueeze(-2)).flatten(-2)


def answered(q, k, v, counts):
    """(B, queries, heads · D) over the keys that count, (B, keys)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~counts[:, None, None], -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


OWN = [("to_q", "norm_q"), ("to_k", "norm_k"), ("to_v", None)]
ADDED = [("add_q_proj", "norm_added_q"), ("add_k_proj", "norm_added_k"), ("add_v_proj", None)]


class QwenByHand:
    """Text queries over image keys and the words of their caption, image queries over image keys."""

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        encoder_hidden_states_mask=None,
        image_rotary_emb=None,
    ):
        freqs = image_rotary_emb
        image, text = heads(attn, hidden_states, OWN), heads(attn, encoder_hidden_states, ADDED)
        image[:2] = [turned(x, freqs[0]) for x in image[:2]]
        text[:2] = [turned(x, freqs[1]) for x in text[:2]]
        every = torch.ones(hidden_states.shape[:2], dtype=torch.bool)
        both = torch.cat([encoder_hidden_states_mask, every], 1)
        keys, values = (torch.cat([text[i], image[i]], 1) for i in (1, 2))
        return (
            attn.to_out[0](answered(*image, every)),
            attn.to_add_out(answered(text[0], keys, values, both)),
        )


class ZImageByHand:
    """Of 9 image tokens, padded to 32, none sees a key after the 32nd."""

    def __call__(
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None
    ):
        q, k, v = heads(attn, hidden_states, OWN)
        q, k = turned(q, freqs_cis), turned(k, freqs_cis)
        every = torch.ones(hidden_states.shape[:2], dtype=torch.bool)
        image = answered(q[:, :32], k[:, :32], v[:, :32], every[:, :32])
        counts = every if attention_mask is None else attention_mask
        return attn.to_out[0](torch.cat([image, answered(q[:, 32:], k, v, counts)], 1))


@pytest.mark.parametrize("span", [range(1), range(1, 4), range(6)])
@pytest.mark.parametrize("name, by_hand", [("qwen_image", QwenByHand), ("z_image", ZImageByHand)])
def test_captions_of_several_lengths_are_hidden(name, by_hand, span):
    case = CASES[name]
    model, family, draws = case.model(), case.family, case.draws()
    other = dataclasses.replace(draws, text=Text(draws.text.embeds + 1, draws.text.pooled_or_mask))

    def said(draws):
        with torch.no_grad():
            given = family.inputs(model.config, draws.noisy, draws.text, draws.t, draws.side_px)
            return family.predict(model, given)

    plain, blocks = said(draws), family.blocks(model)
    with text_hidden(family, blocks, span, IMAGE):
        masked = said(draws)
        assert torch.equal(said(other), masked) == (len(span) == 6), "only where all are blind"
    assert torch.equal(said(draws), plain), "afterwards all is as before"
    for i in span:
        attention = getattr(blocks[i][1], "attn", None) or blocks[i][1].attention
        attention.set_processor(by_hand())
    torch.testing.assert_close(masked, said(draws), atol=2e-5, rtol=1e-4)
    assert (masked - plain).abs().max() > 1e-3


def test_text_is_hidden_where_it_attends_apart_from_the_image():
    """Qwen-Image-2.1's image queries come after the text's, in an attention of their own."""
    case = CASES["qwen_image21"]
    model, family, draws = case.model(), case.family, case.draws()
    other = dataclasses.replace(draws, text=Text(draws.text.embeds + 1, draws.text.pooled_or_mask))
    plain, blocks = said(family, model, draws), family.blocks(model)
    for span in (range(1, 4), range(6)):
        with text_hidden(family, blocks, span, 16):
            masked = said(family, model, draws)
            assert torch.equal(said(family, model, other), masked) == (len(span) == 6)
        assert (masked - plain).abs().max() > 1e-3
    assert torch.equal(said(family, model, draws), plain), "afterwards all is as before"
