"""FLUX.2 klein's pipeline, tiny and random."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from blockskip.models.families.flux2 import Flux2
from blockskip.models.sources import Source
from blockskip.training.residuals import Span

ROW = checks.tiny_row("flux2", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 16, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        Qwen2TokenizerFast,
        [*checks.WORDS, "user", "assistant"],
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
    )
    words.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"
    )
    text = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=10,
            intermediate_size=12,
            num_hidden_layers=28,  # one more than are wanted
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            pad_token_id=words.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    vae = checks.tiny_flux2_vae(3)
    transformer = CASES["flux2"].model()
    for name in Flux2.shared_modulation:  # so that blocks have a say in the picture
        transformer.get_submodule(name).weight.mul_(60)
    pipe = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=words,
        transformer=transformer,
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny flux2"
    pipe.save_pretrained(path)
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures(folder, guidance):
    """Guided by the empty prompt, or not at all as the distilled model is."""
    checks.check_pictures(
        ROW, folder, TOKENS, SIDE, guidance, guidance_scale=guidance, max_sequence_length=TOKENS
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


@pytest.mark.parametrize("targets", ["attention", "attention+ff"])
def test_export(folder, tmp_path, targets):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), targets)


def test_another_chat_template_is_another_model(folder):
    """It is a file of its own, and captions are encoded with it."""
    (template,) = folder.rglob("*.jinja")
    before, known = Source(ROW, folder).fingerprint(), template.read_bytes()
    template.write_bytes(known + b"!")
    changed = Source(ROW, folder).fingerprint()
    template.write_bytes(known)
    assert changed != before == Source(ROW, folder).fingerprint()


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
