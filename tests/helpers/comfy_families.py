"""Tiny random models of every family as ComfyUI's users have them: original names, one file a part
or one for all, in several precisions, with ComfyUI's vocabularies."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from helpers import family_checks as checks
from helpers.comfy import to_fp8
from helpers.ggufs import read_gguf, write_gguf
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from blockskip.core import presets
from blockskip.core.presets import ModelRow

State = dict[str, Tensor]
QWEN = "comfy/text_encoders/qwen25_tokenizer"
_TURNS = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|im_start|>assistant\n"
_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_response>")
_QWEN_TOKENS += ("</tool_response>", "<think>", "</think>")


@dataclasses.dataclass(frozen=True)
class ComfyCase:
    """A family's tiny model. row: a name in presets/models.toml. save(folder): writes the pipeline
    in diffusers' layout, with the tokenizer of the vocabulary given. original: part → a function
    from diffusers' to the original names, independent of the program's. prefixes: of parts in one
    file with all of them. vocabularies: tokenizer of the pipeline → ComfyUI's folder for it."""

    row: str
    save: Callable[[Path, Path], None]
    original: dict[str, Callable[[State], State]]
    prefixes: dict[str, str]
    vocabularies: dict[str, str]
    tokens: int = 24
    side_px: int = 48

    def tiny_row(self, folder: Path) -> ModelRow:
        """Return the row of the tiny model with its configs in `folder`."""
        row = presets.model_row(self.row)
        return dataclasses.replace(
            row, name=f"tiny-{self.row}", source=str(folder), dtype="float32", sibling=None
        )


def qwen_vocabulary(folder: Path, texts: str = "") -> Path:
    """Write a vocabulary of bytes as ComfyUI's program has Qwen's, with the words of `texts`."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    (folder / "vocab.json").write_text(
        json.dumps({letter: i for i, letter in enumerate(letters)}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    words = re.findall(r"<\|\w+\|>| ?\w+|[^\w\s]", texts + " ".join(checks.WORDS))
    added = dict.fromkeys([*_QWEN_TOKENS, "\n", *words])
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    table = {
        str(len(letters) + i): {"content": token, "special": token[0] == "<" and "|" in token}
        | flags
        for i, token in enumerate(added)
    }
    config = {
        "added_tokens_decoder": table,
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": 131072,
        "chat_template": "{{ 'Qwen2.5 has another one' }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def part_state(folder: Path, part: str) -> State:
    """Return the tensors of a part in diffusers' layout."""
    return {
        key: tensor
        for path in sorted((folder / part).glob("*.safetensors"))
        for key, tensor in load_file(path).items()
    }


# precision → (ending, pack(state) → tensors of the file, None if the file is a GGUF of that kind)
PRECISIONS = ("bf16", "fp8_scaled", "fp8_comfy", "Q8_0")


def write_part(path: Path, state: State, precision: str) -> tuple[Path, State]:
    """Write a part under original names. Return (file, what must be read: float32)."""
    state = {key: tensor.contiguous() for key, tensor in state.items()}
    if precision.startswith("Q"):
        path = path.with_suffix(".gguf")
        write_gguf(path, state, precision)
        return path, read_gguf(path)
    if precision.startswith("fp8"):
        packed = to_fp8(state, "scale_weight" if precision == "fp8_scaled" else "weight_scale")
    else:
        packed = {k: t.bfloat16() if t.is_floating_point() else t for k, t in state.items()}
    save_file(packed, path)
    return path, dequantised(packed)


def dequantised(packed: State) -> State:
    """Return the weights of a safetensors file in float32, under the same names."""
    found = {}
    for key, tensor in packed.items():
        base = key.removesuffix(".weight")
        scale = packed.get(f"{base}.scale_weight", packed.get(f"{base}.weight_scale"))
        if key.endswith((".scale_weight", ".weight_scale", ".comfy_quant", "scaled_fp8")):
            continue
        scaled = scale is not None and key.endswith(".weight")
        found[key] = tensor.float() * scale if scaled else tensor.float()
    return found


def comfyui(case: ComfyCase, row: ModelRow, home: Path, vocabulary: Path, precision: str) -> State:
    """Write a ComfyUI folder with one file a part of the model in `row.source`, only the transformer
    in `precision`, the others in bf16. Return what the transformer's weights are, under original
    names."""
    pipeline, wanted = Path(row.source), {}
    for part in row.parts:
        kind = "diffusion_models" if part == "transformer" else part.split("_2")[0]
        kind = {"text_encoder": "text_encoders"}.get(kind.split("_3")[0], kind)
        path = home / "models" / kind / f"{row.comfyui.usual(part)[0]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        state = case.original[part](part_state(pipeline, part))
        _, read = write_part(path, state, precision if part == "transformer" else "bf16")
        if part == "transformer":
            wanted = read
    for folder in set(case.vocabularies.values()):
        shutil.copytree(vocabulary / Path(folder).name, home / folder)
    return wanted


def fused(state: State, names: list[str], new: str) -> None:
    """Replace weights (and biases) of linears by one of a fused linear, in place."""
    for kind in ("weight", "bias"):
        if f"{names[0]}.{kind}" in state:
            state[f"{new}.{kind}"] = torch.cat([state.pop(f"{name}.{kind}") for name in names])


def renamed(state: State, rules: list[tuple[str, str]]) -> State:
    """Return the state with regular expressions applied to its names, all of them in order."""
    out = {}
    for name, tensor in state.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        out[name] = tensor
    return out
