"""What holds for every model of presets/models.toml, at its full size, without its weights."""

import pytest

from blockskip.core import presets
from blockskip.lab.full_size.meta_models import build_transformer
from blockskip.lab.measuring.peak_memory import fake_gpu
from blockskip.models.families.base import get_family

BIG = [row for row in presets.model_rows().values() if not row.demo]


@pytest.mark.parametrize("row", BIG, ids=lambda row: row.name)
def test_every_layer_that_learns_is_known_to_comfyui(row):
    family = get_family(row.family)
    with fake_gpu():
        model = build_transformer(row, "bf16")
    layers = [
        f"{name}.{linear}"
        for name, block in family.blocks(model)
        for linear in family.lora_targets(block, "attention+ff")
    ]
    assert len(layers) >= 4 * row.num_blocks or family.lora_names.ARCHITECTURE.startswith("flux-2")
    assert len(layers) == len(set(layers)) and len(family.blocks(model)) == sum(row.blocks)
    assert [layer for layer in layers if not family.lora_names.is_comfy_key(layer)] == []
    for format in family.lora_names.FORMATS:
        assert family.lora_names.exported_layers(format, layers)
