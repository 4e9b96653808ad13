"""Pretrain a demo model from scratch: draw, VAE, latents, transformer, pipeline folder.

Each stage resumes when the same command is started again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from blockskip.core.errors import BadFile
from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.data import draw_parts
from blockskip.lab.demo_world.export import export_pipeline, warm_start
from blockskip.lab.demo_world.flow import train_flow
from blockskip.lab.demo_world.flux import DemoFlux
from blockskip.lab.demo_world.latents import encode_parts, measure_factors, write_captions
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.sana import DemoSana
from blockskip.lab.demo_world.vae import train_vae
from blockskip.models.families.base import get_family

log = logging.getLogger(__name__)
KINDS: dict[str, type[Demo]] = {"flux": DemoFlux, "sana": DemoSana}
FIRST = DemoFlux  # its pretraining also trains the judge of both


def demo_class_of(folder: Path) -> type[Demo]:
    """Return the class of the demo model in a folder. Raises UserError for another model."""
    class_name = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))[
        "_class_name"
    ]
    for demo in KINDS.values():
        if get_family(demo.FAMILY).pipeline.__name__ == class_name:
            return demo
    raise BadFile(f"{folder} holds no demo model.", "Choose the folder of one.")


def draw_world(work: Path, count: int, seed: int, ranks: int) -> None:
    """Draw the pictures in several processes, where missing."""
    parallel.launch(_draw, ranks, work, count, seed)


def _draw(rank: int, ranks: int, work: Path, count: int, seed: int) -> None:
    draw_parts(work, count, seed, rank, ranks)


def _done(path: Path) -> bool:
    return path.exists() and bool(torch.load(path, weights_only=True).get("done"))


def pretrain(
    work: Path,
    out: Path,
    kind: type[Demo] = DemoFlux,
    minutes: float = 80.0,
    steps: int = 0,
    seed: int = 7,
    count: int = 16000,
    vae_minutes: float | None = None,
    vae_steps: int = 0,
    ranks: int = 2,
    start_from: Path | None = None,
) -> dict:
    """Train a demo model in ``work`` and write the pipeline folder ``out``; resumable.

    ``minutes`` and ``steps`` limit the transformer's training (whichever is first; 0 = unlimited),
    ``vae_minutes`` and ``vae_steps`` the VAE's (default: 12 minutes from scratch, none for the VAE
    of ``start_from``). Minutes are each process's CPU time, so that a pause costs nothing.
    ``count`` pictures are drawn. ``start_from``: a model folder to start from when ``work`` is
    empty. Returns the facts that ``export_pipeline`` writes.
    """
    work.mkdir(parents=True, exist_ok=True)
    rate = 3e-3
    if start_from and not (work / "flow.pt").exists():
        warm_start(work, kind, start_from, vae_done=not vae_minutes)
    if start_from:
        rate = 1.5e-3  # preserves what was learnt
    draw_world(work, count, seed, ranks)
    if not _done(work / "vae.pt"):
        bounds = (12.0 if vae_minutes is None else vae_minutes, vae_steps)
        parallel.launch(train_vae, ranks, work, kind, *bounds, seed, rate)
    prepare_latents(work, kind, count, seed, ranks)
    if not _done(work / "flow.pt"):
        parallel.launch(train_flow, ranks, work, kind, minutes, steps, seed)
    return export_pipeline(work, kind, out)


def prepare_latents(work: Path, kind: type[Demo], count: int, seed: int, ranks: int) -> None:
    """Write the latents, their factors and the captions of the drawn world, where missing."""
    parallel.launch(encode_parts, ranks, work, kind, seed)
    if not (work / "factors.json").exists():
        measure_factors(work, kind)
    if not (work / "captions.npz").exists():
        write_captions(work, kind, count, seed)
