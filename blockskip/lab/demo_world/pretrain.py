"""The whole way from nothing to the demo model: draw, VAE, latents, transformer, pipeline folder.

Each stage goes on where it was killed: start the same command again.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.data import draw_parts
from blockskip.lab.demo_world.export import export_pipeline, warm_start
from blockskip.lab.demo_world.flow import train_flow
from blockskip.lab.demo_world.latents import encode_parts, measure_factors, write_captions
from blockskip.lab.demo_world.vae import train_vae

log = logging.getLogger(__name__)


def _draw(rank: int, ranks: int, work: Path, count: int, seed: int) -> None:
    draw_parts(work, count, seed, rank, ranks)


def _done(path: Path) -> bool:
    return path.exists() and bool(torch.load(path, weights_only=True).get("done"))


def pretrain(
    work: Path,
    out: Path,
    minutes: float = 80.0,
    steps: int = 0,
    seed: int = 7,
    count: int = 16000,
    vae_minutes: float = 12.0,
    vae_steps: int = 0,
    ranks: int = 2,
    start_from: Path | None = None,
) -> dict:
    """Train the demo model in ``work`` and write the pipeline folder ``out``; resumable.

    ``minutes`` and ``steps`` bound the transformer's training (whichever is first; 0 = unbounded),
    ``vae_minutes`` and ``vae_steps`` the VAE's; ``count`` pictures are drawn. ``start_from``: a
    model folder to go on from when ``work`` is empty. Returns the facts that ``export_pipeline``
    writes.
    """
    work.mkdir(parents=True, exist_ok=True)
    if start_from and not (work / "flow.pt").exists():
        warm_start(work, start_from)
    parallel.launch(_draw, ranks, work, count, seed)
    if not _done(work / "vae.pt"):
        parallel.launch(train_vae, ranks, work, vae_minutes, vae_steps, seed)
    parallel.launch(encode_parts, ranks, work, seed)
    if not (work / "factors.json").exists():
        measure_factors(work)
    if not (work / "captions.npz").exists():
        write_captions(work, count, seed)
    if not _done(work / "flow.pt"):
        parallel.launch(train_flow, ranks, work, minutes, steps, seed)
    return export_pipeline(work, out)
