"""Files of whole models, by their shapes alone: read in full, and never taken for another's."""

import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers.comfy_cases import CASES
from helpers.comfy_families import is_unused

from blockskip.core import presets
from blockskip.models.sources import comfyui
from blockskip.models.sources.empty_model import build_empty, new_part
from blockskip.models.sources.entry import TensorEntry
from blockskip.models.sources.known_formats import format_of
from blockskip.models.sources.layouts import configs_folder, read_config, read_index
from blockskip.models.sources.part_checks import without_unused

FAMILIES = {presets.model_row(case.row).family: case for case in CASES.values()}
ROWS = [
    row.name
    for row in (*presets.model_rows().values(), *presets.sibling_rows().values())
    if row.family in FAMILIES and not row.demo and comfyui.is_read_from_files(row)
]
PARTS = [(name, part) for name in ROWS for part in presets.model_row(name).parts]


@cache
def about(name, part):
    """Return (case, folder of configs, class, config as JSON, format) of a part."""
    row = presets.model_row(name)
    folder = configs_folder(row)
    kind = read_index(folder)[part][-1]
    config = json.dumps(read_config(folder / part / "config.json"))
    return FAMILIES[row.family], folder, kind, config, format_of(kind)


def positions(width, side, **_):
    """Stable Diffusion 3's table, which takes seconds, without its numbers."""
    return torch.empty(side**2, width, device="meta")


@cache
def whole(folder, part):
    """Return (tensors that a file has, those that are read of it), under the library's names, on the meta
    device."""
    with mock.patch("diffusers.models.embeddings.get_2d_sincos_pos_embed", positions):
        module = build_empty(partial(new_part, folder, part), torch.bfloat16)
    names = {}  # of a tied tensor the first
    for key, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), (key, tensor.detach()))
    used = without_unused(module).state_dict(keep_vars=True)
    config = read_config(folder / part / "config.json")
    for name in format_of(read_index(folder)[part][-1]).identities(config):
        del used[name]
    return dict(names.values()), used


@cache
def stored(name, part, dtype="BF16"):
    """Return the table of a file of the part with original names."""
    case, folder, *_ = about(name, part)
    original = case.original[part](whole(folder, part)[0])
    path = Path("model.safetensors")  # a name that tells nothing
    return {
        key: TensorEntry(
            path, key, _dtype(tensor, dtype), tuple(tensor.shape), 0, 2 * tensor.numel()
        )
        for key, tensor in original.items()
    }


def _dtype(tensor, dtype):
    if not tensor.is_floating_point():
        return "I64"
    return dtype if tensor.ndim == 2 else "BF16"


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_parameter_of_a_whole_model_is_found_with_its_shape(name, part):
    case, folder, _, config, format = about(name, part)
    saved, used = whole(folder, part)
    found = format.find(stored(name, part), json.loads(config))
    index = format.weights(found, json.loads(config))
    wanted = {k: tuple(t.shape) for k, t in used.items() if t.is_floating_point()}
    assert {key: index[key].shape for key in wanted} == wanted
    if convert := (case.library | case.library_whole).get(part):
        converted = convert(case.original[part](saved))
        theirs = {k: tuple(t.shape) for k, t in converted.items() if t.is_floating_point()}
        assert theirs == wanted and theirs.keys() == index.keys()


ENCODERS = [(name, part) for name, part in PARTS if part.startswith("text_encoder")]


@pytest.mark.parametrize(("name", "part"), ENCODERS)
def test_an_encoder_may_have_more_or_less_than_prompts_need(name, part):
    """Without its tower for pictures its name may tell what it is; and it may have a head."""
    case, folder, _, config, format = about(name, part)
    whole_file, config = stored(name, part), json.loads(config)
    path = Path(presets.model_row(name).comfyui.usual(part)[0])
    bare = {k: replace(t, path=path) for k, t in whole_file.items() if not is_unused(k)}
    head = TensorEntry(path, "lm_head.weight", "BF16", (151936, 8), 0, 0)
    for tensors in (bare, bare | {"lm_head.weight": head}, whole_file | {"lm_head.weight": head}):
        format.check_readable(found := format.find(tensors, config))
        index, (_, used) = format.weights(found, config), whole(folder, part)
        assert {key: index[key].shape for key in used} == {
            k: tuple(t.shape) for k, t in used.items()
        }


@pytest.mark.parametrize("dtype", ["BF16", "I8", "F8_E4M3"])
def test_no_file_of_another_model_or_size_is_taken(dtype):
    """Except for those of equal names and shapes, which are the same model or told by name."""
    distinct = {about(name, part)[2:4]: (name, part) for name, part in PARTS}
    for name, part in distinct.values():
        own, (*_, config, format) = stored(name, part, dtype), about(name, part)
        for other in distinct.values():
            table = stored(*other, dtype)
            taken = format.find(table, json.loads(config)) is not None
            assert taken == (table == own), ((name, part), other)
