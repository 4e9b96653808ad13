"""FLUX.1's weights as files hold them: which file holds which part, and what its tensors are called.

Two layouts: the library's (diffusers, transformers) and the original one that ComfyUI uses, where
q, k and v (in single blocks also the first layer of the MLP) are one layer and the last modulation
keeps (shift, scale) in the other order. Layers are named by flux_names.py; the VAE's names come
from diffusers' own conversion, T5's in a GGUF from t5_gguf_names.py. Files are recognised by what is in
them, never by their names, but for models of the same shape as FLUX.1-dev, which only their names
tell apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING

from blockskip.models.lora import flux_names
from blockskip.models.sources import t5_gguf_names
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.tensors import WeightIndex, find_weight

if TYPE_CHECKING:
    import torch
    from diffusers import FluxPipeline, ModelMixin
    from transformers import PreTrainedModel

    from blockskip.models.sources import Source

# part → what it is, a file that ComfyUI's users have, where it lies there
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
# part → ComfyUI's own folder of its vocabulary, and the files one of which makes a folder one
TOKENIZERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tokenizer": ("comfy/sd1_tokenizer", ("vocab.json", "tokenizer.json")),
    "tokenizer_2": ("comfy/text_encoders/t5_tokenizer", ("tokenizer.json", "spiece.model")),
}
# how its usual file's name begins, which is taken before others of the same shape …
PREFERRED: dict[str, str | tuple[str, ...]] = {
    "text_encoder": "clip_l",
    "text_encoder_2": ("t5xxl", "t5-v1_1-xxl"),
    "vae": "ae",
}
# … and words in names of other models of exactly that shape, which are not taken unasked
NAMESAKES: tuple[str, ...] = ("kontext", "krea", "schnell", "flan", "sd3")

_PREFIXES = {
    "transformer": ("", "model.diffusion_model.", "diffusion_model.", "transformer."),
    "text_encoder": ("", "text_model.", "text_encoders.clip_l.transformer.text_model."),
    "text_encoder_2": ("", "text_encoders.t5xxl.transformer."),
    "vae": ("", "vae.", "first_stage_model."),
}
# part → tensors of which every file that holds it has one
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
    """The tensors of `part` in a file, without their prefix; None when the file does not hold it.

    config: of the part, as the library writes it. The sizes must be the model's: a CLIP-G, or a
    transformer with other inputs (FLUX.1 Fill), is not taken for one.
    """
    if part == "text_encoder_2":
        tensors = t5_gguf_names.diffusers_names(tensors)
    for prefix in _PREFIXES[part]:
        if any(prefix + mark in tensors for mark in _MARKER_KEYS[part]):
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            fits = all(
                name not in own or own[name].shape == shape
                for name, shape in _expected_shapes(part, config).items()
            )
            return own if fits and _has_expected_depth(own, part, config) else None
    return None


def weight_index(part: str, tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """The library's parameter name → where it lies. tensors: as `part_tensors` gives them.

    Raises UserError when one is missing or packed in a way that cannot be read.
    """
    original = {
        "transformer": "double_blocks.0.img_attn.qkv.weight",
        "vae": "encoder.down.0.block.0.conv1.weight",
    }.get(part)
    if original in tensors:
        return (_transformer if part == "transformer" else _vae)(tensors, config)
    if part == "text_encoder":  # the pipeline uses neither the projection nor the picture half
        used = [key for key in tensors if key.startswith(("embeddings.", "encoder.", "final_"))]
        return {key: find_weight(tensors, key) for key in used if not key.endswith("position_ids")}
    if part == "text_encoder_2":
        embedding = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
        names = {key: key for key in tensors if key.startswith("encoder.")}
        names |= {"shared.weight": embedding, "encoder.embed_tokens.weight": embedding}
        return {
            name: find_weight(tensors, key) for name, key in names.items() if not _is_scale(key)
        }
    return {key: find_weight(tensors, key) for key in tensors if not _is_scale(key)}


def assemble(
    source: Source, dtype: torch.dtype, without_weights: Collection[str] = ()
) -> FluxPipeline:
    """The library's pipeline from single files, on the CPU; nothing is asked of the hub.

    without_weights: parts on the meta device, in `dtype`: `source.weights(part)` says where their
    weights lie. Raises UserError.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
    from transformers import CLIPTokenizer, T5Tokenizer

    from blockskip.models.sources.tensor_reader import Reader

    reader = Reader()
    configs = {part: source.config(part) for part in PARTS}
    parts = _empty_modules(configs, dtype)
    for part, module in parts.items():
        if part in without_weights:
            continue
        stored = source.weights(part)
        weights = {name: weight.read(dtype, reader) for name, weight in stored.items()}
        module.load_state_dict(weights, assign=True)
        if part == "text_encoder_2":
            module.tie_weights()  # one embedding under two names
    clip, t5 = source.tokenizers["tokenizer"], source.tokenizers["tokenizer_2"]
    length = configs["text_encoder"]["max_position_embeddings"]  # ComfyUI's says 8192
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(source.folder / "scheduler"),
        tokenizer=CLIPTokenizer.from_pretrained(clip, model_max_length=length),
        tokenizer_2=T5Tokenizer.from_pretrained(t5),
        **parts,
    )


