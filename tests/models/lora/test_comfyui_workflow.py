"""The ComfyUI workflow beside an exported LoRA samples as its model is meant to be sampled."""

import pytest

from blockskip.core import presets
from blockskip.models.lora.comfyui_workflow import workflow


@pytest.mark.parametrize(
    "name, file, steps, guidance",
    [
        ("flux-dev", "flux1-dev.safetensors", 20, 3.5),
        ("flux-krea", "flux1-krea-dev.safetensors", 28, 4.5),
        ("flux-schnell", "flux1-schnell.safetensors", 4, None),  # it has no guidance to embed
        ("demo", "flux1-dev.safetensors", 20, 3.5),
    ],
)
def test_the_workflow_samples_as_the_models_row_says(name, file, steps, guidance):
    row = presets.model_row(name)
    flow = workflow("pet.safetensors", "a photo of sks cat", row, row.demo)
    nodes = {node["type"]: node for node in flow["nodes"]}
    assert nodes["UNETLoader"]["widgets_values"] == [file, "default"]
    assert nodes["KSampler"]["widgets_values"] == [0, "fixed", steps, 1.0, "euler", "simple", 1.0]
    assert nodes.get("FluxGuidance", {}).get("widgets_values") == (guidance and [guidance])
    (link,) = (i["link"] for i in nodes["KSampler"]["inputs"] if i["name"] == "positive")
    (source,) = (source for number, source, *_ in flow["links"] if number == link)
    assert nodes["FluxGuidance" if guidance else "CLIPTextEncode"]["id"] == source
    assert file in nodes["Note"]["widgets_values"][0]
