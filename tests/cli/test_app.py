"""The command line: wrong usage is told from failure, and what is said can be typed."""

import ast
import errno
import json
import re
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from blockskip.cli import app
from blockskip.core import errors, events, files, presets
from blockskip.core.errors import UserError, command
from blockskip.core.paths import QUANTISED_CACHE, data_dir
from blockskip.core.settings import Settings
from blockskip.data.demo_photos import demo_pet
from blockskip.data.photos import find_photos
from blockskip.models.sources import download_process
from blockskip.runs import storage
from blockskip.runs.run import Run, create_run

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
    said = json.loads(out)
    assert code == 2 and told in said["error"] and "--help" in said["remedy"]
    assert said["kind"] == "BadInput"


@pytest.mark.parametrize(
    "words, kind",
    [
        ("plan --model gpt", "NotFound"),
        ("plan --model flux-dev --budget 1", "OutOfMemory"),
        ("plan --model flux-dev --budget 8 --disk 1", "DiskFull"),
        ("plan --model flux-dev --budget 8 --ram 1", "OutOfMemory"),
        ("resume nobody", "NotFound"),
        ("export ???", "BadInput"),
        ("train", "BadPhoto"),
        ("train no-such-photo.jpg", "NotFound"),
        ("train pyproject.toml", "BadPhoto"),
        ("train --demo --model flux-dev --budget 24", "ModelMissing"),
    ],
)
def test_programs_are_told_the_kind_of_failure(call, words, kind):
    code, err, out = call(f"{words} --json")
    said = json.loads(out)
    assert code == (2 if kind == "BadInput" else 1)
    assert set(said) == {"error", "remedy", "kind"} and said["kind"] == kind
    assert said["error"] in err


def test_a_full_disk_is_told_from_other_failures(call, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    code, _, out = call("train --demo --json")
    assert code == 1 and json.loads(out)["kind"] == "DiskFull"


@pytest.fixture
def run():
    return create_run(Settings(), find_photos([demo_pet()[0]])[:1], "r")


def test_a_run_that_works_is_told_from_other_failures(call, run):
    me = psutil.Process()
    files.write_json(run.folder / "worker.json", {"pid": me.pid, "create_time": me.create_time()})
    for words in ("resume r", "resume r --steps 900", "runs delete r", "runs rename r s"):
        code, _, out = call(f"{words} --json")
        assert code == 1 and json.loads(out)["kind"] == "WrongState", words


@pytest.mark.parametrize(
    "last, code, kind",
    [
        (events.Failed(title="No room.", kind="OutOfMemory"), 1, "OutOfMemory"),
        (events.Failed(title="Of an old version."), 1, "UserError"),
        (events.Stopped(reason="paused", step=3), 130, "WrongState"),
        (None, 1, "Unexpected"),
    ],
)
def test_how_a_run_ended_is_told_to_programs(call, run, monkeypatch, last, code, kind):
    def start(run, card=""):
        if last:
            run.append(last)
        return SimpleNamespace(wait=lambda _: code)

    monkeypatch.setattr(Run, "start", start)
    exit_code, _, out = call("resume r --json")
    said = json.loads(out)
    assert exit_code == code and set(said) == {"run", "error", "remedy", "kind"}
    assert said["kind"] == kind


def test_a_download_that_left_no_word_counts_as_stopped(call, monkeypatch):
    """Its file may be gone, or open elsewhere on Windows, when Ctrl-C is pressed."""

    def ctrl_c(row):
        raise KeyboardInterrupt

    monkeypatch.setattr(download_process, "start", lambda row: None)
    monkeypatch.setattr(download_process, "stop", lambda row: None)
    answers = iter([ctrl_c, lambda row: None])
    monkeypatch.setattr(download_process, "progress", lambda row: next(answers)(row))
    code, _, out = call("models fetch flux-dev --json")
    assert code == 130 and json.loads(out)["kind"] == "ModelMissing"


def test_what_this_pc_has_is_planned_with_unless_said(call, asked, monkeypatch):
    memory = SimpleNamespace(total=31 * 2**30, available=20 * 2**30)
    monkeypatch.setattr(storage.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(files, "free_bytes", lambda folder: 7 * 2**30)
    for words in ("train --demo", "plan"):
        assert call(words)[0] == 1
        assert (asked["ram_gib"], asked["disk_gib"]) == (31, 7)
        assert 20 < asked["free_ram_gib"] < 31, "with what this process holds"
        call(f"{words} --ram 16 --precision nf4")
        assert (asked["ram_gib"], asked["disk_gib"], asked["precision"]) == (16, 7, "nf4")
        assert asked["free_ram_gib"] == float("inf"), "that RAM is not this PC's"
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
    assert json.loads(out)["kind"] == "BadFile"


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
