"""Run a part of a measurement in its own process: `python -m blockskip.lab.gpu.worker JOB
REPORT`."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from blockskip.core.presets import model_row
from blockskip.lab.full_size.random_model import write_model
from blockskip.lab.gpu import peak_rates, quantisation, sampling, smoke, stages
from blockskip.lab.measuring.subprocess_job import serve
from blockskip.memory.placement import pick_device
from blockskip.memory.vram_cap import set_torch_backends


def _model(job: dict) -> dict:
    """Write a model with random weights if it does not exist, and return its bytes."""
    device = pick_device(job["device"])
    return {"bytes": write_model(model_row(job["model"]), Path(job["folder"]), device)}


PARTS = {
    "model": _model,
    "rates": peak_rates.work,
    "stages": lambda job: stages.work(stages.Job(**job)),
    "smoke": lambda job: smoke.work(smoke.Job(**job)),
    "quant": lambda job: quantisation.work(quantisation.Job(**job)),
    "pictures": lambda job: sampling.work(sampling.Job(**job)),
}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if torch.cuda.is_available():
        set_torch_backends()
    serve(lambda request: PARTS[request["what"]](request["job"]))
