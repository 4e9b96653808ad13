"""One part of a measurement, alone in a process: `python -m blockskip.lab.card.child JOB REPORT`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch

from blockskip import files
from blockskip.config import model_row
from blockskip.lab.card import pictures, quant, rates, smoke, stages
from blockskip.lab.random_model import write_model
from blockskip.memory.cap import as_planned
from blockskip.memory.placement import pick_device


def _model(job: dict) -> dict:
    """Write a model with random weights, if it is not there; its bytes."""
    device = pick_device(job["device"])
    return {"bytes": write_model(model_row(job["model"]), Path(job["folder"]), device)}


PARTS = {
    "model": _model,
    "rates": rates.work,
    "stages": lambda job: stages.work(stages.Job(**job)),
    "smoke": lambda job: smoke.work(smoke.Job(**job)),
    "quant": lambda job: quant.work(quant.Job(**job)),
    "pictures": lambda job: pictures.work(pictures.Job(**job)),
}


def main(job: str, report: str) -> int:
    """Do the job of one JSON file and write the other."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if torch.cuda.is_available():
        as_planned()
    said = files.read_json(Path(job))
    files.write_json(Path(report), PARTS[said["what"]](said["job"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
