"""A tiny random Qwen3-VL that describes photos: as the tool, as a model's text encoder in diffusers'
layout, and as ComfyUI's file of it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from helpers.comfy_families import qwen_vocabulary
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from blockskip.core import files
from blockskip.core.repositories import tool_row

MARKS = "<|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>"
WORDS = (
    "the cat dog lying sitting on under a an sofa rug seen from above in soft light with red ball"
)


def vocabulary(folder: Path) -> Qwen2Tokenizer:
    """Write a vocabulary as ComfyUI has it, with the marks of photos."""
    qwen_vocabulary(folder, f"{MARKS} {WORDS}")
    return Qwen2Tokenizer.from_pretrained(folder)


def tiny_model(words: Qwen2Tokenizer, tied: bool = True) -> Qwen3VLForConditionalGeneration:
    torch.manual_seed(3)
    ids = dict(zip(MARKS.split(), words.convert_tokens_to_ids(MARKS.split()), strict=True))
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "tie_word_embeddings": tied,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tied,
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    with torch.no_grad():  # so that photos have a say in the words
        for name, weight in model.named_parameters():
            weight.mul_(8 if weight.ndim > 1 and "embed_tokens" not in name else 1)
            weight.copy_(weight.bfloat16())  # numbers that files of bfloat16 hold too
    return model


def save_tool(folder: Path) -> Path:
    """Write the files of the tool `captioner`."""
    words = vocabulary(folder / "words")
    tiny_model(words).save_pretrained(folder)
    words.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((folder / "words" / name).read_bytes())
    (folder / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    return folder


def save_blip(folder: Path) -> Path:
    """Write a random BLIP of the real one's layout, with a vocabulary of a few words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "a", "cat", "on", "sofa"]
    size = len(words)
    text = {
        "vocab_size": size,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "encoder_hidden_size": 16,
        "bos_token_id": 4,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]").save_pretrained(folder)
    how = {"image_processor_type": "BlipImageProcessor", "processor_class": "BlipProcessor"}
    how |= {
        "do_normalize": True,
        "do_resize": True,
        "resample": 3,
        "size": {"height": 32, "width": 32},
    }
    files.write_json(folder / "preprocessor_config.json", how)
    return folder


def tool_files(folder: Path) -> dict[str, bytes]:
    """Return the tool's files by name, as the hub has them."""
    wanted = {path for name in tool_row("captioner").files for path in folder.glob(name)}
    return {path.name: path.read_bytes() for path in wanted}


def as_encoder(pipeline: Path, words: Qwen2Tokenizer) -> Qwen3VLForConditionalGeneration:
    """Replace the text encoder of a tiny pipeline in diffusers' layout by the captioner, as class
    Qwen3VLModel without a head. Return the whole model."""
    model = tiny_model(words)
    model.model.save_pretrained(pipeline / "text_encoder")
    config = pipeline / "text_encoder" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8")) | {"tie_word_embeddings": True}
    config.write_text(json.dumps(told), encoding="utf-8")
    return model


def photo(seed: int = 0, size: tuple[int, int] = (300, 260)) -> Image.Image:
    """Return a drawn photo."""
    torch.manual_seed(seed)
    small = (torch.rand(6, 6, 3) * 255).byte().numpy()
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
