"""Quantised blocks that another version of the program left are made again."""

import torch
from helpers.parked import offloaded_model, saved_checkpoint
from safetensors.torch import load_file

from blockskip.core import safetensors_files


def test_a_cache_of_another_version_is_made_again(tmp_path):
    folder, cache = saved_checkpoint(tmp_path / "model"), tmp_path / "cache"
    offloaded_model(folder, precision="int8", cache=cache)
    path = min(cache.rglob("*.safetensors"))
    made = load_file(path)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in made.items()}
    safetensors_files.save_tensors(path, zeros, {"fingerprint": "another version's"})
    offloaded_model(folder, precision="int8", cache=cache)
    again = load_file(path)
    assert all(torch.equal(made[name], again[name]) for name in made)
