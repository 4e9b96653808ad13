"""A tiny random pipeline of Krea 2."""

import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, Krea2Pipeline
from helpers import family_checks as checks
from helpers.family_cases import CASES
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLModel

LAYERS = (1, 2, 4)


def qwen_tokenizer():
    """Return a whole-word tokenizer that takes Krea 2's template apart as Qwen's does: 34 tokens
    before the caption, 5 behind it."""
    turns = ("<|im_start|>", "<|im_end|>")
    words = ["<unk>", "<pad>", "\n", *turns, "system", "user", "assistant", *checks.WORDS]
    table = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    table.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Punctuation(),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=table,
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=list(turns),
    )


def language_model(words):
    return Qwen3VLModel(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 20,
                "intermediate_size": 16,
                "num_hidden_layers": max(LAYERS) + 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 12,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 2, 2],
                },
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 20,
                "num_position_embeddings": 4,
                "deepstack_visual_indexes": [0],
            },
        )
    ).eval()


def save_pipeline(path):
    """Save a tiny random pipeline as a folder, and return the path."""
    torch.manual_seed(0)
    words = qwen_tokenizer()
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=3,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.2, 0.1, 0.3],
        latents_std=[0.5, 2.0, 1.5],
    )
    transformer = CASES["krea2"].whole_model()
    for block in transformer.transformer_blocks:  # so that blocks have a say in the picture
        block.scale_shift_table.mul_(20)
        block.attn.to_v.weight.mul_(5)
    pipe = Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=language_model(words),
        tokenizer=words,
        transformer=transformer,
        text_encoder_select_layers=LAYERS,
    )
    pipe.save_pretrained(path)
    return path
