"""Every option and argument of every command is checked before any work: exit code 2, one sentence,
and one JSON object for programs."""

import json
import re
import sys
from typing import get_args

import pytest
import typer
from PIL import Image

from blockskip.cli import app, doctor
from blockskip.core.errors import BadInput
from blockskip.core.output_files import check_output
from blockskip.core.settings import Settings
from blockskip.models.lora import names as lora_names
from blockskip.runs import results
from blockskip.runs.run import create_run, list_runs, runs_dir

COMMANDS: dict[tuple[str, ...], list[str]] = {
    ("train",): ["--demo"],
    ("batch",): ["."],
    ("resume",): ["r"],
    ("preview",): ["r", "--prompt", "p", "--out", "p.png"],
    ("export",): ["r"],
    ("likeness",): ["r"],
    ("plan",): [],
    ("studio",): [],
    ("lab", "pretrain-demo"): ["--work", "w"],
    ("lab", "evaluate"): ["r"],
    ("lab", "evaluate-base"): ["--model", "no-folder"],
    ("lab", "simulate"): [],
    ("lab", "fullsize"): ["--work", "w"],
    ("lab", "bench"): ["--work", "w"],
    ("lab", "gpu"): ["caps", "--work", "w"],
    ("lab", "int8"): [],
    ("lab", "peer"): [app.__file__, "--python", sys.executable, "--work", "w"],
    ("lab", "ablate"): ["--work", "w"],
    ("lab", "select"): ["--work", "w"],
    ("lab", "distil"): ["--work", "w"],
    ("lab", "previews"): ["--work", "w"],
    ("lab", "calibrate"): ["--work", "w"],
}
WRONG = {int: ("-1", "1" + "0" * 30), float: ("nan", "-1", "1e30")}
ODD = {int: ("1e3", "nan", "", "9" * 5000), float: ("inf", "1e400", "", "x")}  # for any option


def group(*words):
    found = typer.main.get_command(app.app)
    for word in words:
        found = found.commands[word]
    return found


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["blockskip", *words])
        code = app.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, " ".join(re.sub("[│╭╮╰╯─]", " ", said.err).split()), said.out

    return run


def numbers(command):
    for option in group(*command).params:
        kind = option.type_descriptor.annotation
        kinds = {kind, *get_args(kind)}
        for number in (int, float):
            if number in kinds:
                yield option.opts[0], number


