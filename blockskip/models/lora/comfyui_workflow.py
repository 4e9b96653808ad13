"""A ComfyUI workflow for a FLUX.1 LoRA: open it (or drop it on the canvas) and press Run.

It uses stock nodes only, in the JSON that ComfyUI's canvas saves (LiteGraph, version 0.4). Values
follow each node's widget order. KSampler's second one is the canvas's “control after generate”.
"""

from __future__ import annotations

from pathlib import Path

from blockskip.core.presets import ModelRow, model_row

# input name → source node, type of the output ("" without), widget values in the node's order
Node = tuple[dict[str, str], str, list]


def workflow(lora_file: str, prompt: str, row: ModelRow, demo: bool = False) -> dict:
    """Return a ComfyUI workflow of stock nodes with the LoRA.

    Steps and guidance are the row's. demo: whether the LoRA belongs to the demo model, which
    ComfyUI cannot load, as the note says; the workflow is FLUX.1-dev's.
    """
    row = model_row("flux-dev") if demo else row
    note = (
        f"Put {lora_file} into ComfyUI's models/loras and press R. If {row.comfyui.usual('transformer')[0]}.safetensors, "
        "clip_l, t5xxl or ae are called otherwise here, choose them in the nodes on the left."
    )
    if demo:
        note = (
            "This LoRA belongs to the studio's small demo model, which ComfyUI cannot load: it "
            "only shows what a workflow looks like. " + note
        )
    return _graph(_nodes(row, lora_file, prompt) | {"Note": ({}, "", [note])})


def _nodes(row: ModelRow, lora_file: str, prompt: str) -> dict[str, Node]:
    guidance: dict[str, Node] = {
        "FluxGuidance": (
            {"conditioning": "CLIPTextEncode"},
            "CONDITIONING",
            [row.preview_guidance],
        )
    }
    side = row.native_px
    return {
        "UNETLoader": (
            {},
            "MODEL",
            [f"{row.comfyui.usual('transformer')[0]}.safetensors", "default"],
        ),
        "DualCLIPLoader": (
            {},
            "CLIP",
            ["clip_l.safetensors", "t5xxl_fp16.safetensors", "flux", "default"],
        ),
        "VAELoader": ({}, "VAE", ["ae.safetensors"]),
        "LoraLoaderModelOnly": ({"model": "UNETLoader"}, "MODEL", [lora_file, 1.0]),
        "CLIPTextEncode": ({"clip": "DualCLIPLoader"}, "CONDITIONING", [prompt]),
        **(guidance if row.guidance_embedding else {}),
        "ConditioningZeroOut": ({"conditioning": "CLIPTextEncode"}, "CONDITIONING", []),
        "EmptySD3LatentImage": ({}, "LATENT", [side, side, 1]),
        "KSampler": (
            {
                "model": "LoraLoaderModelOnly",
                "positive": "FluxGuidance" if row.guidance_embedding else "CLIPTextEncode",
                "negative": "ConditioningZeroOut",
                "latent_image": "EmptySD3LatentImage",
            },
            "LATENT",
            [0, "fixed", row.preview_steps, 1.0, "euler", "simple", 1.0],
        ),
        "VAEDecode": ({"samples": "KSampler", "vae": "VAELoader"}, "IMAGE", []),
        "SaveImage": ({"images": "VAEDecode"}, "", [Path(lora_file).stem]),
    }


def _graph(table: dict[str, Node]) -> dict:
    """Return LiteGraph's JSON of nodes with at most one output each, laid out in columns from left
    to right."""
    ids = {kind: index for index, kind in enumerate(table, start=1)}
    links: list[list[int | str]] = []
    column: dict[str, int] = {}
    rows: dict[int, int] = {}
    nodes: dict[str, dict] = {}
    for kind, (inputs, output, widgets) in table.items():
        column[kind] = 1 + max((column[source] for source in inputs.values()), default=-1)
        row = rows[column[kind]] = rows.get(column[kind], -1) + 1
        node_inputs = []
        for slot, (name, source) in enumerate(inputs.items()):
            links.append([len(links) + 1, ids[source], 0, ids[kind], slot, table[source][1]])
            node_inputs.append({"name": name, "type": table[source][1], "link": len(links)})
            nodes[source]["outputs"][0]["links"].append(len(links))
        outputs = [{"name": output, "type": output, "slot_index": 0, "links": []}] if output else []
        nodes[kind] = {
            "id": ids[kind],
            "type": kind,
            "pos": [420 * column[kind], 240 * row],
            "size": [360, 180],
            "flags": {},
            "order": ids[kind] - 1,
            "mode": 0,
            "inputs": node_inputs,
            "outputs": outputs,
            "properties": {"Node name for S&R": kind},
            "widgets_values": widgets,
        }
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }
