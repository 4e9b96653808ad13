"""Tiny CLIP and T5 text encoders with the vocabularies that ComfyUI's program brings."""

from __future__ import annotations

import shutil
from pathlib import Path

from helpers.comfy import CLIP, T5, clip_vocabulary
from helpers.comfy_families import State
from transformers import CLIPTextConfig, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from blockskip.core.paths import ASSETS

CLIP_TOKENS = 20
DEMO = ASSETS / "demo-model"


def vocabularies(folder: Path) -> None:
    """Write both vocabularies below `folder`, under the last names of ComfyUI's folders."""
    clip_vocabulary(folder / Path(CLIP).name, DEMO / "tokenizer")
    shutil.copytree(DEMO / "tokenizer_2", folder / Path(T5).name)


def clip_words(vocabulary: Path, **special: str) -> CLIPTokenizer:
    folder = vocabulary / Path(CLIP).name
    return CLIPTokenizer.from_pretrained(folder, model_max_length=CLIP_TOKENS, **special)


def clip(kind: type, words: CLIPTokenizer, width: int, hidden_act: str = "quick_gelu"):
    """Return a text encoder of the class `kind`, whose projection is a square."""
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        projection_dim=width,
        eos_token_id=words.eos_token_id,
        hidden_act=hidden_act,
    )
    return kind(config).eval()


def t5_words(vocabulary: Path) -> T5Tokenizer:
    return T5Tokenizer.from_pretrained(vocabulary / Path(T5).name)


def t5(words: T5Tokenizer, width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(words),
        d_model=width,
        d_kv=16,
        d_ff=64,
        num_layers=3,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def original_t5(state: State) -> State:
    """Return T5 with one name of its embedding."""
    return {key: value for key, value in state.items() if key != "encoder.embed_tokens.weight"}


def t5_with_both(state: State) -> State:
    """Return T5 with the embedding's other name too, as some files have it."""
    return state | {"encoder.embed_tokens.weight": state["shared.weight"].clone()}