def test_no_command_with_numbers_is_left_out():
    found = {(name,) for name in group().commands} - {("lab",)}
    found |= {("lab", name) for name in group("lab").commands}
    assert {command for command in found if list(numbers(command))} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_number_is_taken_that_cannot_be(call, command, tmp_path):
    for option, kind in numbers(command):
        odd = ODD[kind] if command == ("resume",) or option == "--budget" else ()
        for value in (*WRONG[kind], *odd):
            code, err, _ = call(*command, *COMMANDS[command], option, value)
            assert code == 2, (option, value, err)
    assert not list(tmp_path.glob("w*")) and not list_runs()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--demo", "--trigger", ""],
        ["train", "--demo", "--trigger", "  "],
        ["train", "--demo", "--hold-out", "-1"],
        ["train", "--demo", "--hold-out", "some"],
        ["train", "--demo", "--hold-out", "1"],
        ["train", "--demo", "--trigger", "a\nb"],
        ["train", "--demo", "--class", "a\x1b[31m"],
        ["train", "--demo", "--caption", "a\u2028b"],
        ["train", "--demo", "--trigger", "x" * 501],
        ["train", "--demo", "--trigger", "a\udcff"],
        ["train", "--demo", "--out", "con"],
        ["train", "--demo", "--out", "~nobody"],
        ["train", "--demo", "--out", "~no-such-user/x"],
        ["train", "--demo", "--out", "file/run"],
        ["train", ""],
        ["train", "\udcff.jpg"],
        ["resume", "~nobody"],
        ["resume", "~no-such-user/x"],
        ["resume", "a\0b"],
        ["resume", ""],
        ["pause", "../\udcff"],
        ["runs", "delete", "~no-such-user/x"],
        ["runs", "rename", "r", "../x"],
        ["runs", "rename", "r", "nul"],
        ["runs", "no such action"],
        ["preview", "r", "--prompt", "p", "--out", "name"],
        ["preview", "r", "--prompt", "p", "--out", "name.gguf"],
        ["preview", "r", "--prompt", "p", "--out", "file/name.png"],
        ["preview", "r", "--prompt", "p", "--out", "."],
        ["preview", "r", "--prompt", "p", "--out", "x" * 300 + ".png"],
        ["preview", "r", "--prompt", " ", "--out", "name.png"],
        ["preview", "r", "--prompt", "p", "--out", "photo.png"],
        ["export", "r", "--format", "zip"],
        ["export", "r", "--out", "file/x.safetensors"],
        ["export", "r", "--out", "mine"],
        ["models", "use", "flux-dev", "~no-such-user/x"],
        ["models", "use-comfyui", "~no-such-user/x"],
        ["models", "use-comfyui", ""],
        ["models", "check"],
        ["doctor", "--report", "file"],
        ["doctor", "--report", "none/x.txt"],
        ["doctor", "--report", ""],
        ["lab", "bench", "--work", "file"],
        ["lab", "bench", "--work", "w", "--out", "file"],
        ["lab", "bench", "--work", ""],
        ["lab", "gpu", "caps", "--work", "w", "--tiny", "--out", "file.md"],
        ["lab", "distil", "--work", "w", "--out", "mine.safetensors"],
        ["lab", "evaluate-base", "--sheet", "photo.png"],
        ["lab", "evaluate-base", "--model", "file"],
        ["lab", "evaluate-base", "--seen", "none.json"],
        ["lab", "ablate", "--work", "w", "--known", "none.json"],
        ["lab", "select", "--work", "file/x"],
        ["lab", "ablation-report", "--work", "none"],
    ],
    ids=lambda words: " ".join(words)[:60].encode("ascii", "replace").decode(),
)
def test_what_cannot_be_is_one_sentence_before_any_work(call, words, tmp_path):
    create_run(Settings(), [], "r")
    for name in ("file", "file.md", "mine.safetensors"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, err, out = call(*words)
    assert code == 2 and err and not out, (code, err)
    if words[0] not in ("pause", "preview"):  # they have no --json
        code, _, out = call(*words, "--json")
        said = json.loads(out)
        assert code == 2 and said["kind"] == "BadInput" and said["error"].strip()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before and [run.name for run in list_runs()] == ["r"]


def test_a_wrong_value_is_named(call):
    for option, value in (("--seed", "-1"), ("--rank", "4096"), ("--steps", "2000000")):
        _, _, out = call("train", "--demo", option, value, "--json")
        assert value in json.loads(out)["error"] and option in json.loads(out)["error"]


def test_what_is_possible_is_taken(monkeypatch, call):
    """The ends of each range, and words with any punctuation."""
    asked = {}

    def choose(**said):
        asked.update(said)
        raise BadInput("Enough.")

    monkeypatch.setattr(app.planner, "choose_settings", choose)
    words = "--seed 9223372036854775807 --steps 1000000 --rank 1024 --lr 1 --preview-every 0"
    call("train", "--demo", *words.split(), "--trigger", "Lu/na:\"x' 猫", "--class", "../x")
    assert (asked["seed"], asked["steps"], asked["rank"]) == (2**63 - 1, 10**6, 1024)
    assert (asked["trigger"], asked["class_name"]) == ("Lu/na:\"x' 猫", "../x")


def test_a_run_with_an_odd_name_is_deleted(call):
    create_run(Settings(), [], "good").folder.rename(runs_dir() / "good (copy)")
    (runs_dir() / "good (copy)").joinpath("x").touch()
    assert "good (copy)" in call("runs")[2]
    assert call("runs", "delete", "good (copy)")[0] == 0 and not list_runs()


def test_a_foreign_file_is_replaced_only_if_asked(call, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_try_torch", lambda: (True, "cpu", "2 computes on cpu", "build"))
    mine, report = tmp_path / "mine.txt", tmp_path / "report.txt"
    mine.write_text("BlockSkip Studio is what I wrote about", encoding="utf-8")
    assert call("doctor", "--report", str(mine))[0] == 2
    assert mine.read_text("utf-8") == "BlockSkip Studio is what I wrote about"
    for _ in range(2):  # its own report is replaced
        assert call("doctor", "--report", str(report))[0] in (0, 1)
    assert "Overall: " in report.read_text("utf-8")
    assert call("doctor", "--report", str(mine), "--force")[0] in (0, 1)
    assert "Overall: " in mine.read_text("utf-8")
    assert doctor._main(["--report", str(tmp_path), "--json"]) == 2


def test_pictures_and_exports_replace_only_their_own(tmp_path, call, monkeypatch):
    run = create_run(Settings(), [], "r")
    picture = Image.new("RGB", (8, 8), (10, 20, 30))
    monkeypatch.setattr(results, "generate_images", lambda *a, **k: [picture])
    for ending in results.PICTURE_ENDINGS:
        out = tmp_path / "new" / f"p{ending.upper()}"
        for _ in range(2):
            assert call("preview", "r", "--prompt", "p", "--out", str(out))[0] == 0
        assert Image.open(out).size == (8, 8)
        picture.save(out)
        before = out.read_bytes()
        assert call("preview", "r", "--prompt", "p", "--out", str(out))[0] == 2
        assert out.read_bytes() == before
        assert call("preview", "r", "--prompt", "p", "--out", str(out), "--force")[0] == 0
    assert Image.open(tmp_path / "new" / "p.PNG").getpixel((0, 0)) == (10, 20, 30)
    assert lora_names.output_path(tmp_path, run.settings()).name == "sks-cat.safetensors"
    (tmp_path / "sks-cat.workflow.json").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="workflow"):
        results.checked_export(run, tmp_path)
    with pytest.raises(BadInput, match="exists already"):
        check_output(tmp_path / "sks-cat.workflow.json", made_here=results._is_export)
