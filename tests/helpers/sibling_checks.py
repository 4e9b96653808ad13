"""Checks that hold for every family's pipeline when pictures are made on a distilled sibling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from helpers.family_checks import CAPTIONS, CPU, opened
from helpers.tiny import randomise

from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.memory.open_model import open_sibling
from blockskip.models.families.base import Sampling, get_family
from blockskip.models.families.caption_modules import set_aside
from blockskip.models.sources import Source
from blockskip.sampling import sample as preview
from blockskip.sampling.sibling import taking_turns
from blockskip.training import encode
from blockskip.training.lora import add_lora, restore, share_lora, snapshot
from blockskip.training.residuals import Span


def check_sibling(row: ModelRow, folder: Path, tmp_path: Path, tokens: int, side_px: int) -> None:
    """Check that pictures made on a distilled sibling, of whose repository only the transformer has
    weights, equal the library's with the same LoRA: without guidance, in the sibling's steps, with
    its scheduler, and without a pass of the trained model."""
    sibling = make_sibling(row, folder, tmp_path)
    family, pipe = opened(row, folder)
    settings = Settings.of(rank=3, targets="attention", front=1, back=2)
    lora = add_lora(pipe.transformer, family, Span(1, 2), 3, "attention", seed=0)
    pictures = open_sibling(family, pipe, row, Source(row, sibling), settings, CPU)
    share_lora(pictures.transformer, family, settings, lora)
    randomise(lora)  # after sharing: pictures follow the training
    passes: list[str] = []
    for name, model in (("trained", pipe.transformer), ("sibling", pictures.transformer)):
        model.register_forward_hook(lambda *_, name=name: passes.append(name))
    text = encode.encode_captions(family, pictures, [*CAPTIONS[:1], ""], tokens)
    one, empty = text.rows([0]), text.rows([1])
    sampling = Sampling(side_px, 3, 1.0)
    with taking_turns(pipe.transformer, pictures):
        ours = preview.sample(family, pictures, one, empty, sampling, [3], CPU, rows=1)[0]
    assert passes == ["sibling"] * 3
    reads = pictures.transformer._store.stats.reads
    blocks = tuple(name for name, _ in family.blocks(pictures.transformer))
    assert {reads[name] for name in reads if name.startswith(blocks)} == {3}, "block by block"
    assert all(p.is_meta for n, p in pictures.transformer.named_parameters() if "lora" not in n)
    library_pipe = family.load(folder, torch.float32)
    library_pipe.transformer = type(library_pipe.transformer).from_pretrained(
        sibling / "transformer"
    )
    library_pipe.scheduler = pictures.scheduler
    set_aside(library_pipe.transformer, family)  # `text` was read already
    own = add_lora(library_pipe.transformer, family, Span(1, 2), 3, "attention", seed=0)
    restore(own, snapshot(lora))
    theirs = family.sample(library_pipe, one, empty, sampling, [3])[0]
    assert np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16)).max() <= 2
    plain = preview.sample(family, pipe, one, empty, sampling, [3], CPU)[0]
    assert np.abs(np.asarray(ours, np.int16) - np.asarray(plain, np.int16)).max() > 4


def make_sibling(row: ModelRow, folder: Path, tmp_path: Path) -> Path:
    """Return a folder of another transformer of the same shape, with another shift, whose other
    parts have no weights."""
    sibling = tmp_path / "sibling"
    shutil.copytree(folder, sibling)
    pipe = get_family(row.family).load(folder, torch.float32)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in pipe.transformer.parameters():
            parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
    shutil.rmtree(sibling / "transformer")
    pipe.transformer.save_pretrained(sibling / "transformer")
    for path in sibling.glob("*/*.safetensors"):
        if path.parent.name != "transformer":
            path.unlink()
    config = sibling / "scheduler" / "scheduler_config.json"
    if not config.exists():  # of a modular pipeline
        return sibling
    table = json.loads(config.read_text(encoding="utf-8"))
    for key in ("shift", "flow_shift"):
        if key in table:
            table[key] += 1.0
    config.write_text(json.dumps(table), encoding="utf-8")
    return sibling
