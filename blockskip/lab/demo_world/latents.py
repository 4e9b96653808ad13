"""Encode the drawn world once: four buckets of latents, and their captions as token ids.

Buckets, for whole pictures of N px: ``full`` whole pictures at N px, ``close`` heads at 64 px,
``half`` whole pictures at N/2 px, ``crop`` squares of N/2 to N px of the picture, shrunk to N/2 px
as in dynamic patch sampling.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.captions import training_captions
from blockskip.lab.demo_world.data import MASTER, PART, load_masters, picture_facts
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.vae import crop_box, downscale, to_tensor

log = logging.getLogger(__name__)
BUCKETS = ("full", "close", "half", "crop")
CLOSE_PX = 64
CROP_SIDES = (1, 1.25, 1.5, 1.75, 2)  # in halves of the picture
CAPTIONS = 6


def load_vae(work: Path, kind: type[Demo]) -> nn.Module:
    """Return the trained VAE of ``work``, with its scaling and shift factors if they are
    measured."""
    vae = kind.build_ae()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["vae"])
    factors = work / "factors.json"
    if factors.exists():
        vae.register_to_config(**json.loads(factors.read_text()))
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode(
    vae: nn.Module, kind: type[Demo], pictures: list[np.ndarray], batch: int = 32
) -> np.ndarray:
    """Return unscaled latents, float16 (n, C, h, w)."""
    parts = [
        kind.code(vae, to_tensor(np.stack(pictures[i : i + batch]))).half()
        for i in range(0, len(pictures), batch)
    ]
    return torch.cat(parts).numpy()


def _views(
    master: np.ndarray, native: int, rng: np.random.Generator
) -> list[tuple[str, np.ndarray, int]]:
    """Return all (bucket, picture, crop side in pixels of the ``native`` picture) of a drawn
    picture."""
    half = native // 2
    photo = downscale(master, (0, 0, MASTER, MASTER), native)
    views = [
        ("full", photo, native),
        ("half", downscale(photo, (0, 0, native, native), half), native),
    ]
    for share in rng.choice(CROP_SIDES, 2, replace=False):
        side = int(share * half)
        box = crop_box(rng, side, native, rng.random() < 0.35)
        views.append(("crop", downscale(photo, tuple(map(round, box)), half), side))
    if rng.random() < 0.8:
        box = crop_box(rng, rng.uniform(68, 80), MASTER, True, stray=0.03)
        views.append(("close", downscale(master, box, CLOSE_PX), half))
    return views


def encode_parts(rank: int, ranks: int, work: Path, kind: type[Demo], seed: int) -> None:
    """Encode this process's share of the parts into ``work/latents/part-NNN.npz``; resumable."""
    vae, folder = load_vae(work, kind), work / "latents"
    folder.mkdir(exist_ok=True)
    for part, masters in enumerate(load_masters(work)):
        path = folder / f"part-{part:03d}.npz"
        if part % ranks != rank or path.exists():
            continue
        arrays = _encode_part(vae, kind, masters, part, seed)
        with parallel.atomic_file(path) as file:
            np.savez(file, **arrays)
        log.info("encoded %s", path.name)


def _encode_part(
    vae: nn.Module, kind: type[Demo], masters: np.ndarray, part: int, seed: int
) -> dict:
    rng = np.random.default_rng([seed, 77, part])
    rows: dict[str, list] = {bucket: [] for bucket in BUCKETS}
    for k in range(len(masters)):
        for bucket, picture, side in _views(masters[k], kind.NATIVE_PX, rng):
            rows[bucket].append((picture, part * PART + k, side))
    arrays = {}
    for bucket, entries in rows.items():
        arrays[bucket] = encode(vae, kind, [row[0] for row in entries])
        arrays[f"{bucket}_index"] = np.array([row[1] for row in entries], np.int32)
        arrays[f"{bucket}_side"] = np.array([row[2] for row in entries], np.int32)
    return arrays


def write_captions(work: Path, kind: type[Demo], count: int, seed: int) -> None:
    """Write the token ids of ``CAPTIONS`` captions per picture, plain and close-up, to
    ``work/captions.npz``."""
    arrays, seen = {}, set()
    for view, close in (("plain", 0.0), ("crop", 0.6), ("close", 0.95)):
        texts = []
        for index in range(count):
            pet, scene, name, detail = picture_facts(index, seed)
            texts += training_captions(pet, scene, detail + len(view), name, CAPTIONS, close)
        seen.update(texts)
        for name, ids in kind.token_ids(texts).items():
            arrays[f"{view}_{name}"] = np.array(ids, np.int16).reshape(count, CAPTIONS, -1)
    (work / "captions.json").write_text(json.dumps(sorted(seen)))
    np.savez(work / "captions.npz", **arrays)


def measure_factors(work: Path, kind: type[Demo]) -> None:
    """Write ``factors.json``: shift = mean and scaling = 1 / std of whole pictures' latents. An
    autoencoder without a shift factor is trained to latents with a mean near zero."""
    parts = sorted((work / "latents").glob("part-*.npz"))[:6]
    sample = np.concatenate([np.load(p)["full"] for p in parts]).astype(np.float32)
    factors = {"scaling_factor": float(1 / sample.std())}
    if "shift_factor" in kind.build_ae().config:
        factors["shift_factor"] = float(sample.mean())
    (work / "factors.json").write_text(json.dumps(factors))


def load_buckets(work: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return bucket -> {latent: float16 (n, C, h, w) scaled; index, side: (n,)}."""
    factors = json.loads((work / "factors.json").read_text())
    parts = [np.load(p) for p in sorted((work / "latents").glob("part-*.npz"))]
    buckets = {}
    for bucket in BUCKETS:
        latent = torch.from_numpy(np.concatenate([p[bucket] for p in parts])).float()
        latent = (latent - factors.get("shift_factor", 0)) * factors["scaling_factor"]
        index, side = (
            np.concatenate([p[f"{bucket}_{key}"] for p in parts]) for key in ("index", "side")
        )
        buckets[bucket] = {
            "latent": latent.half(),
            "index": torch.from_numpy(index).long(),
            "side": torch.from_numpy(side).float(),
        }
    return buckets
