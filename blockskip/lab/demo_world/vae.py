"""Train a demo model's autoencoder on the drawn world at full size, half size and close up."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.data import MASTER, PART, load_masters
from blockskip.lab.demo_world.model import Demo
from blockskip.lab.demo_world.muon import Muon
from blockskip.lab.demo_world.render import render
from blockskip.lab.demo_world.subjects import draw_pet
from blockskip.lab.demo_world.world import random_pet, random_scene, striking_pet
from blockskip.lab.measuring.json_lines import append_line

log = logging.getLogger(__name__)


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """Convert uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2) / 127.5 - 1


def downscale(master: np.ndarray, box: tuple[float, float, float, float], side: int) -> np.ndarray:
    """Crop a picture to ``box`` (left, top, right, bottom; pixels) and resize it to ``side`` px."""
    picture = Image.fromarray(master)
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS, box=box))


def crop_box(
    rng: np.random.Generator, side: float, size: float, focus: bool, stray: float = 0.12
) -> tuple:
    """Return (left, top, right, bottom) of a random square of ``side`` inside ``size``, in pixels.

    With ``focus`` it lies near the pet's head, with deviation ``stray`` as a share of ``size``.
    """
    room = size - side
    if focus:
        x, y = rng.normal(0.5, stray) * size - side / 2, rng.normal(0.42, stray) * size - side / 2
    else:
        x, y = rng.uniform(0, room), rng.uniform(0, room)
    x, y = min(max(x, 0), room), min(max(y, 0), room)
    return (x, y, x + side, y + side)


def _batch(
    masters: list[np.ndarray], native: int, rng: np.random.Generator, batch: int
) -> torch.Tensor:
    """Return ``batch`` pictures of ``native`` px or, in half of the cases, four times as many of
    half the side. A quarter of them have swapped colours."""
    small = rng.random() < 0.5
    whole_share = 0.4 if small else 1.0 if native == MASTER else 0.6
    pictures = []
    for _ in range(4 * batch if small else batch):
        master = masters[rng.integers(len(masters))][rng.integers(PART)]
        side = MASTER if rng.random() < whole_share else rng.uniform(64, 128)
        box = crop_box(rng, side, MASTER, rng.random() < 0.6)
        picture = downscale(master, box, native // 2 if small else native)
        pictures.append(picture[..., rng.permutation(3)] if rng.random() < 0.25 else picture)
    return to_tensor(np.stack(pictures))


def vae_loss(vae: nn.Module, kind: type[Demo], x: torch.Tensor) -> torch.Tensor:
    """Return the loss: L1, L1 of gradients and of 4x4 means, squared error, and a little KL."""
    latent, kl = kind.noisy_code(vae, x)
    y = vae.decode(latent).sample
    edges = (y.diff(dim=-1) - x.diff(dim=-1)).abs().mean() + (
        y.diff(dim=-2) - x.diff(dim=-2)
    ).abs().mean()
    means = (F.avg_pool2d(y, 4) - F.avg_pool2d(x, 4)).abs().mean()
    return (y - x).abs().mean() + 0.3 * edges + means + (y - x).square().mean() + 1e-3 * kl


def held_out_pictures(n: int = 96, size: int = 64, seed: int = 99) -> np.ndarray:
    """Return pictures (n, size, size, 3) of the judge's pets, half ordinary and half striking."""
    rng = np.random.default_rng(seed)
    draw = (random_pet, striking_pet)
    return np.stack(
        [render(draw_pet(rng, "judge", draw[k % 2]), random_scene(rng), size, k) for k in range(n)]
    )


@torch.no_grad()
def psnr(vae: nn.Module, kind: type[Demo], pictures: np.ndarray) -> float:
    """Return the mean reconstruction PSNR in dB, without noise, clipped to the picture's range."""
    x = to_tensor(pictures)
    y = vae.decode(kind.code(vae, x)).sample.clamp(-1, 1)
    mse = ((y - x) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * mse.log10()).mean())


def _restore(path: Path, vae: nn.Module, optimisers: list) -> tuple[int, float]:
    """Load the checkpoint if there is one. Returns the steps and seconds done so far."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    vae.load_state_dict(state["vae"])
    if state["optimisers"]:  # a warm start has none
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    return state["step"], state["seconds"]


def _update(
    vae: nn.Module, kind: type[Demo], optimisers: list, x: torch.Tensor, rate: float
) -> float:
    """Take one training step on pictures ``x`` (B, 3, H, W) and return its loss."""
    loss = vae_loss(vae, kind, x)
    vae.zero_grad(set_to_none=True)
    loss.backward()
    parallel.all_reduce_mean(p.grad for p in vae.parameters())
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    return loss.item()


def train_vae(
    rank: int,
    ranks: int,
    work: Path,
    kind: type[Demo],
    minutes: float,
    steps: int,
    seed: int,
    rate: float = 3e-3,
    batch: int = 6,
) -> None:
    """Run one process of VAE training. Resumes from ``work/vae.pt`` and logs to
    ``work/vae.jsonl``."""
    torch.manual_seed(seed)
    vae, path = kind.build_ae(), work / "vae.pt"
    optimisers = [
        Muon([p for p in vae.parameters() if p.ndim > 1], rate),
        torch.optim.AdamW([p for p in vae.parameters() if p.ndim == 1], rate),
    ]
    step, spent = _restore(path, vae, optimisers)
    masters, unseen = load_masters(work), held_out_pictures(64, kind.NATIVE_PX)
    rng = np.random.default_rng([seed, rank, step])
    torch.manual_seed(seed * 1000 + rank * 100 + step)
    before, saved, losses, progress = time.process_time() - spent, time.monotonic(), [0.0], 0.0
    while progress < 1:
        progress = parallel.broadcast(
            parallel.progress_of(step, steps, time.process_time() - before, minutes)
        )
        if rank == 0 and (progress >= 1 or time.monotonic() - saved > 45):
            saved, spent = time.monotonic(), time.process_time() - before
            _report(work, psnr(vae, kind, unseen), step, spent, min(progress, 1.0), losses)
            parallel.save(_state(vae, optimisers, step, spent) | {"done": progress >= 1}, path)
            losses = []
        if progress < 1:
            pictures = _batch(masters, kind.NATIVE_PX, rng, batch)
            current_rate = rate * parallel.schedule(progress, flat=0.4)
            losses.append(_update(vae, kind, optimisers, pictures, current_rate))
            step += 1


def _state(vae, optimisers: list, step: int, seconds: float) -> dict:
    return {
        "vae": vae.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
        "step": step,
        "seconds": seconds,
    }


def _report(
    work: Path, quality: float, step: int, seconds: float, progress: float, losses: list
) -> None:
    row = {
        "step": step,
        "seconds": round(seconds),
        "progress": round(progress, 4),
        "loss": round(float(np.mean(losses)), 4),
        "psnr_unseen": round(quality, 2),
    }
    append_line(work / "vae.jsonl", row)
    log.info("vae %s", row)
