"""A workflow's noise levels are those of the studio's pictures, as far as ComfyUI can have them.

ComfyUI's schedules are written down here from their definitions (comfy/samplers.py and
comfy/model_sampling.py of 0.38.1); ours are diffusers' scheduler's, as its pipelines set it.
"""

import math

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from blockskip.core import presets
from blockskip.models.lora.comfyui_workflow import workflow

ROWS = presets.model_rows()
TOKENS = (1024 // 16) ** 2
# ComfyUI's own shift of each model (comfy/supported_models.py), and how finely it divides time
OWN = {
    "flux-dev": (math.exp(1.15), 10_000),
    "flux-krea": (math.exp(1.15), 10_000),
    "flux-schnell": (1.0, 1000),
    "z-image": (3.0, 1000),
    "z-image-turbo": (3.0, 1000),
    "qwen-image": (math.exp(1.15), 10_000),
    "qwen-image-2.1": (math.exp(0.69), 10_000),
    "sd35-medium": (3.0, 1000),
    "sd35-large": (3.0, 1000),
    "krea2": (math.exp(1.15), 10_000),
}
OFF = {"qwen-image-2.1": 0.02}  # which ends at 0.02 here


def shifted(shift, t):
    return shift * t / (1 + (shift - 1) * t)


def comfyuis(name):
    """The noise levels of a workflow's sampler, the last 0 left out."""
    made = workflow("pet.safetensors", "a cat", ROWS[name])
    values = {node["type"]: node["widgets_values"] for node in made["nodes"]}
    shift, ticks = OWN[name]
    if "ModelSamplingAuraFlow" in values:
        (shift,), ticks = values["ModelSamplingAuraFlow"], 1000
    _, _, steps, _, sampler, scheduler, denoise = values["KSampler"]
    assert (sampler, denoise) == ("euler", 1.0)
    levels = {
        "simple": 1 - (np.arange(steps) * ticks / steps).astype(int) / ticks,
        "normal": np.linspace(1, shifted(shift, 1 / ticks), steps),
    }
    return shifted(shift, levels[scheduler])


def ours(name):
    """The noise levels of the studio's pictures at 1024 px, the last 0 left out."""
    row = ROWS[name]
    steps = (row.sibling_row or row).preview_steps
    shift = row.sibling.shift if row.sibling else row.shift_at(TOKENS)
    if row.family == "sd3":  # whose pipeline leaves the steps to the scheduler
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(steps)
    else:
        end = 0.02 if row.family == "qwen_image21" else None
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=end)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=math.log(shift))
    return scheduler.sigmas.numpy()[:-1]


@pytest.mark.parametrize("name", OWN)
def test_the_sampler_has_the_noise_levels_of_our_pictures(name):
    np.testing.assert_allclose(comfyuis(name), ours(name), atol=OFF.get(name, 0.001))


@pytest.mark.parametrize("name", ["flux2-klein-4b", "flux2-klein-9b"])
def test_flux2s_scheduler_is_given_what_diffusers_shifts_by(name):
    """ComfyUI's Flux2Scheduler and diffusers have the same formula, of tokens and steps."""
    made = workflow("pet.safetensors", "a cat", ROWS[name])
    ((steps, width, height),) = (
        node["widgets_values"] for node in made["nodes"] if node["type"] == "Flux2Scheduler"
    )
    shift = math.exp(compute_empirical_mu(width * height // 16**2, steps))
    assert shift == pytest.approx(ROWS[name].sibling.shift, abs=0.05)