def _empty_modules(
    configs: dict[str, dict], dtype: torch.dtype
) -> dict[str, ModelMixin | PreTrainedModel]:
    """The library's modules of all parts, without weights."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    from blockskip.models.sources.empty_model import build_empty

    make = {
        "transformer": lambda config: FluxTransformer2DModel.from_config(config),
        "vae": lambda config: AutoencoderKL.from_config(config),
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
        "text_encoder_2": lambda config: T5EncoderModel(T5Config(**config)),
    }
    return {part: build_empty(partial(make[part], configs[part]), dtype) for part in PARTS}


def _transformer(tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """Original names → diffusers': fused layers become rows of them, the last one is swapped."""
    there = {key.rpartition(".")[0].replace(".", "_"): key.rpartition(".")[0] for key in tensors}
    found: WeightIndex = {}
    blocks = config["num_layers"], config["num_single_layers"]
    for module in flux_names.linears(*blocks, config["guidance_embeds"]):
        layer, part = flux_names.fused_layer(module)
        own = there.get(layer.removeprefix("lora_unet_"), layer)
        for suffix in ("weight", "bias"):
            rows = _fused_rows(tensors, own, layer, part)
            halves_swapped = module == "norm_out.linear"
            found[f"{module}.{suffix}"] = find_weight(
                tensors, f"{own}.{suffix}", rows, halves_swapped
            )
    for module, own in _norms(*blocks):
        key = f"{own}.scale" if f"{own}.scale" in tensors else f"{own}.weight"
        found[f"{module}.weight"] = find_weight(tensors, key)
    return found


def _fused_rows(
    tensors: dict[str, TensorEntry], own: str, layer: str, part: int
) -> tuple[int, int] | None:
    """Which rows of the fused layer `own` are its part number `part`; None if it is not fused."""
    if not layer.endswith(("_qkv", "_linear1")) or f"{own}.weight" not in tensors:
        return None
    heights = flux_names.fused_rows(layer, tensors[f"{own}.weight"].shape[1])
    return sum(heights[:part]), sum(heights[: part + 1])


def _norms(double: int, single: int) -> Iterator[tuple[str, str]]:
    """(diffusers' name, original name) of the norms of queries and keys."""
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


def _vae(tensors: dict[str, TensorEntry], config: dict) -> WeightIndex:
    """Original names → diffusers', by its own conversion, run on tensors without memory.

    The conversion only hands tensors on, or drops trailing axes of 1 (attention is stored as 1 x 1
    convolutions): a view of the original.
    """
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    blank = {key: torch.empty(own.shape, device="meta") for key, own in tensors.items()}
    keys = {id(tensor): key for key, tensor in blank.items()}
    found: WeightIndex = {}
    for name, tensor in convert_ldm_vae_checkpoint(blank, config).items():
        key = keys[id(tensor if tensor._base is None else tensor._base)]
        found[name] = find_weight(tensors, key, shape=tuple(tensor.shape))
    return found


def _expected_shapes(part: str, config: dict) -> dict[str, tuple[int, ...]]:
    """Shapes that tell this model's part from another model's."""
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
    """Whether the last block is there, no further one is, and guidance as the model has it."""
    if part == "vae":
        return "quant_conv.weight" not in tensors
    if part == "transformer":
        ends = {
            "single_blocks.{}.linear2.weight": config["num_single_layers"],
            "single_transformer_blocks.{}.proj_out.weight": config["num_single_layers"],
        }
        guided = any("guidance" in key for key in tensors)
        if guided != config["guidance_embeds"]:
            return False
    elif part == "text_encoder":
        ends = {"encoder.layers.{}.mlp.fc1.weight": config["num_hidden_layers"]}
    else:
        ends = {"encoder.block.{}.layer.0.SelfAttention.q.weight": config["num_layers"]}
    return any(
        name.format(count - 1) in tensors and name.format(count) not in tensors
        for name, count in ends.items()
    )


def _is_scale(key: str) -> bool:
    """Whether a tensor only says how another is stored."""
    last = key.rpartition(".")[2]
    return last.startswith(("scale_", "input_scale", "weight_scale", "comfy_", "scaled_"))
