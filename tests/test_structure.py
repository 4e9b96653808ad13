"""The rooms of DESIGN.md §2: data flows one way, and no import runs back or in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "blockskip"
# each folder imports only those before it; nothing but cli's lab commands imports the lab
FOLDERS = (
    "core",
    "data",
    "models",
    "memory",
    "training",
    "sampling",
    "runs",
    "lab",
    "studio",
    "cli",
)
LAB_COMMANDS = {"blockskip.cli.lab", "blockskip.cli.lab_bench", "blockskip.cli.lab_evidence"}
TOP_LEVEL = {
    "pyproject.toml",
    "app.py",
    "blockskip",
    "presets",
    "assets",
    "docs",
    "tests",
    "launch.bat",
    "launch.sh",
    "README.md",
    "LICENSE",
}


def modules() -> dict[str, Path]:
    """Dotted name → file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere, in functions too, but for its types."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module} & known
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
    return found


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(path, set(known)) - {name} for name, path in known.items()}


def folder(module: str) -> str:
    return (module.split(".") + [""])[1]


def test_the_package_has_at_most_twelve_entries():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {*FOLDERS, "__init__.py", "__main__.py"}


def test_no_import_runs_back():
    back = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if folder(name) in FOLDERS and folder(other) in FOLDERS
        if FOLDERS.index(folder(other)) > FOLDERS.index(folder(name))
    ]
    assert not back


def test_no_import_goes_in_a_circle():
    """At any depth, imports inside functions included. Raises CycleError, which names the circle."""
    order = tuple(TopologicalSorter(graph()).static_order())
    assert len(order) == len(modules())


def test_only_the_labs_commands_import_the_lab():
    users = {
        name
        for name, others in graph().items()
        if folder(name) not in ("lab", "") and any(folder(other) == "lab" for other in others)
    }
    assert users <= LAB_COMMANDS


def test_only_placement_moves_weights():
    """Devices, pins and streams are memory/placement.py's business."""
    for name, path in modules().items():
        if folder(name) == "lab" or path.name in (
            "placement.py",
            "streaming.py",
            "monitor.py",
            "doctor.py",
        ):
            continue
        text = path.read_text(encoding="utf-8")
        for word in ("empty_cache(", "pin_memory(", "cuda.Stream", ".cuda("):
            assert word not in text, f"{path.name} uses {word}"


def test_top_level_is_the_designs():
    assert {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} >= TOP_LEVEL


def lengths() -> dict[str, int]:
    return {name: path.read_text(encoding="utf-8").count("\n") for name, path in modules().items()}


def test_modules_are_of_one_idea():
    assert not {name: lines for name, lines in lengths().items() if lines > 350}


def test_functions_fit_a_screen():
    """A command's long list of options apart."""
    long = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = node.body[0].lineno if folder(name) == "cli" else node.lineno
                if node.end_lineno - start + 1 > 40:
                    long[f"{name}.{node.name}"] = node.end_lineno - start + 1
    assert not long
