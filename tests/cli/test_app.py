"""The command line: wrong usage is told from failure, and what is said can be typed."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from blockskip.cli import app
from blockskip.core import errors, files, presets
from blockskip.core.errors import UserError, command
from blockskip.core.paths import QUANTISED_CACHE, data_dir
from blockskip.runs import storage

PACKAGE = Path(app.__file__).parent
# they note how a table was made, for readers of the repository
NOTES = ("lab/bench/report.py", "lab/demo_world/judge_train.py")


@pytest.fixture
def call(monkeypatch, capsys):
    """Exit code and stderr, on one line, of a command."""

    def run(words):
        monkeypatch.setattr("sys.argv", ["blockskip", *words.split()])
        code = app.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, " ".join(re.sub("[│╭╮╰╯─]", " ", said.err).split()), said.out

    return run


@pytest.fixture
def asked(monkeypatch):
    """What the planner is asked for; nothing is trained."""
    found = {}

    def choose(**said):
        found.update(said)
        raise UserError("Enough.")

    monkeypatch.setattr(app.planner, "choose_settings", choose)
    monkeypatch.setattr("blockskip.cli.models.planner.make_plan", choose)
    return found


@pytest.mark.parametrize(
    "words, told",
    [
        ("plan --precision foo", "bf16"),
        ("plan --model demo --precision bf16", "float32"),
        ("plan --targets foo", "attention+ff"),
        ("plan --patches foo", "dynamic"),
        ("plan --skip foo", "19,10"),
        ("plan --skip -1,3", "19,10"),
        ("plan --skip nan", "19,10"),
        ("plan --rank 0", "equal to 1"),
        ("plan --budget nan", "above 0"),
        ("plan --budget inf", "above 0"),
        ("plan --disk -1", "above 0"),
        ("train --demo --ram 0", "above 0"),
        ("train --demo --prior 1", "less than 1"),
        ("train --demo --steps 0", "equal to 1"),
        ("train --demo --device gpu", "cuda"),
        ("lab simulate --side 0", "multiple of 16"),
        ("lab simulate --budget 8 --skip 0.5", "--skip is settled"),
        ("lab fullsize --work x --skip abc", "19,10"),
        ("lab fullsize --work x --blocks 2,2 --skip 2,2", "none of"),
    ],
)
def test_wrong_usage_says_what_is_possible(call, words, told):
    code, err, out = call(words)
    assert code == 2 and told in err and not out
    code, _, out = call(f"{words} --json")
    assert code == 2 and told in json.loads(out)["error"] and "--help" in json.loads(out)["remedy"]


def test_what_this_pc_has_is_planned_with_unless_said(call, asked, monkeypatch):
    memory = SimpleNamespace(total=31 * 2**30)
    monkeypatch.setattr(storage.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(files, "free_bytes", lambda folder: 7 * 2**30)
    for words in ("train --demo", "plan"):
        assert call(words)[0] == 1
        assert (asked["ram_gib"], asked["disk_gib"]) == (31, 7)
        call(f"{words} --ram 16 --precision nf4")
        assert (asked["ram_gib"], asked["disk_gib"], asked["precision"]) == (16, 7, "nf4")
    call("plan --disk 0")
    assert asked["disk_gib"] == float("inf")
    blocks = data_dir() / QUANTISED_CACHE / "print-int8" / "block.safetensors"
    blocks.parent.mkdir(parents=True)
    with open(blocks, "wb") as file:
        file.truncate(2 << 30)  # a hole: takes no room
    call("train --demo")
    assert asked["disk_gib"] == 9, "a second run uses the blocks of the first"


def test_an_error_of_the_system_is_one_plain_sentence(call, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied", "D:/presets")

    monkeypatch.setattr(presets, "model_rows", refuse)
    code, err, out = call("models list --json")
    assert code == 1 and err.startswith("D:/presets cannot be used: Permission denied.")
    assert set(json.loads(out)) == {"error", "remedy"}


def test_commands_are_named_as_they_are_typed(call, monkeypatch):
    assert call("plan --help")[2].split("Usage: ")[1].startswith(command("plan"))
    monkeypatch.setattr(errors, "os", SimpleNamespace(name="nt"))
    assert command("models list") == r".\launch.bat models list"
    known = "|".join(c.name or c.callback.__name__ for c in app.app.registered_commands)
    wrong = re.compile(rf"blockskip ({known}|lab)|--data-dir|hf auth login")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).as_posix() in NOTES:
            continue
        for text in strings(path):
            assert not wrong.search(text), f"{path.name}: {text}"


def strings(path):
    """Every string of a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value
