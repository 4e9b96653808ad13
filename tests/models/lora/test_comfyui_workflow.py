"""The ComfyUI workflow beside an exported LoRA: ComfyUI's nodes take it, and it samples as the
model is meant to be sampled."""

import copy
import itertools
import json

import pytest
from helpers.comfyui_nodes import NODES, problems

from blockskip.core import presets
from blockskip.core.paths import ROOT
from blockskip.models.lora.comfyui_workflow import workflow
from blockskip.models.sources.file_choice import is_namesake

ROWS = presets.model_rows()
FAMILIES = presets.workflow_table()["families"]
# name → transformer's file, steps, CFG, embedded guidance, shift where a node sets it
SAMPLED = {
    "flux-dev": ("flux1-dev.safetensors", 20, 1.0, 3.5, None),
    "flux-schnell": ("flux1-schnell.safetensors", 4, 1.0, None, None),
    "flux-krea": ("flux1-krea-dev_fp8_scaled.safetensors", 28, 1.0, 4.5, None),
    "flux2-klein-4b": ("flux-2-klein-4b.safetensors", 4, 1.0, None, None),
    "flux2-klein-9b": ("flux-2-klein-9b-fp8.safetensors", 4, 1.0, None, None),
    "z-image": ("z_image_turbo_bf16.safetensors", 8, 1.0, None, 3.0),
    "z-image-turbo": ("z_image_turbo_bf16.safetensors", 8, 1.0, None, 3.0),
    "qwen-image": ("qwen_image_fp8_e4m3fn.safetensors", 8, 1.0, None, 3.0),
    "qwen-image-2.1": ("qwen_image_2.1_int8_convrot.safetensors", 25, 1.0, None, None),
    "chroma-hd": ("Chroma1-HD-fp8mixed.safetensors", 28, 3.0, None, 1.0),
    "sd35-medium": ("sd3.5_medium.safetensors", 28, 4.5, None, None),
    "sd35-large": ("sd3.5_large.safetensors", 28, 3.5, None, None),
    "krea2": ("krea2_turbo_fp8_scaled.safetensors", 8, 1.0, None, None),
    "demo": ("flux1-dev.safetensors", 20, 1.0, 3.5, None),
}


def flow(name):
    made = workflow("Mötz #1.safetensors", "a photo of zwörg cat", ROWS[name])
    assert made is not None
    return made


def nodes(made, kind):
    return [node for node in made["nodes"] if node["type"] == kind]


def widget(made, kind, name):
    """The value of a widget of the only node of that kind, None without one."""
    places = []
    for item, type, *rest in NODES[kind]["inputs"]:
        if rest and type in ("INT", "FLOAT", "STRING", "COMBO", "FILE"):
            places += [item, *(["after"] if rest[0].get("control_after_generate") else [])]
    values = [node["widgets_values"][places.index(name)] for node in nodes(made, kind)]
    assert len(values) < 2
    return values[0] if values else None


def test_every_model_that_comfyui_loads_has_a_workflow():
    for name, row in ROWS.items():
        made = workflow("pet.safetensors", "a cat", row)
        assert (made is not None) == (name in SAMPLED), name
    assert {row.family for row in ROWS.values()} - FAMILIES.keys() == {"sana", "flux3"}


@pytest.mark.parametrize("name", SAMPLED)
def test_comfyuis_nodes_take_the_workflow(name):
    made = flow(name)
    assert problems(json.loads(json.dumps(made))) == []
    loras = [node["widgets_values"] for node in nodes(made, "LoraLoaderModelOnly")]
    assert loras[0] == ["Mötz #1.safetensors", 1.0]
    assert loras[1:] == [["Qwen-Image-Lightning-8steps-V2.0-bf16.safetensors", 1.0]] * (
        name == "qwen-image"
    )
    prompts = [n["widgets_values"] for n in made["nodes"] if n["title"] == "Prompt"]
    assert [values[0] for values in prompts] == ["a photo of zwörg cat"]
    assert widget(made, "SaveImage", "filename_prefix") == "Mötz #1"


@pytest.mark.parametrize("name", SAMPLED)
def test_the_workflow_samples_as_the_models_row_says(name):
    file, steps, cfg, embedded, shift = SAMPLED[name]
    made = flow(name)
    loader = widget(made, "UNETLoader", "unet_name")
    assert (loader or widget(made, "CheckpointLoaderSimple", "ckpt_name")) == file
    sibling = ROWS[name].sibling_row
    row = sibling if sibling and not sibling.files else ROWS[name]
    usual = tuple(beginning.lower() for beginning in row.comfyui.usual("transformer"))
    assert not usual or file.lower().startswith(usual), "found again among ComfyUI's files"
    assert not is_namesake(row, "transformer", file.lower())
    for kind, item, expected in (("KSampler", "steps", steps), ("Flux2Scheduler", "steps", steps)):
        assert widget(made, kind, item) in (None, expected)
    assert {widget(made, kind, "cfg") for kind in ("KSampler", "CFGGuider")} == {None, cfg}
    assert widget(made, "FluxGuidance", "guidance") == embedded
    assert widget(made, "ModelSamplingAuraFlow", "shift") == shift
    negative = [n for n in made["nodes"] if n["title"] == "Negative prompt"]
    assert [n["widgets_values"] for n in negative] == ([[""]] if cfg > 1 else [])
    for kind, item in itertools.product(NODES, ("width", "height")):
        if item in {i[0] for i in NODES[kind]["inputs"]}:
            assert widget(made, kind, item) in (None, 1024)


