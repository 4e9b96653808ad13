"""The JSON of ComfyUI's canvas (LiteGraph, version 0.4): nodes in columns, groups and links.

Facts read from Comfy-Org/workflow_templates and ComfyUI's node definitions:
- A link's slots count a node's inputs and outputs. Inputs that are widgets are not listed.
- Values follow a node's widgets in order. A seed has a second one, “control after generate”.
- From `properties.models` the canvas offers to download files that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Widget = str | int | float  # value of a widget

_OUTPUTS = {  # name and type of each output; most nodes have one, whose name is its type
    "CheckpointLoaderSimple": (("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")),
    "TextEncodeQwenImage21": (
        ("positive", "CONDITIONING"),
        ("negative", "CONDITIONING"),
        ("latent", "LATENT"),
    ),
    "SamplerCustomAdvanced": (("output", "LATENT"), ("denoised_output", "LATENT")),
    "SaveImage": (("images", "IMAGE"),),
}
# pixels; a node's title lies above its position. Heights are for both of ComfyUI's ways of drawing
_GAP, _TITLE, _EDGE, _ROW, _WIDGET = 30, 30, 40, 20, 32


@dataclass(frozen=True)
class ModelFile:
    """A file that a workflow loads. repository: on the hub. path: in it. folder: in ComfyUI's
    `models`."""

    repository: str
    path: str
    folder: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]

    @property
    def page(self) -> str:
        """Address of the repository."""
        return f"https://huggingface.co/{self.repository}"


@dataclass(frozen=True)
class Output:
    """An output of a node. slot: its number. type: what it gives, such as MODEL."""

    node: Node
    slot: int
    type: str


@dataclass(eq=False)
class Node:
    """A node on the canvas. outputs: their names and types. links: input → where it comes from.
    height: pixels of its texts and pictures, in addition to inputs and widgets."""

    id: int
    kind: str
    outputs: tuple[tuple[str, str], ...]
    links: dict[str, Output]
    widgets: list[Widget]
    title: str
    files: tuple[ModelFile, ...]
    height: int
    used: dict[int, list[int]] = field(default_factory=dict)  # output's slot → links

    def output(self, name: str = "") -> Output:
        """Return an output by its name, or the first."""
        slot = [known for known, _ in self.outputs].index(name) if name else 0
        return Output(self, slot, self.outputs[slot][1])

    @property
    def full_height(self) -> int:
        """Height on the canvas without the title, in pixels."""
        rows = max(len(self.links), len(self.outputs))
        return _EDGE + _ROW * rows + _WIDGET * len(self.widgets) + self.height


@dataclass
class Column:
    """Nodes below each other, in a group if it has a title. width: pixels."""

    title: str
    width: int
    nodes: list[Node] = field(default_factory=list)


class Canvas:
    """Nodes in columns, from left to right."""

    def __init__(self) -> None:
        self.columns: list[Column] = []
        self._count = 0

    def column(self, title: str, width: int) -> None:
        """Begin a column, for the nodes that are added from now on."""
        self.columns.append(Column(title, width))

    def add(
        self,
        kind: str,
        gives: str = "",
        widgets: Sequence[Widget] = (),
        links: Mapping[str, Node | Output] | None = None,
        *,
        title: str = "",
        files: Sequence[ModelFile] = (),
        height: int = 0,
    ) -> Node:
        """Add a node. gives: type of its only output. links: in the order of its inputs; a node
        stands for its first output."""
        self._count += 1
        sources = {
            name: source.output() if isinstance(source, Node) else source
            for name, source in (links or {}).items()
        }
        outputs = _OUTPUTS.get(kind, ((gives, gives),) if gives else ())
        shown = title or kind
        node = Node(self._count, kind, outputs, sources, list(widgets), shown, tuple(files), height)
        self.columns[-1].nodes.append(node)
        return node

    def to_json(self) -> dict:
        """Return the canvas as ComfyUI saves it."""
        nodes = sorted((n for c in self.columns for n in c.nodes), key=lambda n: n.id)
        links: list[list[Widget]] = []
        numbers: dict[tuple[int, str], int] = {}  # node, input → link
        for node in nodes:
            for slot, (name, source) in enumerate(node.links.items()):
                number = numbers[node.id, name] = len(links) + 1
                links.append([number, source.node.id, source.slot, node.id, slot, source.type])
                source.node.used.setdefault(source.slot, []).append(number)
        places, groups = self._places()
        return {
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": [_node(node, numbers, *places[node.id]) for node in nodes],
            "links": links,
            "groups": groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _places(self) -> tuple[dict[int, tuple[list[int], list[int]]], list[dict]]:
        """Return position and size of each node, and the groups."""
        places, groups, x = {}, [], 0
        for number, column in enumerate(self.columns, start=1):
            y = 0
            for node in column.nodes:
                places[node.id] = [x, y], [column.width, node.full_height]
                y += node.full_height + _TITLE + _GAP
            if column.title:
                top = 2 * _TITLE + _GAP // 2
                bounding = [x - _GAP // 2, -top, column.width + _GAP, y - _TITLE - _GAP // 2 + top]
                groups.append(
                    {"id": number, "title": column.title, "bounding": bounding, "flags": {}}
                )
            x += column.width + 2 * _GAP
        return places, groups


def _node(node: Node, numbers: dict[tuple[int, str], int], pos: list[int], size: list[int]) -> dict:
    properties: dict[str, object] = {"Node name for S&R": node.kind}
    if node.files:
        properties["models"] = [
            {
                "name": file.name,
                "url": f"{file.page}/resolve/main/{file.path}",
                "directory": file.folder,
            }
            for file in node.files
        ]
    return {
        "id": node.id,
        "type": node.kind,
        "pos": pos,
        "size": size,
        "flags": {},
        "order": node.id - 1,
        "mode": 0,
        "inputs": [
            {"name": name, "type": source.type, "link": numbers[node.id, name]}
            for name, source in node.links.items()
        ],
        "outputs": [
            {"name": name, "type": type, "slot_index": slot, "links": node.used.get(slot, [])}
            for slot, (name, type) in enumerate(node.outputs)
        ],
        "title": node.title,
        "properties": properties,
        "widgets_values": node.widgets,
    }
