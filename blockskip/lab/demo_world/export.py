"""From checkpoints to a stock FluxPipeline folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from diffusers import FluxPipeline

from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.flow import DEEP, DemoModel, grow
from blockskip.lab.demo_world.latents import load_vae
from blockskip.lab.demo_world.model import build_scheduler
from blockskip.lab.demo_world.tokenizers import MAX_SEQUENCE_LENGTH, build_clip, build_t5

log = logging.getLogger(__name__)


def assemble(work: Path, model: DemoModel) -> FluxPipeline:
    """A pipeline in float32 around ``model`` and the VAE of ``work``."""
    pipe = FluxPipeline(
        scheduler=build_scheduler(),
        vae=load_vae(work),
        text_encoder=model.text_encoder,
        tokenizer=build_clip(),
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=build_t5(),
        transformer=model.transformer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_average(work: Path, name: str = "flow") -> tuple[DemoModel, dict]:
    """The averaged weights of the latest checkpoint, and its counters."""
    state = torch.load(work / f"{name}.pt", weights_only=True)
    model = DemoModel(*state["depth"]).eval().requires_grad_(False)
    model.load_state_dict(state["average"])
    return model, {key: state[key] for key in ("step", "samples", "seconds", "done")}


def export_pipeline(work: Path, out: Path, name: str = "flow") -> dict:
    """Write ``out`` (FluxPipeline.save_pretrained): transformer and VAE in fp16, encoders in fp32.

    Text encoders stay fp32 because ``from_pretrained(out)`` without a dtype must work. Returns
    the counters of the checkpoint, which are also written to ``out/demo_model.json``.
    """
    model, facts = load_average(work, name)
    if len(model.transformer.transformer_blocks) < DEEP[0]:
        model = grow(model).eval().requires_grad_(False)  # the same function in the final shape
    pipe = assemble(work, model)
    pipe.transformer.half()
    pipe.vae.half()
    pipe.save_pretrained(out, safe_serialization=True)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    facts |= {"max_sequence_length": MAX_SEQUENCE_LENGTH, "bytes": size}
    (out / "demo_model.json").write_text(json.dumps(facts, indent=1))
    log.info("exported %s: %s", out, facts)
    return facts


def warm_start(work: Path, folder: Path) -> None:
    """Fill an empty ``work`` with the weights of a model folder, so that training goes on from
    there.

    The VAE is taken as finished; transformer and text encoders go on learning, with fresh
    optimisers. Counters come from ``folder/demo_model.json``; seconds start at zero.
    """
    pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    facts = json.loads((folder / "demo_model.json").read_text())
    model = {
        f"{part}.{name}": tensor
        for part in ("transformer", "text_encoder", "text_encoder_2")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }
    vae = pipe.vae.config
    factors = {"shift_factor": vae.shift_factor, "scaling_factor": vae.scaling_factor}
    work.mkdir(parents=True, exist_ok=True)
    (work / "factors.json").write_text(json.dumps(factors))
    parallel.save({"vae": pipe.vae.state_dict(), "done": True}, work / "vae.pt")
    depth = (pipe.transformer.config.num_layers, pipe.transformer.config.num_single_layers)
    counters = {"step": facts["step"], "samples": facts["samples"], "seconds": 0.0, "done": False}
    state = {"model": model, "average": model, "optimisers": [], "depth": depth} | counters
    parallel.save(state, work / "flow.pt")
