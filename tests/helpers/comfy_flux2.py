"""FLUX.2 klein as ComfyUI's users have it, tiny."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from gguf import MODEL_ARCH
from helpers import family_checks as checks
from helpers.comfy import original_vae
from helpers.comfy_families import (
    QWEN,
    ComfyCase,
    State,
    by_diffusers,
    fuse_everywhere,
    ldm_by_diffusers,
    randomised,
    renamed,
)
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}"
)


def save(folder: Path, vocabulary: Path) -> None:
    words = Qwen2Tokenizer.from_pretrained(vocabulary / Path(QWEN).name)
    words.chat_template = CHAT
    encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=28,  # one more than are wanted
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            tie_word_embeddings=True,
        )
    )
    vae = checks.tiny_flux2_vae(8)
    transformer = Flux2Transformer2DModel(
        in_channels=32,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae.eval(),
        text_encoder=encoder.eval(),
        tokenizer=words,
        transformer=randomised(transformer),
    ).save_pretrained(folder)


def original_transformer(state: State) -> State:
    state = fuse_everywhere(dict(state), ["to_q", "to_k", "to_v"], "qkv")
    state = fuse_everywhere(state, ["add_q_proj", "add_k_proj", "add_v_proj"], "add_qkv")
    scale, shift = state.pop("norm_out.linear.weight").chunk(2)
    state["final_layer.adaLN_modulation.1.weight"] = torch.cat([shift, scale])
    return renamed(
        state,
        [
            (r"^x_embedder\.", "img_in."),
            (r"^context_embedder\.", "txt_in."),
            (r"^time_guidance_embed\.timestep_embedder\.linear_1\.", "time_in.in_layer."),
            (r"^time_guidance_embed\.timestep_embedder\.linear_2\.", "time_in.out_layer."),
            (r"^(double_stream_modulation_\w+|single_stream_modulation)\.linear\.", r"\1.lin."),
            (r"^proj_out\.", "final_layer.linear."),
            (r"^transformer_blocks\.", "double_blocks."),
            (r"\.attn\.qkv\.", ".img_attn.qkv."),
            (r"\.attn\.add_qkv\.", ".txt_attn.qkv."),
            (r"\.attn\.to_out\.0\.", ".img_attn.proj."),
            (r"\.attn\.to_add_out\.", ".txt_attn.proj."),
            (r"(double_blocks.*)\.attn\.norm_q\.weight", r"\1.img_attn.norm.query_norm.scale"),
            (r"(double_blocks.*)\.attn\.norm_k\.weight", r"\1.img_attn.norm.key_norm.scale"),
            (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
            (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
            (r"\.ff\.linear_in\.", ".img_mlp.0."),
            (r"\.ff\.linear_out\.", ".img_mlp.2."),
            (r"\.ff_context\.linear_in\.", ".txt_mlp.0."),
            (r"\.ff_context\.linear_out\.", ".txt_mlp.2."),
            (r"^single_transformer_blocks\.", "single_blocks."),
            (r"\.attn\.to_qkv_mlp_proj\.", ".linear1."),
            (r"\.attn\.to_out\.", ".linear2."),
            (r"\.attn\.norm_q\.weight", ".norm.query_norm.scale"),
            (r"\.attn\.norm_k\.weight", ".norm.key_norm.scale"),
        ],
    )


def nested_vae(state: State) -> State:
    """Black Forest Labs' file: the convolutions of moments belong to the encoder and the decoder."""
    nested = [(r"^quant_conv\.", "encoder.quant_conv."), (r"^post_q", "decoder.post_q")]
    return renamed(original_vae(state), nested)


def plain_vae(state: State) -> State:
    return renamed(
        state, [(r"^encoder\.quant_conv\.", "quant_conv."), (r"^decoder\.post_", "post_")]
    )


def vae_by_diffusers(state: State) -> State:
    """As its script convert_flux2_to_diffusers has it: the batch norm keeps its names."""
    norm = {key: tensor for key, tensor in state.items() if key.startswith("bn.")}
    return ldm_by_diffusers(plain_vae(state)) | norm


CASE = ComfyCase(
    "flux2-klein-4b",
    save,
    {
        "transformer": original_transformer,
        "text_encoder": dict,
        "vae": nested_vae,
    },
    {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.qwen3_4b.transformer.",
        "vae": "vae.",
    },
    {"tokenizer": QWEN},
    {
        "transformer": by_diffusers("convert_flux2_transformer_checkpoint_to_diffusers"),
        "vae": vae_by_diffusers,
    },
    llama={"text_encoder": MODEL_ARCH.QWEN3},
    spellings={
        "transformer": lambda state: renamed(state, [(r"_norm\.scale$", "_norm.weight")]),
        "vae": plain_vae,
    },
)
