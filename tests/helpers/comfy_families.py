"""Tiny random models of every family as ComfyUI's users have them: original names, one file a part
or one for all, in several precisions, with ComfyUI's vocabularies."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from gguf import MODEL_ARCH
from helpers import family_checks as checks
from helpers.comfy import from_fp8, to_fp8
from helpers.ggufs import llama_names, read_gguf, write_gguf
from helpers.int8_files import from_int8, to_int8
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from blockskip.core import presets
from blockskip.core.presets import ModelRow

State = dict[str, Tensor]
Convert = Callable[[State], State]
QWEN = "comfy/text_encoders/qwen25_tokenizer"
_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_response>")
_QWEN_TOKENS += ("</tool_response>", "<think>", "</think>")
# parts of names of what is not read
_UNUSED = ("visual.", "lm_head.", "norm_final.", "num_batches_tracked")
# precision → ending of files
PRECISIONS = {
    "bf16": "safetensors",
    "fp8_scaled": "safetensors",  # one scale a layer, a mark for all
    "fp8_comfy": "safetensors",  # one scale a row, a description in a tensor
    "fp8_header": "safetensors",  # Black Forest Labs': descriptions in the file's header
    "int8": "safetensors",
    "Q8_0": "gguf",
}


@dataclasses.dataclass(frozen=True)
class ComfyCase:
    """A family's tiny model. row: a name in presets/models.toml. save(folder, vocabularies): writes
    the pipeline in diffusers' layout, with the tokenizers of the vocabularies. original: part → a
    function from diffusers' to the original names, independent of the program's, for any size.
    prefixes: of parts in one file with all of them. vocabularies: tokenizer of the pipeline →
    ComfyUI's folder for it. library: part → diffusers' function from the original names to its own.
    library_whole: those that count on the whole model's width. llama: text encoder → architecture of its GGUFs. spellings: part → a function from the original
    names to others that programs write. texts: templates of prompts, whose words the vocabulary
    has."""

    row: str
    save: Callable[[Path, Path], None]
    original: dict[str, Convert]
    prefixes: dict[str, str]
    vocabularies: dict[str, str]
    library: dict[str, Convert]
    library_whole: dict[str, Convert] = dataclasses.field(default_factory=dict)
    llama: dict[str, MODEL_ARCH] = dataclasses.field(default_factory=dict)
    spellings: dict[str, Convert] = dataclasses.field(default_factory=dict)
    texts: str = ""
    tokens: int = 24
    side_px: int = 48

    def tiny_row(self, folder: Path, sibling: Path | None = None) -> ModelRow:
        """Return the row of the tiny model with its configs in `folder`. sibling: the folder of its
        distilled sibling."""
        row = presets.model_row(self.row)
        theirs = None
        if sibling is not None and row.sibling is not None:
            changes = {"name": f"tiny-{row.sibling.name}", "source": str(sibling)}
            theirs = dataclasses.replace(row.sibling, **changes)
        return dataclasses.replace(
            row, name=f"tiny-{self.row}", source=str(folder), dtype="float32", sibling=theirs
        )

    def states(self, folder: Path) -> dict[str, State]:
        """Return part → tensors under original names, of a pipeline in diffusers' layout."""
        return {part: name(part_state(folder, part)) for part, name in self.original.items()}


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


def is_unused(key: str) -> bool:
    """Return whether a tensor of a file is not read."""
    return any(word in key for word in _UNUSED)


def packed(state: State, precision: str) -> tuple[State, State]:
    """Return (tensors of a safetensors file, what they mean: float32)."""
    if precision == "int8":
        tensors = to_int8(state)
        return tensors, from_int8(tensors)
    if precision.startswith("fp8"):
        tensors = to_fp8(state, "weight_scale" if precision == "fp8_comfy" else "scale_weight")
        meaning = from_fp8(tensors)
        if precision == "fp8_header":
            del tensors["scaled_fp8"]
            for key in [key for key in tensors if key.endswith(".scale_weight")]:
                base = key.removesuffix(".scale_weight")
                tensors[f"{base}.weight_scale"] = tensors.pop(key)
                tensors[f"{base}.input_scale"] = torch.ones(())
        return tensors, meaning
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    tensors = {k: t.to(kind) if t.is_floating_point() else t for k, t in state.items()}
    return tensors, {key: tensor.float() for key, tensor in tensors.items()}


