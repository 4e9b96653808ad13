"""The house of DESIGN.md §2: data flows one way, and nothing imports the studio."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blockskip"
BESIDE = set(
    "config events files awake place processes report sources opening families memory control "
    "journal runs kept painting downloads housekeeping doctor".split()
)
STAGES = [
    "upright",
    "boxes",
    "photos",
    "photo_features",
    "photo_checks",
    "captions",
    "flow",
    "crops",
    "schedule",
    "encode",
    "residuals",
    "skipping",
    "optimizer",
    "train",
    "keysteps",
    "cache",
    "coarse",
    "ddit",
    "preview",
    "lora_header",
    "export",
    "easel",
    "results",
    "worker",
    "child",
    "painter",
]
ON_TOP = {"lab", "follow", "options", "model_commands", "cli", "__main__", "studio"}
TOP_LEVEL = {
    "pyproject.toml",
    "app.py",
    "blockskip",
    "presets",
    "assets",
    "tests",
    "launch.bat",
    "launch.sh",
    "README.md",
    "LICENSE",
}


def imported(path: Path) -> set[str]:
    """First names below `blockskip` that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "blockskip":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blockskip."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("blockskip.")}
    return found - {"__version__"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_up_the_stream(path):
    here = room(path)
    assert here == "__init__" or here in BESIDE | ON_TOP | set(STAGES), f"{here} has no place"
    if here == "studio":
        return
    names = imported(path)
    assert "studio" not in names or here in ("cli",), "nothing imports the studio but its command"
    if here in STAGES:
        earlier = set(STAGES[: STAGES.index(here)])
        assert names <= BESIDE | earlier, f"{here} imports {names - BESIDE - earlier}"
    elif here in BESIDE:
        # flow and photos are nothing but arithmetic and files; the rest is out of reach
        assert names <= BESIDE | {"flow", "photos"}, f"{here} imports {names - BESIDE}"


def test_only_placement_moves_weights():
    """Devices, pins and streams are memory/placement.py's business."""
    for path in modules():
        if (
            path.name in ("placement.py", "stream.py", "monitor.py", "doctor.py")
            or room(path) == "lab"
        ):
            continue
        text = path.read_text(encoding="utf-8")
        for word in ("empty_cache(", "pin_memory(", "cuda.Stream", ".cuda("):
            assert word not in text, f"{path.name} uses {word}"


def test_top_level_is_the_designs():
    assert {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} >= TOP_LEVEL
    long = [p for p in modules() if p.read_text(encoding="utf-8").count("\n") > 400]
    assert [p.name for p in long] in ([], ["texts.py"]), "all sentences are in one place"
