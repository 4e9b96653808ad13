"""Write diffusers models as ComfyUI users have them: original names, fused layers, fp8.

Follows Black Forest Labs' and CompVis' names, independently of models/sources/conversions.py.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blockskip.models.sources.known_formats import format_of
from blockskip.models.sources.part_formats import PartFormat

# the folders of vocabularies in ComfyUI's program
CLIP = "comfy/sd1_tokenizer"
T5 = "comfy/text_encoders/t5_tokenizer"

_OUTSIDE = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "proj_out": "final_layer.linear",
}
_DOUBLE = {
    "img_mod.lin": ["norm1.linear"],
    "txt_mod.lin": ["norm1_context.linear"],
    "img_attn.qkv": ["attn.to_q", "attn.to_k", "attn.to_v"],
    "txt_attn.qkv": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
    "img_attn.proj": ["attn.to_out.0"],
    "txt_attn.proj": ["attn.to_add_out"],
    "img_mlp.0": ["ff.net.0.proj"],
    "img_mlp.2": ["ff.net.2"],
    "txt_mlp.0": ["ff_context.net.0.proj"],
    "txt_mlp.2": ["ff_context.net.2"],
}
_SINGLE = {
    "modulation.lin": ["norm.linear"],
    "linear1": ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"],
    "linear2": ["proj_out"],
}
_NORMS = {
    "transformer_blocks": {
        "img_attn.norm.query_norm": "attn.norm_q",
        "img_attn.norm.key_norm": "attn.norm_k",
        "txt_attn.norm.query_norm": "attn.norm_added_q",
        "txt_attn.norm.key_norm": "attn.norm_added_k",
    },
    "single_transformer_blocks": {
        "norm.query_norm": "attn.norm_q",
        "norm.key_norm": "attn.norm_k",
    },
}


_FLUX = {
    "transformer": "FluxTransformer2DModel",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
    "vae": "AutoencoderKL",
}


def flux_format(part: str) -> PartFormat:
    """Return how files hold a part of FLUX.1."""
    return format_of(_FLUX[part])


def original_transformer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert diffusers' FLUX to Black Forest Labs' names and layers."""
    out = {}
    for ours, theirs in _OUTSIDE.items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in state:
                out[f"{theirs}.{kind}"] = state[f"{ours}.{kind}"]
    for kind in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{kind}"].chunk(2)
        out[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    for stack, table in (("transformer_blocks", _DOUBLE), ("single_transformer_blocks", _SINGLE)):
        theirs = "double_blocks" if stack == "transformer_blocks" else "single_blocks"
        for i in {int(k.split(".")[1]) for k in state if k.startswith(f"{stack}.")}:
            for layer, parts in table.items():
                for kind in ("weight", "bias"):
                    fused = torch.cat([state[f"{stack}.{i}.{part}.{kind}"] for part in parts])
                    out[f"{theirs}.{i}.{layer}.{kind}"] = fused
            for norm, ours in _NORMS[stack].items():
                out[f"{theirs}.{i}.{norm}.scale"] = state[f"{stack}.{i}.{ours}.weight"]
    return out


def original_vae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert diffusers' AutoencoderKL to the names of the original autoencoder."""
    ups = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("decoder.up_blocks."))
    swaps = [
        (r"down_blocks\.(\d+)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{ups - 1 - int(m[1])}.block"),
        (r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{ups - 1 - int(m[1])}.upsample"),
        (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"conv_norm_out", "norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
    ]
    out = {}
    for name, tensor in state.items():
        theirs = name
        for pattern, new in swaps:
            theirs = re.sub(pattern, new, theirs)
        attention = "attn_1" in theirs and tensor.ndim == 2
        out[theirs] = tensor[:, :, None, None] if attention else tensor
    return out


def to_fp8(state: dict[str, Tensor], style: str = "scale_weight") -> dict[str, Tensor]:
    """Return the state with matrices in float8 and their scales. style: scale_weight (one scale per
    layer) | weight_scale (newer files; here one per row)."""
    out: dict[str, Tensor] = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    if style == "weight_scale":
        out = {}
    for name, tensor in state.items():
        if tensor.ndim != 2 or not name.endswith(".weight"):
            out[name] = tensor
            continue
        base, rows = name.removesuffix(".weight"), style == "weight_scale"
        top = tensor.float().abs().amax(1, keepdim=True) if rows else tensor.float().abs().max()
        scale = top.clamp(min=1e-6) / 448
        out[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        out[f"{base}.{style}"] = scale
        if rows:
            mark = json.dumps({"format": "float8_e4m3fn"}).encode()
            out[f"{base}.comfy_quant"] = torch.tensor(list(mark), dtype=torch.uint8)
    return out


def from_fp8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights after `to_fp8`'s rounding, in float32, under the same names."""
    out = {}
    for name, tensor in state.items():
        base = name.removesuffix(".weight")
        scale = state.get(f"{base}.scale_weight", state.get(f"{base}.weight_scale"))
        if scale is not None and name.endswith(".weight"):
            out[name] = tensor.float() * scale
        elif not name.endswith(("scaled_fp8", "scale_weight", "weight_scale", "comfy_quant")):
            out[name] = tensor
    return out


def parts_of(model: Path) -> dict[str, dict[str, Tensor]]:
    """Return part → tensors of a model in diffusers' layout, one file per part."""
    names = ("transformer", "vae", "text_encoder", "text_encoder_2")
    return {n: load_file(next((model / n).glob("*.safetensors"))) for n in names}


def comfy_folder(home: Path, model: Path, parts: dict[str, dict[str, Tensor]]) -> Path:
    """Write a ComfyUI folder with these parts (diffusers' names or fp8) and vocabularies."""
    places = {
        "transformer": "diffusion_models/flux1-dev.safetensors",
        "vae": "vae/ae.safetensors",
        "text_encoder": "text_encoders/clip_l.safetensors",
        "text_encoder_2": "clip/t5xxl_fp16.safetensors",
    }
    for part, tensors in parts.items():
        path = home / "models" / places[part]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    clip_vocabulary(home / CLIP, model / "tokenizer")
    shutil.copytree(model / "tokenizer_2", home / T5)
    return home


def clip_vocabulary(folder: Path, tokenizer: Path) -> None:
    """Write the words of a tokenizer as ComfyUI's program has CLIP's."""
    folder.mkdir(parents=True)
    words = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(words["vocab"]), encoding="utf-8")
    # as in ComfyUI's file, since ComfyUI pads by itself; CLIP's limit is lower
    limits = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 8192}
    (folder / "tokenizer_config.json").write_text(json.dumps(limits), encoding="utf-8")
    merges = [m if isinstance(m, str) else " ".join(m) for m in words["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")


def original_parts(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Return a model folder's parts in bfloat16 under original names."""
    parts = {n: {k: t.bfloat16() for k, t in p.items()} for n, p in parts_of(folder).items()}
    parts["transformer"] = original_transformer(parts["transformer"])
    parts["vae"] = original_vae(parts["vae"])
    parts["text_encoder"] = {f"text_model.{k}": t for k, t in parts["text_encoder"].items()}
    return parts
