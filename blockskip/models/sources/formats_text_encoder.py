"""The files of text encoders, by their class."""

from __future__ import annotations

from dataclasses import replace

from blockskip.models.sources import text_encoder_names
from blockskip.models.sources.part_formats import (
    Config,
    PartFormat,
    Signs,
    Tensors,
    either_name,
    encoder_weights,
    no_identities,
    plain_weights,
)
from blockskip.models.sources.tensors import WeightIndex


def _clip(config: Config) -> Signs:
    table, blocks = (config["vocab_size"], config["hidden_size"]), config["num_hidden_layers"]
    name, layer = "embeddings.token_embedding", "encoder.layers.{}.mlp.fc1"
    return Signs(
        either_name(name, f"text_model.{name}", shape=table),
        {layer: blocks, f"text_model.{layer}": blocks},
    )


def _clip_identities(config: Config) -> tuple[str, ...]:
    """Stable Diffusion 3 does not project the pooled state of OpenAI's CLIP-L, as ComfyUI and
    diffusers' conversion have it."""
    return ("text_projection.weight",) if config["hidden_act"] == "quick_gelu" else ()


def _t5(config: Config) -> Signs:
    table = config["vocab_size"], config["d_model"]
    query = "encoder.block.{}.layer.0.SelfAttention.q"
    return Signs(
        either_name("shared", "encoder.embed_tokens", shape=table)
        | either_name(
            query.format(0), shape=(config["num_heads"] * config["d_kv"], config["d_model"])
        ),
        {query: config["num_layers"]},
    )


def _t5_weights(tensors: Tensors, config: Config) -> WeightIndex:
    """The embedding has two names in the library, and either in files."""
    names = "shared.weight", "encoder.embed_tokens.weight"
    weights = {
        key: weight
        for key, weight in plain_weights(tensors, config).items()
        if key.startswith("encoder.") or key in names
    }
    embedding = next((weights[name] for name in names if name in weights), None)
    return weights if embedding is None else weights | dict.fromkeys(names, embedding)


def _language_model(config: Config) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Return `shapes` and `blocks` of `Signs` for a Qwen language model."""
    text = config.get("text_config") or config
    table = text["vocab_size"], text["hidden_size"]
    rows = text["num_key_value_heads"] * text.get("head_dim", 0) or (
        text["hidden_size"] // text["num_attention_heads"] * text["num_key_value_heads"]
    )
    key = (f"{prefix}layers.0.self_attn.k_proj" for prefix in _QWEN_PREFIXES)
    return (
        either_name(*(f"{prefix}embed_tokens" for prefix in _QWEN_PREFIXES), shape=table)
        | either_name(*key, shape=(rows, text["hidden_size"])),
        {
            f"{prefix}layers.{{}}.mlp.down_proj": text["num_hidden_layers"]
            for prefix in _QWEN_PREFIXES
        },
    )


def _reads(config: Config) -> Signs:
    return Signs(*_language_model(config), asked=lambda tensors: not _is_of_seeing(tensors))


def _sees(config: Config) -> Signs:
    return Signs(*_language_model(config), asked=_is_of_seeing)


def _is_of_seeing(tensors: Tensors) -> bool:
    """Return whether a Qwen language model is that of one which sees. Qwen3 and Qwen3-VL have the
    same shapes. Files may lack what sees, as GGUFs do; then the names tell."""
    some = next(iter(tensors.values()))
    if some.architecture.startswith("qwen"):
        return some.architecture.endswith("vl")
    if some.key.startswith(_IN_CHECKPOINTS):
        return some.key.removeprefix(_IN_CHECKPOINTS).startswith(_SEEING)
    named = "vl" in some.path.name.lower()
    return named or any("visual." in key or "language_model." in key for key in tensors)


# where a language model begins: in a model that reads, and in one that sees
_QWEN_PREFIXES = ("", "model.", "model.language_model.", "language_model.")
_IN_CHECKPOINTS = "text_encoders."  # of several parts; after it the encoder's name
_READING = ("qwen3_4b", "qwen3_8b")
_SEEING = ("qwen3vl_4b", "qwen3vl_8b", "qwen25_7b")


def _in_checkpoints(*names: str) -> tuple[str, ...]:
    """Return the prefixes of a text encoder in files of several parts."""
    return ("", *(f"{_IN_CHECKPOINTS}{name}.transformer." for name in names))


_QWEN3 = PartFormat(
    "Qwen3 text encoder",
    "text_encoders",
    tuple(f"{prefix}layers.0.self_attn.k_proj" for prefix in _QWEN_PREFIXES),
    _in_checkpoints(*_READING),
    _reads,
    text_encoder_names.qwen_names,
    encoder_weights,
)
_QWEN3_VL = replace(
    _QWEN3,
    title="Qwen3-VL text encoder",
    prefixes=_in_checkpoints(*_SEEING),
    signs=_sees,
)
_CLIP = PartFormat(
    "CLIP text encoder",
    "text_encoders",
    ("text_model.embeddings.token_embedding", "embeddings.token_embedding"),
    _in_checkpoints("clip_l", "clip_g"),
    _clip,
    weights=encoder_weights,
    identities=_clip_identities,
)
TEXT_ENCODERS = {
    "CLIPTextModel": replace(_CLIP, title="CLIP-L text encoder", identities=no_identities),
    "CLIPTextModelWithProjection": _CLIP,
    "T5EncoderModel": PartFormat(
        "T5-XXL text encoder",
        "text_encoders",
        ("encoder.block.0.layer.0.SelfAttention.q",),
        _in_checkpoints("t5xxl"),
        _t5,
        text_encoder_names.t5_names,
        _t5_weights,
    ),
    "Qwen3ForCausalLM": _QWEN3,
    "Qwen3Model": _QWEN3,
    "Qwen2_5_VLForConditionalGeneration": replace(_QWEN3_VL, title="Qwen2.5-VL text encoder"),
    "Qwen3VLModel": _QWEN3_VL,
    "Qwen3VLForConditionalGeneration": _QWEN3_VL,
}
