"""Build FLUX.1's pipeline from single files (models/sources/flux_checkpoint.py)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import CLIPTokenizer, T5Tokenizer

from blockskip.models.sources.empty_model import build_empty, new_part
from blockskip.models.sources.flux_checkpoint import PARTS
from blockskip.models.sources.part_checks import load_part
from blockskip.models.sources.source import Source
from blockskip.models.sources.tensor_reader import Reader


def assemble(
    source: Source, dtype: torch.dtype, without_weights: Collection[str] = ()
) -> FluxPipeline:
    """Build the diffusers pipeline from single files, on the CPU and without network.

    without_weights: parts to leave on the meta device in `dtype`; load them later with
    `source.weights(part)`. Raises UserError.
    """
    reader = Reader()
    parts = {part: build_empty(partial(new_part, source.folder, part), dtype) for part in PARTS}
    for part, module in parts.items():
        if part not in without_weights:
            load_part(source, part, module, reader)
    clip, t5 = source.tokenizers["tokenizer"], source.tokenizers["tokenizer_2"]
    length = source.config("text_encoder")["max_position_embeddings"]  # ComfyUI's says 8192
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(source.folder / "scheduler"),
        tokenizer=CLIPTokenizer.from_pretrained(clip, model_max_length=length),
        tokenizer_2=T5Tokenizer.from_pretrained(t5),
        **parts,
    )
