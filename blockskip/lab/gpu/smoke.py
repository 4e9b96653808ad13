"""Run the same training on the CPU and the GPU and compare first gradients and five losses; then
time and judge a whole run of the demo model on both."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from blockskip.core import presets, processes
from blockskip.core.errors import Unexpected, from_kind
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings
from blockskip.data.photos import find_photos, read_photos
from blockskip.data.schedule import build_schedule
from blockskip.lab.gpu.first_gradients import first_gradients
from blockskip.memory.open_model import open_model
from blockskip.memory.placement import on_device, pick_device
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.models.families.base import Family, get_family
from blockskip.training import encode
from blockskip.training.draws import TrainingData
from blockskip.training.trainer import Trainer

CPU = torch.device("cpu")
STEPS = 5
TIMEOUT_S = 590.0  # for a whole run


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job. tiny: run only a few steps and pictures."""

    work: str
    device: str = "auto"
    tiny: bool = False


def work(job: Job) -> dict:
    """Return, JSON-ready, the device's deviations from the CPU, and the whole run on both."""
    device = pick_device(job.device)
    on_cpu, on_target = (_first_steps(job, each) for each in (CPU, device))
    report = {
        "device": str(device),
        "text_off": _relative_error(on_cpu["text"], on_target["text"]),
        "latents_off": _relative_error(on_cpu["latents"], on_target["latents"]),
        "gradients_off": max(
            _relative_error(grad, on_target["gradients"][n])
            for n, grad in on_cpu["gradients"].items()
        ),
        "losses": [on_cpu["losses"], on_target["losses"]],
        "losses_off": _relative_error(
            torch.tensor(on_cpu["losses"]), torch.tensor(on_target["losses"])
        ),
        "whole_way": {},
    }
    for each in dict.fromkeys(("cpu", device.type)):
        report["whole_way"][each] = _end_to_end(job, each)
    return report


def _first_steps(job: Job, device: torch.device) -> dict:
    """Return text embeddings, latents, first gradients and five losses on a device. Training starts
    from the CPU's text and latents on both, so that differences are due to training."""
    settings = choose_settings(model="demo", seed=1, steps=STEPS, prior=0.3).changed(
        batch=2,
        window_steps=3,
        s_min_px=32,
        s_max_px=64,
        patches="dynamic",
        front=3,
        back=1,
        window_on_card=100,
    )
    row = presets.model_row("demo")
    family, source = get_family(row.family), sources.find_model(row)
    photos, _ = read_photos(
        find_photos([min((ASSETS / "demo-photos").glob("*/"))]), settings.subject_caption
    )
    draws = build_schedule(photos, settings, family.pixel_multiple)
    captions = [settings.subject_caption, settings.class_caption, ""]
    encoded = {}
    for target in dict.fromkeys((CPU, device)):
        pipe = open_model(family, row, source, settings, target)
        text = encode.encode_captions(family, pipe, captions, settings.plan.text_tokens, target)
        with on_device(target, pipe.vae):
            latents = encode.encode_draws(family, pipe, photos, draws, settings, target)
        encoded[target.type] = text, latents
    text, latents = encoded["cpu"]
    data = TrainingData(draws, latents, text, [0] * len(photos), 1, 2)
    window = Path(job.work) / f"smoke-{device.type}"
    gradients, losses = _train(family, settings, data, device, pipe.transformer, window)
    text, latents = encoded[device.type]
    return {"text": text.embeds, "latents": latents, "gradients": gradients, "losses": losses}


def _train(
    family: Family,
    settings: Settings,
    data: TrainingData,
    device: torch.device,
    model: torch.nn.Module,
    window: Path,
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Train, and return the LoRA's gradients in the first step and all losses."""
    trainer = Trainer(model, family, settings, data, device, window, f"smoke {device}")
    gradients = first_gradients(trainer, 0.05, 5)
    return gradients, [event.loss for event in trainer.run()]


def _relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference relative to the largest magnitude in `a`."""
    return float((a - b.cpu()).abs().max() / a.abs().max().clamp_min(1e-12))


def _end_to_end(job: Job, device: str) -> dict:
    """Return the seconds from launch to LoRA, and the judge's likeness."""
    name = f"smoke-{device}-{time.time_ns()}"
    options = ["--steps", "4", "--preview-every", "0"] if job.tiny else []
    arguments = ["train", "--demo", "--device", device, "--out", name, *options, "--json"]
    began = time.perf_counter()
    trained = _run_json(arguments)
    seconds = time.perf_counter() - began
    judged = _run_json(["lab", "evaluate", name, "--images", "1" if job.tiny else "8", "--json"])
    tuned = judged["tuned"]
    return {
        "seconds": round(seconds, 1),
        "stages": trained["stages"],
        "peak_vram_gib": trained["peak_vram_gib"],
        "likeness": tuned["identity"],
        "likeness_95": tuned["identity_95"],
    }


def _run_json(words: list[str]) -> dict:
    output = processes.run_for_output("blockskip", words, seconds=TIMEOUT_S)
    try:
        answer = json.loads(output)
    except ValueError:
        raise Unexpected(
            f"`{' '.join(words)}` gave no answer.", "Look at it alone first."
        ) from None
    if "error" in answer:
        raise from_kind(answer["kind"], answer["error"], answer["remedy"])
    return answer
