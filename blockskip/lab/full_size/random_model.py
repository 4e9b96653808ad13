"""Write models of true size with random weights, for measuring where no weights are available.

Checkpoints are written shard by shard in the layout of diffusers and transformers, so that at most
one shard is in RAM. Weights are small normal numbers, norms one and biases zero, so activations
stay finite through all blocks. Tokenizers have only a few words, since measurements depend on the
number of tokens alone. Such a model is good for bytes and seconds, not for pictures.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from blockskip.core import files, safetensors_files
from blockskip.core.errors import UserError
from blockskip.core.flow_matching import generator
from blockskip.core.paths import ASSETS
from blockskip.core.presets import ModelRow
from blockskip.core.units import GIB
from blockskip.lab.full_size.meta_models import build, pipeline_parts
from blockskip.models.sources.empty_model import build_empty
from blockskip.models.sources.layouts import configs_folder

CPU = torch.device("cpu")
FLUX_DEV = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
WORDS = "a photo of sks cat dog in the snow on beach user assistant system end <| |>".split()
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
CHAT = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} end {% endfor %}"
_SCHEDULER = {"base_shift": 0.5, "max_shift": 1.15, "use_dynamic_shifting": True}


def write_model(
    row: ModelRow,
    folder: Path,
    device: torch.device,
    progress: Callable[[str, int, int], None] = lambda part, n, total: None,
) -> int:
    """Write the missing files of a model and return the bytes of its weights.

    device: draws the random numbers. progress(part, n, total): bytes of a part. Raises UserError if
    the disk has too little space.
    """
    configs, total = configs_folder(row), 0
    for path in configs.rglob("*.json"):
        target = folder / path.relative_to(configs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for part, (library, kind) in pipeline_parts(row).items():
        if part == "scheduler":
            _scheduler(folder / part, kind)
        elif part.startswith("tokenizer"):
            _tokenizer(folder / part, kind)
        elif part == "processor":  # with its tokenizer's files
            _tokenizer(folder / part, "PreTrainedTokenizerFast")
        elif library is not None:
            total += write_checkpoint(
                build_empty(partial(build, row, part), getattr(torch, row.dtype)),
                folder / part,
                progress=partial(progress, part),
                device=device,
                stem="diffusion_pytorch_model" if library == "diffusers" else "model",
            )
    return total


def _scheduler(folder: Path, kind: str) -> None:
    """Write a default configuration if the row has none; timesteps affect neither bytes nor
    seconds."""
    if (folder / "scheduler_config.json").exists():
        return
    config = {"_class_name": kind, **_SCHEDULER} if kind.startswith("FlowMatch") else {}
    files.write_json(folder / "scheduler_config.json", config or {"_class_name": kind})


def _tokenizer(folder: Path, kind: str) -> None:
    shipped = ASSETS / "demo-model" / ("tokenizer" if "CLIP" in kind else "tokenizer_2")
    if kind.startswith(("CLIP", "T5")):
        shutil.copytree(shipped, folder, dirs_exist_ok=True)
        return
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = dict.fromkeys([*SPECIAL.values(), *WORDS])
    table = Tokenizer(models.WordLevel({w: i for i, w in enumerate(tokens)}, SPECIAL["unk_token"]))
    table.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "AutoProcessor":  # whose other half is for pictures that are given
        kind = "PreTrainedTokenizerFast"
    tokenizer = getattr(transformers, kind)(tokenizer_object=table, **SPECIAL)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)


def flux(shape: dict, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Return an empty FLUX transformer of that shape."""
    from diffusers import FluxTransformer2DModel

    return build_empty(lambda: FluxTransformer2DModel(**shape), dtype)


def t5(shape: dict) -> nn.Module:
    """Return an empty bf16 T5 encoder of that shape."""
    from transformers import T5Config, T5EncoderModel

    return build_empty(lambda: T5EncoderModel(T5Config(**shape)), torch.bfloat16)


def write_checkpoint(
    model: nn.Module,
    folder: Path,
    seed: int = 0,
    shard_bytes: int = GIB,
    progress: Callable[[int, int], None] = lambda n, total: None,
    device: torch.device = CPU,
    stem: str = "model",
) -> int:
    """Write random weights for an empty model as safetensors shards and return their bytes.

    Existing shards of the right size are kept, so a stopped write resumes. progress(n, total):
    bytes written. device: draws the random numbers; a GPU is faster and draws different ones. stem:
    of the file names. Raises UserError if the disk has too little space.
    """
    saved = model.state_dict(keep_vars=True)
    wanted = dict(model.named_parameters())
    wanted |= {name: buffer for name, buffer in model.named_buffers() if name in saved}
    total = sum(p.numel() * p.element_size() for p in wanted.values())
    table = folder / f"{stem}.safetensors.index.json"
    if table.exists() and files.read_json(table)["metadata"]["total_size"] == total:
        return total
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(folder, total)
    shards, done, shard_of = list(_shards(wanted, shard_bytes)), 0, {}
    for n, names in enumerate(shards):
        file = f"{stem}-{n + 1:05d}-of-{len(shards):05d}.safetensors"
        size = sum(wanted[name].numel() * wanted[name].element_size() for name in names)
        if not _is_written(folder / file, size):
            tensors = {name: _random(name, wanted[name], seed, device) for name in names}
            safetensors_files.save_tensors(folder / file, tensors)
        shard_of |= dict.fromkeys(names, file)
        done += size
        progress(done, total)
    files.write_text(
        table, json.dumps({"metadata": {"total_size": total}, "weight_map": shard_of}, indent=1)
    )
    return total


def _check_room(folder: Path, total: int) -> None:
    existing = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = shutil.disk_usage(folder).free + existing
    if free < total * 1.02:
        raise UserError(
            f"{folder} has {free / GIB:.1f} GiB free; the checkpoint takes {total / GIB:.1f}.",
            "Choose another drive with --work.",
        )


def _is_written(file: Path, size: int) -> bool:
    """Return whether a shard exists with the right size, allowing 0.1 % for its header. Shards are
    written atomically."""
    return file.exists() and size <= file.stat().st_size <= size * 1.001 + 4096


def _shards(wanted: dict[str, Tensor], limit: int) -> Iterator[list[str]]:
    names, size = [], 0
    for name, parameter in wanted.items():
        num_bytes = parameter.numel() * parameter.element_size()
        if names and size + num_bytes > limit:
            yield names
            names, size = [], 0
        names.append(name)
        size += num_bytes
    yield names


def _random(name: str, like: Tensor, seed: int, device: torch.device) -> Tensor:
    if name.endswith("bias") or not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    if like.dim() == 1:
        return torch.ones(like.shape, dtype=like.dtype)
    source = generator(seed, name)
    if device.type != "cpu":
        source = torch.Generator(device).manual_seed(source.initial_seed())
    drawn = torch.empty(like.shape, dtype=like.dtype, device=device)
    return drawn.normal_(0, 0.02, generator=source).cpu()


def evict_page_cache(folder: Path) -> None:
    """Drop these files from the page cache, so that the next read is from disk. Does nothing except
    on Linux."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*.safetensors"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
