"""Check ComfyUI workflows against its node definitions, in tests/models/lora/comfyui_nodes.json.

A definition lists a node's inputs in order, as [name, type, {default, min, max, step, options,
optional …}], and its outputs as [name, type]. Inputs of these types are widgets: INT, FLOAT,
STRING, COMBO (fixed options) and FILE (whatever lies in `folder`). The others are linked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

_FILE = Path(__file__).parent.parent / "models" / "lora" / "comfyui_nodes.json"
NODES = json.loads(_FILE.read_text(encoding="utf-8"))["nodes"]
_WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "COMBO": str, "FILE": str}
_AFTER = ("fixed", "increment", "decrement", "randomize")  # of “control after generate”


def problems(flow: dict) -> list[str]:
    """Return what is wrong with a workflow in LiteGraph's JSON, in words."""
    return [*_form(flow), *(p for node in flow["nodes"] for p in _node(node)), *_graph(flow)]


def _form(flow: dict) -> Iterator[str]:
    if flow.get("version") != 0.4:
        yield "its version is not 0.4"
    ids = [node["id"] for node in flow["nodes"]]
    numbers = [link[0] for link in flow["links"]]
    for what, found, last in (("node", ids, "last_node_id"), ("link", numbers, "last_link_id")):
        if len(set(found)) < len(found):
            yield f"two {what}s have the same number"
        if max(found, default=0) != flow.get(last):
            yield f"{last} is not the last number"
    if any(len(link) != 6 for link in flow["links"]):
        yield "a link is not [number, from, slot, to, slot, type]"


def _node(node: dict) -> Iterator[str]:
    kind = node["type"]
    if kind not in NODES:
        yield f"{kind} is unknown"
        return
    defined, listed = NODES[kind]["inputs"], node["inputs"]
    linked = [(name, type, *rest) for name, type, *rest in defined if type not in _WIDGETS]
    types = {name: type for name, type, *_ in linked}
    order = [name for name, *_ in linked if name in {i["name"] for i in listed}]
    if [i["name"] for i in listed] != order:
        yield f"{kind}'s inputs are not its own, in its order"
    for item in listed:
        if types.get(item["name"]) != item["type"]:
            yield f"{kind}.{item['name']} is not {item['type']}"
    given = {i["name"] for i in listed if i["link"] is not None}
    for name, _, *rest in linked:
        if name not in given and not (rest and rest[0].get("optional")):
            yield f"{kind}.{name} is not linked"
    if [[o["name"], o["type"]] for o in node["outputs"]] != NODES[kind]["outputs"]:
        yield f"{kind}'s outputs are not its own"
    yield from _widgets(node)


def _widgets(node: dict) -> Iterator[str]:
    kind, values = node["type"], list(node["widgets_values"])
    for name, type, *rest in NODES[kind]["inputs"]:
        if type not in _WIDGETS:
            continue
        facts, where = rest[0], f"{kind}.{name}"
        if not values:
            if not facts.get("optional"):
                yield f"{where} has no value"
            continue
        value = values.pop(0)
        if isinstance(value, bool) or not isinstance(value, _WIDGETS[type]):
            yield f"{where} is {value!r}, not {type}"
            continue
        yield from _value(where, type, value, facts, node)
        if facts.get("control_after_generate") and (not values or values.pop(0) not in _AFTER):
            yield f"{where} is not followed by what happens after a picture"
    if values:
        yield f"{kind} has more values than widgets"


def _value(where: str, type: str, value: object, facts: dict, node: dict) -> Iterator[str]:
    if type == "COMBO" and value not in facts["options"]:
        yield f"{where} has no option {value!r}"
    if type == "FILE":
        models = node["properties"].get("models", [])
        known = {(m["name"], m["directory"]) for m in models}
        if not str(value).endswith(".safetensors"):
            yield f"{where} names no file: {value!r}"
        if models and (value, facts["folder"]) not in known:
            yield f"{where} names a file that is not offered for download"
    if type in ("INT", "FLOAT"):
        assert isinstance(value, int | float)
        if not facts["min"] <= value <= facts["max"]:
            yield f"{where} is {value}, out of range"
        base = facts["min"] if type == "INT" else 0  # the canvas rounds to these
        steps = (value - base) / facts.get("step", 1)
        if abs(steps - round(steps)) > 1e-6:
            yield f"{where} is {value}, between two steps"


def _graph(flow: dict) -> Iterator[str]:
    nodes = {node["id"]: node for node in flow["nodes"]}
    sources: dict[int, set[int]] = {id: set() for id in nodes}
    stated = {link[0] for link in flow["links"]}
    for number, source, out, target, slot, type in flow["links"]:
        if source not in nodes or target not in nodes:
            yield f"link {number} has no node at an end"
            continue
        sources[target].add(source)
        yield from _ends(number, type, nodes[source]["outputs"], out, nodes[target]["inputs"], slot)
    for node in nodes.values():
        links = {n for o in node["outputs"] for n in o["links"]}
        links |= {i["link"] for i in node["inputs"] if i["link"] is not None}
        if links - stated:
            yield f"{node['type']} has a link that is not listed"
    try:
        tuple(TopologicalSorter(sources).static_order())
    except CycleError:
        yield "it goes in a circle"
        return
    if any(nodes[s]["order"] >= nodes[t]["order"] for t, some in sources.items() for s in some):
        yield "a node is ordered before its source"
    reached = _before(sources, [id for id, n in nodes.items() if _is(n, "saves")])
    for id, node in nodes.items():
        if id not in reached and not _is(node, "note"):
            yield f"{node['type']} leads to no picture"


def _ends(
    number: int, type: str, outputs: list[dict], out: int, inputs: list[dict], slot: int
) -> Iterator[str]:
    if out >= len(outputs) or number not in outputs[out]["links"]:
        yield f"link {number} is not at its source's output"
    elif outputs[out]["type"] != type:
        yield f"link {number} is {type}, its source gives {outputs[out]['type']}"
    if slot >= len(inputs) or inputs[slot]["link"] != number:
        yield f"link {number} is not at its target's input"
    elif inputs[slot]["type"] != type:
        yield f"link {number} is {type}, its target takes {inputs[slot]['type']}"


def _before(sources: dict[int, set[int]], ids: list[int]) -> set[int]:
    """Return the nodes from which these are made, and these."""
    reached: set[int] = set()
    while ids:
        if (id := ids.pop()) not in reached:
            reached.add(id)
            ids += sources[id]
    return reached


def _is(node: dict, what: str) -> bool:
    return NODES.get(node["type"], {}).get(what, False)
