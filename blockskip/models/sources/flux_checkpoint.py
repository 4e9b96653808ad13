"""FLUX.1's weight files: identify the part in a file and map its tensors to diffusers' names.

There are two layouts, that of diffusers and transformers and the original one, which ComfyUI uses.
The original layout fuses q, k and v, in single blocks also the first layer of the MLP, and stores
the last modulation as (shift, scale) instead of (scale, shift). flux_names.py names the layers,
diffusers' conversion the VAE's tensors, and t5_gguf_names.py those of T5 in a GGUF. Files are
identified by their tensors. Only models with the same shapes as FLUX.1-dev are told apart by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from blockskip.core.errors import BadFile
from blockskip.models.lora import flux_names
from blockskip.models.sources import t5_gguf_names
from blockskip.models.sources.entry import TensorEntry, is_packed
from blockskip.models.sources.side_tensors import (
    check_contents,
    check_used,
    is_side_tensor,
)
from blockskip.models.sources.tensors import WeightIndex, find_weight, is_lora

# part → title, usual file in ComfyUI, ComfyUI's folder for it
PARTS = {
    "transformer": (
        "transformer",
        "{transformer}.safetensors, or an fp8 or GGUF file of it",
        "diffusion_models",
    ),
    "text_encoder": ("CLIP-L text encoder", "clip_l.safetensors", "text_encoders"),
    "text_encoder_2": (
        "T5-XXL text encoder",
        "t5xxl_fp16.safetensors, or an fp8 or GGUF file of it",
        "text_encoders",
    ),
    "vae": ("VAE", "ae.safetensors", "vae"),
}
# part → ComfyUI's folder of its vocabulary, and files of which such a folder has at least one
TOKENIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tokenizer": ("comfy/sd1_tokenizer", ("vocab.json", "tokenizer.json")),
    "tokenizer_2": ("comfy/text_encoders/t5_tokenizer", ("tokenizer.json", "spiece.model")),
}
# prefix of the usual file name, preferred to other files with the same shapes
PREFERRED: dict[str, str | tuple[str, ...]] = {
    "text_encoder": "clip_l",
    "text_encoder_2": ("t5xxl", "t5-v1_1-xxl"),
    "vae": "ae",
}
# words in names of other models with the same shapes, used only if the user names the file
NAMESAKES: tuple[str, ...] = ("kontext", "krea", "schnell", "flan", "sd3")

# parts of names of tensors that the model does not need: other components of a file of several
# parts, what encoders have beyond the states of a text, and states of the makers' own training
HARMLESS: tuple[str, ...] = (
    *(".model.diffusion_model.", ".diffusion_model.", ".vae.", ".first_stage_model."),
    *(".text_encoders.", ".conditioner.", ".cond_stage_model.", ".model_ema.", ".loss."),
    *(".text_projection", ".logit_scale", ".vision_model.", ".visual_projection"),
    *(".position_ids", ".decoder.block.", ".decoder.final_layer_norm.", ".decoder.embed_tokens."),
    *(".lm_head.", ".spiece_model"),
)

_PREFIXES = {
    "transformer": ("", "model.diffusion_model.", "diffusion_model.", "transformer."),
    "text_encoder": ("", "text_model.", "text_encoders.clip_l.transformer.text_model."),
    "text_encoder_2": ("", "text_encoders.t5xxl.transformer."),
    "vae": ("", "vae.", "first_stage_model."),
}
# part → tensors that identify it, one per layout; packed files have others of the same layer
_MARKER_KEYS = {
    "transformer": ("double_blocks.0.img_attn.qkv.weight", "transformer_blocks.0.attn.to_q.weight"),
    "text_encoder": ("embeddings.token_embedding.weight",),
    "text_encoder_2": ("encoder.block.0.layer.0.SelfAttention.q.weight",),
    "vae": ("encoder.down.0.block.0.conv1.weight", "encoder.down_blocks.0.resnets.0.conv1.weight"),
}
_NORMS = {"attn.norm_q": "query_norm", "attn.norm_k": "key_norm"}
_ADDED_NORMS = {"attn.norm_added_q": "query_norm", "attn.norm_added_k": "key_norm"}


def part_tensors(
    part: str, tensors: dict[str, TensorEntry], config: dict
) -> dict[str, TensorEntry] | None:
    """Return the tensors of `part` in a file without their prefix, None if the file lacks it.

    config: diffusers' or transformers' config of the part. Its sizes must match, which excludes a
    CLIP-G, or a transformer with other inputs (FLUX.1 Fill). Sizes of packed tensors are unknown.
    """
    if part == "text_encoder_2":
        tensors = t5_gguf_names.diffusers_names(tensors)
    if is_lora(tensors):
        return None
    for prefix in _PREFIXES[part]:
        layers = tuple(prefix + key.removesuffix("weight") for key in _MARKER_KEYS[part])
        if any(key.startswith(layers) for key in tensors):
            stripped = {
                k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
            }
            fits = all(
                name not in stripped or stripped[name].shape == shape or is_packed(stripped[name])
                for name, shape in _expected_shapes(part, config).items()
            )
            return stripped if fits and _has_expected_depth(stripped, part, config) else None
    return None


def weight_index(part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """Return parameter name → stored weight. tensors: from `part_tensors`.

    Raises UserError if a tensor is missing or its format is unsupported.
    """
    if part == "transformer":
        original = any(key.startswith("double_blocks.") for key in tensors)
        return (_original_transformer if original else _transformer)(tensors, config)
    if any(key.startswith("encoder.down.") for key in tensors):
        return _original_vae(tensors, config)
    keys = [key for key in tensors if not is_side_tensor(tensors, key)]
    if part == "text_encoder":  # the pipeline needs neither the projection nor the vision model
        keys = [key for key in keys if key.startswith(("embeddings.", "encoder.", "final_"))]
        return {key: find_weight(tensors, key) for key in keys if not key.endswith("position_ids")}
    if part == "text_encoder_2":
        embedding = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
        names = {key: key for key in keys if key.startswith("encoder.")}
        names |= {"shared.weight": embedding, "encoder.embed_tokens.weight": embedding}
        return {name: find_weight(tensors, key) for name, key in names.items()}
    return {key: find_weight(tensors, key) for key in keys}


def check_readable(part: str, tensors: dict[str, TensorEntry], config: dict) -> None:
    """Raise UserError if the tensors of a part, from `part_tensors`, cannot be read, or if one of
    them is of unknown meaning. Does not need torch."""
    if part == "vae":  # its names are converted with torch
        keys = [key for key in tensors if not is_side_tensor(tensors, key)]
        weights = {key: find_weight(tensors, key) for key in keys}
    else:
        weights = weight_index(part, tensors, config)
    check_used(tensors, weights.values(), HARMLESS)
    check_contents(weights.values(), tensors)


def _transformer(tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """Map the parameters of diffusers' transformer to the tensors of those names."""
    blocks = config["num_layers"], config["num_single_layers"]
    linears = flux_names.linears(*blocks, config["guidance_embeds"])
    names = [f"{module}.{suffix}" for module in linears for suffix in ("weight", "bias")]
    names += [f"{module}.weight" for module, _ in _norms(*blocks)]
    return {name: find_weight(tensors, name) for name in names}


def _original_transformer(tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """Map diffusers' names to the original tensors: to rows of fused layers, and to swapped halves
    for the last modulation."""
    layer_keys = {
        key.rpartition(".")[0].replace(".", "_"): key.rpartition(".")[0] for key in tensors
    }
    weights: WeightIndex = {}
    blocks = config["num_layers"], config["num_single_layers"]
    for module in flux_names.linears(*blocks, config["guidance_embeds"]):
        layer, part = flux_names.fused_layer(module)
        layer_key = layer_keys.get(layer.removeprefix("lora_unet_"), layer)
        for suffix in ("weight", "bias"):
            rows = _fused_rows(tensors, layer_key, layer, part)
            halves_swapped = module == "norm_out.linear"
            weights[f"{module}.{suffix}"] = find_weight(
                tensors, f"{layer_key}.{suffix}", rows, halves_swapped
            )
    for module, layer_key in _norms(*blocks):
        key = f"{layer_key}.scale" if f"{layer_key}.scale" in tensors else f"{layer_key}.weight"
        weights[f"{module}.weight"] = find_weight(tensors, key)
    return weights


def _fused_rows(
    tensors: dict[str, TensorEntry], layer_key: str, layer: str, part: int
) -> tuple[int, int] | None:
    """Return the rows [first, end) of part number `part` in the fused layer, None if not fused.
    layer_key: the layer's name in the file."""
    if not layer.endswith(("_qkv", "_linear1")) or f"{layer_key}.weight" not in tensors:
        return None
    heights = flux_names.fused_rows(layer, tensors[f"{layer_key}.weight"].shape[1])
    return sum(heights[:part]), sum(heights[: part + 1])


def _norms(double: int, single: int) -> Iterator[tuple[str, str]]:
    """Yield (diffusers' name, original name) of the norms of queries and keys."""
    for i in range(double):
        for stream, names in (("img", _NORMS), ("txt", _ADDED_NORMS)):
            for module, norm in names.items():
                yield (
                    f"transformer_blocks.{i}.{module}",
                    f"double_blocks.{i}.{stream}_attn.norm.{norm}",
                )
    for i in range(single):
        for module, norm in _NORMS.items():
            yield f"single_transformer_blocks.{i}.{module}", f"single_blocks.{i}.norm.{norm}"


def _original_vae(tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """Map diffusers' names to the original tensors by running diffusers' conversion on meta
    tensors.

    The conversion only renames tensors, or drops trailing axes of 1 (attention is stored as 1 x 1
    convolutions), which makes a view of the original.
    """
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    meta_tensors = {
        key: torch.empty(entry.shape, device="meta")
        for key, entry in tensors.items()
        if not is_side_tensor(tensors, key)
    }
    keys = {id(tensor): key for key, tensor in meta_tensors.items()}
    weights: WeightIndex = {}
    try:
        converted = convert_ldm_vae_checkpoint(meta_tensors, config)
    except KeyError as error:
        raise BadFile(
            f"{next(iter(tensors.values())).path.name} does not hold all of the model: "
            f"“{error.args[0]}” is missing.",
            "Fetch the file again.",
        ) from error
    for name, tensor in converted.items():
        key = keys[id(tensor if tensor._base is None else tensor._base)]
        weights[name] = find_weight(tensors, key, shape=tuple(tensor.shape))
    return weights


def _expected_shapes(part: str, config: dict) -> dict[str, tuple[int, ...]]:
    """Return shapes that distinguish this model's part from another model's."""
    if part == "transformer":
        width = config["num_attention_heads"] * config["attention_head_dim"]
        inputs, text = (width, config["in_channels"]), (width, config["joint_attention_dim"])
        names = {"img_in": inputs, "x_embedder": inputs, "txt_in": text, "context_embedder": text}
        return {f"{name}.weight": shape for name, shape in names.items()}
    if part == "text_encoder":
        return {_MARKER_KEYS[part][0]: (config["vocab_size"], config["hidden_size"])}
    if part == "text_encoder_2":
        table = config["vocab_size"], config["d_model"]
        return {
            _MARKER_KEYS[part][0]: (config["num_heads"] * config["d_kv"], config["d_model"]),
            "shared.weight": table,
            "encoder.embed_tokens.weight": table,
        }
    channels = 2 * config["latent_channels"], config["block_out_channels"][-1], 3, 3
    return {"encoder.conv_out.weight": channels}


def _has_expected_depth(tensors: dict[str, TensorEntry], part: str, config: dict) -> bool:
    """Return whether the number of blocks and the presence of guidance match the config."""
    if part == "vae":
        return "quant_conv.weight" not in tensors
    if part == "transformer":
        last_layers = {
            "single_blocks.{}.linear2.weight": config["num_single_layers"],
            "single_transformer_blocks.{}.proj_out.weight": config["num_single_layers"],
        }
        guided = any("guidance" in key for key in tensors)
        if guided != config["guidance_embeds"]:
            return False
    elif part == "text_encoder":
        last_layers = {"encoder.layers.{}.mlp.fc1.weight": config["num_hidden_layers"]}
    else:
        last_layers = {"encoder.block.{}.layer.0.SelfAttention.q.weight": config["num_layers"]}
    return any(
        name.format(count - 1) in tensors and name.format(count) not in tensors
        for name, count in last_layers.items()
    )