@pytest.mark.parametrize("name", SAMPLED)
def test_the_note_names_every_file_and_where_it_belongs(name):
    made = flow(name)
    text, models = nodes(made, "MarkdownNote")[0]["widgets_values"][0], []
    for node in made["nodes"]:
        models += node["properties"].get("models", [])
    for file in models:
        assert f"`models/{file['directory']}`: {file['name']}" in text
        assert file["url"].startswith("https://huggingface.co/")
        assert file["url"].endswith(f"/{file['name']}") and "/resolve/main/" in file["url"]
    assert len(models) == text.count("- `models/") >= 3
    assert ("demo model" in text) == (name == "demo")
    assert "Mötz" not in text, "the file is renamed when it is copied to ComfyUI"
    used = ROWS["flux-dev" if name == "demo" else name]
    used = used.sibling_row or used
    assert used.title in text
    assert (f"Accept the [{used.licence}]({used.licence_url})" in text) == used.gated


@pytest.mark.parametrize("name", SAMPLED)
def test_nothing_lies_on_top_of_anything_else(name):
    made = flow(name)
    boxes = [(*n["pos"], *n["size"]) for n in made["nodes"]]
    for one, other in itertools.combinations(boxes, 2):
        (x, y, w, h), (a, b, c, d) = one, other
        # 30 for the title, and 50 in case it is drawn taller
        assert x + w < a or a + c < x or y + h + 30 < b or b + d + 30 < y, (one, other)
    for one, other in itertools.combinations([g["bounding"] for g in made["groups"]], 2):
        assert one[0] + one[2] <= other[0]
    inside = 0
    for x, y, w, h in boxes:
        for a, b, c, d in (g["bounding"] for g in made["groups"]):
            inside += a < x and x + w < a + c and b < y - 30 and y + h < b + d
    assert inside == len(boxes) - 1, "all but the note"


def test_the_documentation_names_the_files():
    text = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    for name, (file, steps, *_) in SAMPLED.items():
        row = ROWS[name]
        if name != "demo":
            (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
            assert f"| {(row.sibling_row or row).title} | {steps} | `{file}`" in line


def node(made, kind):
    return nodes(made, kind)[0]


def unlinked(made):
    item = node(made, "KSampler")["inputs"].pop(2)
    made["links"] = [link for link in made["links"] if link[0] != item["link"]]
    for other in made["nodes"]:
        for output in other["outputs"]:
            output["links"] = [n for n in output["links"] if n != item["link"]]


def relinked(made, source, kind, slot):
    """Let the input come from another node, on both sides."""
    number = node(made, kind)["inputs"][slot]["link"]
    (link,) = (link for link in made["links"] if link[0] == number)
    for other in made["nodes"]:
        for output in other["outputs"]:
            output["links"] = [n for n in output["links"] if n != number]
    link[1], link[2] = node(made, source)["id"], 0
    node(made, source)["outputs"][0]["links"].append(number)


def values(kind, change):
    return lambda made: change(node(made, kind)["widgets_values"])


def put(index, value):
    return lambda widgets: widgets.__setitem__(index, value)


BROKEN = {
    "SuperSampler is unknown": lambda f: node(f, "KSampler").update(type="SuperSampler"),
    "KSampler.negative is not linked": unlinked,
    "its source gives CLIP": lambda f: relinked(f, "DualCLIPLoader", "KSampler", 0),
    "its target takes": lambda f: f["links"][0].__setitem__(5, "CLIP"),
    "it goes in a circle": lambda f: relinked(f, "FluxGuidance", "FluxGuidance", 0),
    "ConditioningZeroOut leads to no picture": lambda f: relinked(f, "FluxGuidance", "KSampler", 2),
    "KSampler's inputs are not its own, in its order": lambda f: node(f, "KSampler")[
        "inputs"
    ].reverse(),
    "SaveImage's outputs are not its own": lambda f: node(f, "SaveImage")["outputs"].clear(),
    "is not at its target's input": lambda f: f["links"][3].__setitem__(4, 1),
    "is not at its source's output": lambda f: node(f, "VAELoader")["outputs"][0].update(links=[]),
    "has no node at an end": lambda f: f["links"][0].__setitem__(1, 99),
    "KSampler.steps is 0, out of range": values("KSampler", put(2, 0)),
    "EmptySD3LatentImage.width is 1000, between": values("EmptySD3LatentImage", put(0, 1000)),
    "KSampler.cfg is 1.25, between two steps": values("KSampler", put(3, 1.25)),
    "has no option 'simpel'": values("KSampler", put(5, "simpel")),
    "KSampler.seed is not followed": values("KSampler", lambda w: w.pop(1)),
    "DualCLIPLoader.type has no option": values("DualCLIPLoader", lambda w: w.reverse()),
    "FluxGuidance.guidance has no value": values("FluxGuidance", list.clear),
    "SaveImage has more values": values("SaveImage", lambda w: w.append(1)),
    "VAELoader.vae_name names no file": values("VAELoader", put(0, "")),
    "not offered for download": values("VAELoader", put(0, "other.safetensors")),
    "two nodes have the same number": lambda f: f["nodes"][1].update(id=1),
    "last_link_id is not the last": lambda f: f.update(last_link_id=1),
    "a link that is not listed": lambda f: f["links"].pop(),
    "ordered before its source": lambda f: node(f, "VAELoader").update(order=99),
    "its version is not 0.4": lambda f: f.update(version=1),
}


@pytest.mark.parametrize("said", BROKEN)
def test_the_check_refuses_a_broken_workflow(said):
    made = copy.deepcopy(flow("flux-dev"))
    BROKEN[said](made)
    assert any(said in problem for problem in problems(made)), problems(made)
