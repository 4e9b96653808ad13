"""Find the text encoders' vocabularies, which single weight files lack, and load tokenizers.

ComfyUI's program brings them. They are also in every model that transformers has downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockskip.core.errors import ModelMissing, UserError, command
from blockskip.models.sources import data_only
from blockskip.models.sources.comfyui_locations import candidates
from blockskip.models.sources.layouts import read_config, read_index

if TYPE_CHECKING:  # listing models must not load transformers
    from transformers import PreTrainedTokenizerBase

    from blockskip.models.sources.source import Source


@dataclass(frozen=True)
class Vocabulary:
    """What a class of tokenizers needs. folder: ComfyUI's. files: sets of files, of which such a
    folder has one whole. repository: on the hub, with the same files. tokens: beyond those in the
    files, in order."""

    folder: str
    files: tuple[tuple[str, ...], ...]
    repository: str
    tokens: tuple[str, ...] = ()
    chat_template: str = ""


_PROGRAM = "https://github.com/Comfy-Org/ComfyUI/tree/master/"
# A user's turn in Qwen's form, with what the models' own templates add for it.
_QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
# Qwen3's tokens behind Qwen2.5's, which ComfyUI's older folders lack
_QWEN3_TOKENS = ("<tool_response>", "</tool_response>", "<think>", "</think>")
_QWEN = Vocabulary(
    "comfy/text_encoders/qwen25_tokenizer",
    (("tokenizer.json",), ("vocab.json", "merges.txt", "tokenizer_config.json")),
    "Qwen/Qwen3-4B",
    _QWEN3_TOKENS,
    _QWEN_TEMPLATE,
)
_VOCABULARIES = {
    "CLIPTokenizer": Vocabulary(
        "comfy/sd1_tokenizer",
        (("tokenizer.json",), ("vocab.json", "merges.txt")),
        "openai/clip-vit-large-patch14",
    ),
    "T5Tokenizer": Vocabulary(
        "comfy/text_encoders/t5_tokenizer",
        (("tokenizer.json",),),  # spiece.model needs a library that is not installed
        "google/flan-t5-xxl",
    ),
    "Qwen2Tokenizer": _QWEN,
    "Qwen3VLProcessor": _QWEN,
}


def vocabularies(configs: Path) -> dict[str, Vocabulary]:
    """Return the vocabularies that the pipeline with these configs needs, by its parts' names."""
    return {
        part: _VOCABULARIES[kind]
        for part, entry in read_index(configs).items()
        if isinstance(entry, list)
        and (kind := str(entry[-1]).removesuffix("Fast")) in _VOCABULARIES
    }


def find_vocabularies(configs: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folder of each vocabulary that the pipeline with these configs needs.

    folders: to look into first. Raises UserError if some are nowhere on this machine.
    """
    needed = vocabularies(configs)
    holders = {part: _holders(part, needed[part], [*folders, configs]) for part in needed}
    found = {part: folder for part in needed if (folder := next(holders[part], None))}
    missing = dict.fromkeys(needed[part].folder for part in needed if part not in found)
    if missing:
        raise _missing(list(missing))
    return found


def _missing(folders: Sequence[str]) -> UserError:
    several = len(folders) > 1
    pages = " and ".join(f"of {_PROGRAM}{folder}" for folder in folders)
    return ModelMissing(
        f"The text encoders' {'vocabularies are' if several else 'vocabulary is'} missing "
        f"({', '.join(folders)}).",
        f"ComfyUI's program brings {'them' if several else 'it'}. Where its models lie apart from "
        "the program, name both folders, the one with `models` in it and the one with main.py in "
        f"it: {command('models use-comfyui')} FOLDER FOLDER. Without ComfyUI's program, put the "
        f"files {pages} into {'folders of these names' if several else 'a folder of that name'} "
        "beside `models`.",
    )


def _holders(part: str, wanted: Vocabulary, folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders with the vocabulary, the nearest first."""
    for folder in folders:
        yield from _complete(wanted, folder / part, folder / wanted.folder)
    # models may be in a folder without the program, and all ComfyUIs share the vocabulary
    for folder in candidates():
        yield from _complete(wanted, folder / wanted.folder)
    name = wanted.repository.replace("/", "--")
    snapshots = _hub_cache() / f"models--{name}" / "snapshots"
    yield from _complete(wanted, *sorted(snapshots.glob("*")))


def _complete(wanted: Vocabulary, *folders: Path) -> Iterator[Path]:
    for folder in folders:
        if any(all(os.path.exists(folder / file) for file in files) for files in wanted.files):
            yield folder


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def load_tokenizer(source: Source, part: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer of a model in single files, without network."""
    import transformers

    kind = read_index(source.folder)[part][-1]
    wanted = vocabularies(source.folder)[part]
    if wanted.chat_template:  # also a processor's
        kind = "Qwen2Tokenizer"
    tokenizer = getattr(transformers, kind).from_pretrained(
        source.tokenizers[part], **data_only.TEXTS, **_options(source, part)
    )
    if wanted.chat_template:
        known = tokenizer.get_vocab()
        tokenizer.add_tokens([token for token in wanted.tokens if token not in known])
        tokenizer.chat_template = wanted.chat_template
    return tokenizer


def _options(source: Source, part: str) -> dict[str, object]:
    """Return what the vocabulary's folder may say otherwise: ComfyUI's names no limit of tokens, and
    the same padding for both of Stable Diffusion's CLIPs."""
    own = source.folder / part / "tokenizer_config.json"
    options = {"pad_token": read_config(own)["pad_token"]} if own.exists() else {}
    encoder = source.folder / part.replace("tokenizer", "text_encoder") / "config.json"
    length = read_config(encoder).get("max_position_embeddings") if encoder.exists() else None
    return options | ({"model_max_length": length} if length else {})
