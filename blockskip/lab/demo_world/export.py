"""Export checkpoints to a folder in diffusers' pipeline layout."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.latents import load_vae
from blockskip.lab.demo_world.model import Demo
from blockskip.models.sources import data_only

log = logging.getLogger(__name__)


def assemble(work: Path, model: Demo) -> DiffusionPipeline:
    """Return a pipeline in float32 with ``model`` and the VAE of ``work``."""
    pipe = model.pipeline(load_vae(work, type(model)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_average(work: Path, kind: type[Demo], name: str = "flow") -> tuple[Demo, dict]:
    """Return the averaged weights of the latest checkpoint, and its counters."""
    state = torch.load(work / f"{name}.pt", weights_only=True)
    model = kind(*state["depth"]).eval().requires_grad_(False)
    model.load_state_dict(state["average"])
    return model, {key: state[key] for key in ("step", "samples", "seconds", "done")}


def export_pipeline(work: Path, kind: type[Demo], out: Path, name: str = "flow") -> dict:
    """Write ``out`` (save_pretrained): transformer and VAE in fp16, encoders in fp32.

    Text encoders stay fp32 because ``from_pretrained(out)`` without a dtype must work. Returns
    the counters of the checkpoint, which are also written to ``out/demo_model.json``.
    """
    model, facts = load_average(work, kind, name)
    if len(model.transformer.transformer_blocks) < kind.DEEP[0]:
        model = (
            kind.grown(model).eval().requires_grad_(False)
        )  # the same function in the final shape
    pipe = assemble(work, model)
    pipe.transformer.half()
    pipe.vae.half()
    pipe.save_pretrained(out, safe_serialization=True)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    facts |= {"native_px": kind.NATIVE_PX, "max_sequence_length": kind.MAX_SEQUENCE_LENGTH}
    facts |= {"bytes": size}
    (out / "demo_model.json").write_text(json.dumps(facts, indent=1))
    log.info("exported %s: %s", out, facts)
    return facts


def warm_start(work: Path, kind: type[Demo], folder: Path, vae_done: bool = True) -> None:
    """Fill an empty ``work`` with the weights of a model folder, to continue training from there.

    The VAE counts as finished if ``vae_done``, else it is trained further and its factors are
    measured again. Transformer and text encoders are trained further with fresh optimisers.
    Counters come from ``folder/demo_model.json``.
    """
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **data_only.WEIGHTS)
    facts = json.loads((folder / "demo_model.json").read_text())
    model = {
        f"{part}.{name}": tensor
        for part in ("transformer", *kind.ENCODERS)
        for name, tensor in getattr(pipe, part).state_dict().items()
    }
    work.mkdir(parents=True, exist_ok=True)
    factor_names = ("shift_factor", "scaling_factor")
    factors = {name: value for name, value in pipe.vae.config.items() if name in factor_names}
    if vae_done:
        (work / "factors.json").write_text(json.dumps(factors))
    vae = {"vae": pipe.vae.state_dict(), "optimisers": [], "step": 0, "seconds": 0.0}
    parallel.save(vae | {"done": vae_done}, work / "vae.pt")
    counters = {"step": facts["step"], "samples": facts["samples"], "done": False}
    counters["seconds"] = (
        0.0 if facts["done"] else facts["seconds"]
    )  # a finished training starts anew
    state = {"model": model, "average": model, "optimisers": [], "depth": kind.DEEP} | counters
    parallel.save(state, work / "flow.pt")