def save_packed(path: Path, tensors: State, precision: str) -> None:
    """Write the tensors of `packed`, with the header of their precision."""
    layers = {
        key.removesuffix(".weight_scale"): {"format": "float8_e4m3fn"}
        for key in tensors
        if precision == "fp8_header" and key.endswith(".weight_scale")
    }
    header = {"_quantization_metadata": json.dumps({"layers": layers})} if layers else None
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: t.contiguous() for key, t in tensors.items()}, path, metadata=header)


def write_part(path: Path, state: State, precision: str, llama: MODEL_ARCH | None = None) -> State:
    """Write a part under original names. Return what must be read, under the same names: float32.
    llama: of a text encoder, which has other names in a GGUF."""
    if path.suffix != ".gguf":
        tensors, meaning = packed(state, precision)
        save_packed(path, tensors, precision)
        return meaning
    names = dict(zip(state, state, strict=True))
    if llama is not None:
        blocks = 1 + max(int(found[1]) for key in state if (found := re.search(r"\.(\d+)\.", key)))
        names = {old: new for new, old in llama_names(names, blocks, llama).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    architecture = "flux" if llama is None else llama.name.lower()
    tensors = {new: state[old] for old, new in names.items()}
    write_gguf(path, tensors, precision, architecture=architecture)
    read = read_gguf(path)
    return {old: read[new] for old, new in names.items()}


def usual_file(row: ModelRow, home: Path, part: str, ending: str = "safetensors") -> Path:
    """Return where ComfyUI has the file of a part."""
    kind = re.sub(r"_\d$", "", part)
    folder = {"transformer": "diffusion_models", "text_encoder": "text_encoders"}.get(kind, kind)
    return home / "models" / folder / f"{row.comfyui.usual(part)[0]}.{ending}"


def comfyui(
    case: ComfyCase, row: ModelRow, home: Path, vocabulary: Path, precision: str
) -> dict[str, State]:
    """Write a ComfyUI folder with one file a part of the model in `row.source`, in `precision`.
    Return part → what its weights are, under original names. Parts of which nobody has GGUFs are
    float16 beside them."""
    wanted = {}
    for part, state in case.states(Path(row.source)).items():
        llama = case.llama.get(part)
        of_part = precision
        if PRECISIONS[precision] == "gguf" and llama is None and part != "transformer":
            of_part = "fp16"
        path = usual_file(row, home, part, PRECISIONS.get(of_part, "safetensors"))
        wanted[part] = write_part(path, state, of_part, llama)
    program(case, home, vocabulary)
    return wanted


def program(case: ComfyCase, home: Path, vocabulary: Path) -> None:
    """Write what is needed of ComfyUI's program: the vocabularies."""
    for folder in set(case.vocabularies.values()):
        shutil.copytree(vocabulary / Path(folder).name, home / folder)


def fused(state: State, names: list[str], new: str) -> None:
    """Replace weights (and biases) of linears by one of a fused linear, in place."""
    for kind in ("weight", "bias"):
        if f"{names[0]}.{kind}" in state:
            state[f"{new}.{kind}"] = torch.cat([state.pop(f"{name}.{kind}") for name in names])


def fuse_everywhere(state: State, names: Iterable[str], new: str) -> State:
    """Fuse these linears of every module that has them, in place. Return the state."""
    first, *_ = names = list(names)
    for key in [key for key in state if key.endswith(f".{first}.weight")]:
        base = key.removesuffix(f".{first}.weight")
        fused(state, [f"{base}.{name}" for name in names], f"{base}.{new}")
    return state


def renamed(state: State, rules: list[tuple[str, str]]) -> State:
    """Return the state with regular expressions applied to its names, all of them in order."""
    out = {}
    for name, tensor in state.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        out[name] = tensor
    return out


def by_diffusers(name: str, **options: object) -> Convert:
    """Return diffusers' conversion of this name, of its single_file_utils."""
    from diffusers.loaders import single_file_utils

    return lambda state: getattr(single_file_utils, name)(dict(state), **options)


def ldm_by_diffusers(state: State) -> State:
    """Return diffusers' names of a VAE with CompVis' names."""
    blocks = range(len({key.split(".")[2] for key in state if key.startswith("encoder.down.")}))
    config = {"down_block_types": blocks, "up_block_types": blocks}
    return by_diffusers("convert_ldm_vae_checkpoint", config=config)(state)


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model with noise in what the library begins with zeros."""
    for parameter in model.parameters():
        if not parameter.abs().max() > 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()
