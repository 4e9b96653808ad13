"""launch.sh with a Python that only pretends: what it runs, in which order, what it says.

Nothing is installed here. The pretended Python writes down how it was called; folders have the
names that people really have. launch.bat is run in test_launch_bat.py.
"""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from helpers.launching import ROOT, launch, program, repin, shell_place

import blockskip
from blockskip.cli import doctor


@pytest.fixture
def place(tmp_path):
    if os.name == "nt":
        pytest.skip("launch.sh is for Linux and macOS")
    return shell_place(tmp_path)


def installed(done):
    """What pip and uv were asked for, without the options."""
    return [
        re.sub(r".*pip install (--no-compile )?", "", x) for x in done.calls if "pip install" in x
    ]


def test_a_fresh_computer_gets_an_environment_and_then_the_studio(place):
    done = launch(place)
    assert done.returncode == 0, done.stderr
    assert "-m venv" in done.calls[0]
    assert "torch" in done.calls[1] and "gradio" not in done.calls[1], "torch comes first, pinned"
    assert "import torch" in done.calls[-2], "swapped in only after it imports"
    assert done.calls[-1] == "-m blockskip studio"
    assert sorted(p.name for p in place.home.glob(".venv*")) == [".venv"]


def test_a_second_start_asks_nothing_and_takes_under_a_second(place):
    launch(place)
    start = time.perf_counter()
    done = launch(place, "plan")
    assert done.calls == ["-m blockskip plan"]
    assert time.perf_counter() - start < 1


def test_words_exit_code_and_folder_reach_the_program_unharmed(place):
    launch(place)
    words = ["train", "my cat (1).jpg", "", "$HOME", "--caption", 'a "quoted" ü']
    done = launch(place, *words, cwd=place.tmp, STUB_APP="7", PYTHONPATH="/x", PYTHONHOME="/y")
    assert done.returncode == 7
    assert done.stdout == "".join(f"<{x}>" for x in (place.home, "", place.tmp, *words))


def test_other_pins_make_a_new_environment_and_rollback_brings_the_old_one_back(place):
    launch(place)
    (place.home / ".venv" / "mark").write_text("old")
    repin(place)
    assert installed(launch(place, "plan"))
    assert (place.home / ".venv-previous" / "mark").exists()
    assert launch(place, "rollback").returncode == 0
    assert (place.home / ".venv" / "mark").exists()
    assert launch(place, "plan").calls == ["-m blockskip plan"], "and it stays"
    assert launch(place, "rollback").returncode == 0
    assert not (place.home / ".venv" / "mark").exists()


def test_rollback_without_an_earlier_environment_says_so(place):
    launch(place)
    done = launch(place, "rollback")
    assert done.returncode == 1 and "no earlier environment" in done.stderr


def test_a_change_of_pyproject_that_touches_no_pin_installs_nothing(place):
    launch(place)
    repin(place)
    assert not installed(launch(place, "plan", STUB_FITS="0"))
    assert launch(place, "plan").calls == ["-m blockskip plan"]


@pytest.mark.parametrize("trouble", [{"STUB_MISSING": "-r"}, {"STUB_IMPORT": "1"}])
def test_a_failed_update_leaves_the_working_environment_alone(place, trouble):
    launch(place)
    (place.home / ".venv" / "mark").write_text("works")
    repin(place)
    done = launch(place, **trouble)
    assert done.returncode == 1 and "BlockSkip Studio:" in done.stderr
    assert not any("-m blockskip" in x for x in done.calls)
    assert [p.name for p in place.home.glob(".venv*")] == [".venv"]
    assert (place.home / ".venv" / "mark").exists()


def test_an_environment_whose_python_is_gone_is_made_afresh(place):
    launch(place)
    (place.home / ".venv/bin/python").unlink()
    (place.home / ".venv/bin/python").symlink_to(place.tmp / "gone")
    assert installed(launch(place))
    assert not (place.home / ".venv-previous").exists(), "a dead one is nothing to go back to"


def test_a_moved_folder_still_starts(place):
    launch(place)
    place.home = place.home.rename(place.tmp / "elsewhere")
    done = launch(place, "plan")
    assert done.calls == ["-m blockskip plan"]
    assert done.stdout.startswith(f"<{place.home}>")


def test_without_a_card_the_small_build_is_tried_first(place):
    if sys.platform != "linux":
        pytest.skip("elsewhere the default build is the small one")
    assert installed(launch(place))[0] == "torch==2.13.0+cpu"
    shutil.rmtree(place.home / ".venv")
    done = installed(launch(place, STUB_MISSING="cpu"))
    assert "--torch-backend=cpu" in done[2] and done[3] == "torch==2.13.0"


def test_a_card_that_does_not_compute_gets_the_drivers_build_then_that_for_older_ones(place):
    """cu126 has no kernels for an RTX 50, which with an older driver needs the driver's own build."""
    program(place.bin / "nvidia-smi", "#!/bin/sh\n")
    done = launch(place, STUB_CARD="1")
    builds = re.findall(r"--torch-backend=(\w+)", "\n".join(installed(done)))
    assert installed(done)[0] == "torch==2.13.0" and builds == ["auto", "cu126"]
    assert done.returncode == 0 and "BLOCKSKIP_TORCH=cu126 ./launch.sh" in done.stderr
    shutil.rmtree(place.home / ".venv")
    assert not any("backend" in x for x in installed(launch(place))), "this card computes at once"


def test_a_chosen_build_is_installed_kept_and_remembered(place):
    launch(place)
    assert "--torch-backend=cu126" in installed(launch(place, BLOCKSKIP_TORCH="cu126"))[1]
    assert not installed(launch(place, BLOCKSKIP_TORCH="cu126"))
    assert not installed(launch(place))
    repin(place)
    assert "--torch-backend=cu126" in installed(launch(place))[1]
    done = launch(place, BLOCKSKIP_TORCH="rocm", STUB_MISSING="rocm", STUB_IMPORT="1")
    assert done.returncode == 1 and "torch could not be installed" in done.stderr


def test_test_installs_its_tools_and_hands_on_words_and_code(place):
    done = launch(place, "test", "-k", "a b", STUB_APP="5")
    assert done.returncode == 5
    assert done.calls[-3:] == [
        "-m ruff check .",
        "-m mypy",
        "-m pytest -n 3 --dist loadscope --no-loadscope-reorder -k a b",
    ]
    for extra in ("dev", "lab"):
        assert any(f"cli/doctor.py fits {extra}" in x for x in done.calls)
    assert len(installed(launch(place, "test", STUB_FITS="1"))) == 2
    assert (
        "test tools could not be installed" in launch(place, "test", STUB_MISSING="pins.txt").stderr
    )


def test_doctor_answers_even_where_nothing_can_be_installed(place):
    done = launch(place, "doctor", "--report", "r.txt", STUB_MISSING="torch", STUB_IMPORT="1")
    assert done.calls[-1].endswith("blockskip/cli/doctor.py --report r.txt")
    assert launch(place, "doctor").calls[-1] == "-m blockskip doctor"


@pytest.mark.skipif(
    any(Path(x).exists() for x in ("/opt/homebrew/bin/python3", "/usr/local/bin/python3")),
    reason="this computer has a Python where the launcher looks without being told",
)
@pytest.mark.parametrize("old", [True, False], ids=["too old", "none"])
def test_without_a_usable_python_it_says_what_to_install(place, old):
    if not old:
        (place.bin / "python3").unlink()
    done = launch(place, STUB_OLD="1")
    assert done.returncode == 1 and "sudo apt install python3-venv" in done.stderr
    assert not list(place.home.glob(".venv*"))


def test_a_python_named_by_hand_must_suit(place):
    done = launch(place, BLOCKSKIP_PYTHON="/nowhere/python")
    assert done.returncode == 1 and "/nowhere/python" in done.stderr


def test_a_colon_in_the_folder_and_a_full_disk_are_told(place):
    program(place.bin / "less-disk", '#!/bin/sh\nprintf "head\\nfs 9 9 1048576 9 /\\n"\n')
    (place.bin / "df").unlink()
    (place.bin / "less-disk").rename(place.bin / "df")
    done = launch(place)
    assert done.returncode == 1 and "only 1 GB are free on this disk, 4 are needed" in done.stderr
    place.home = place.home.rename(place.tmp / "a:b")
    done = launch(place)
    assert done.returncode == 1 and "has a ':' in its name" in done.stderr


def test_a_launcher_alone_asks_to_unpack_the_download(place):
    (place.home / "pyproject.toml").unlink()
    assert "Unpack the whole download" in launch(place).stderr


def test_two_windows_do_not_build_at_once_and_a_dead_one_is_no_hindrance(place):
    lock = place.home / ".venv-lock"
    lock.mkdir()
    other = subprocess.Popen(["sh", "-c", "read line", "launch.sh"], stdin=subprocess.PIPE)
    (lock / "pid").write_text(str(other.pid))
    done = launch(place)
    assert done.returncode == 1 and "another window" in done.stderr and lock.exists()
    other.communicate()
    for pid in (other.pid, os.getpid()):  # whose number is another program's by now
        (lock / "pid").write_text(str(pid))
        shutil.rmtree(place.home / ".venv", ignore_errors=True)
        assert launch(place).returncode == 0 and not lock.exists()
        lock.mkdir()


def test_the_launchers_question_to_a_python_is_answered_by_this_one():
    question = re.search(r"suits='(.*?)'\n", (ROOT / "launch.sh").read_text(), re.S)[1]
    answer = subprocess.check_output([sys.executable, "-I", "-c", question], text=True)
    assert Path(answer.strip()).samefile(sys.executable)
    question = re.search(r'set "SUITS=(.*)"', (ROOT / "launch.bat").read_text())[1]
    assert subprocess.run([sys.executable, "-I", "-c", question]).returncode == 0


@pytest.mark.parametrize("extra", ["", "dev", "lab", "launch"])
def test_both_launchers_read_the_pins_that_doctor_reads(extra):
    wanted = {f"{name}=={version}" for name, version in doctor.pins(extra).items()}
    sh = re.search(r"-c '\n(import sys, tomllib.*?)' ", (ROOT / "launch.sh").read_text(), re.S)[1]
    bat = re.search(r'set "PINS=(.*)"', (ROOT / "launch.bat").read_text())[1]
    for question, words in ((sh, [extra] if extra else []), (bat, [extra or "all"])):
        assert wanted <= {x.partition(";")[0] for x in answer(question, *words)}
    assert answer(bat, "torch") == [f"torch=={doctor.pins()['torch']}"]


def answer(question, *words):
    command = [sys.executable, "-I", "-c", question, ROOT / "pyproject.toml", *words]
    return subprocess.check_output(command, text=True).splitlines()


def test_versions_agree_and_every_pin_is_exact():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == blockskip.__version__
    for line in (*project["dependencies"], *sum(project["optional-dependencies"].values(), [])):
        assert re.match(r"[\w-]+==[\d.]+(; .*)?$", line), line
    assert f'UV_VERSION={doctor.pins("launch")["uv"]}"' in (ROOT / "launch.bat").read_text()


def test_all_that_the_program_imports_is_pinned():
    """A fresh environment holds the pins and what they bring along, which may change: rely on
    neither."""
    imported = set()
    for path in (ROOT / "app.py", *(ROOT / "blockskip").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    pinned = {re.sub("[-_]", "-", name).lower() for name in doctor.pins() | doctor.pins("lab")}
    for module, packages in importlib.metadata.packages_distributions().items():
        if module in imported - sys.stdlib_module_names:
            names = {re.sub("[-_]", "-", name).lower() for name in packages}
            assert names & pinned, f"{module} is imported but not pinned in pyproject.toml"


def test_the_shell_scripts_are_sound():
    for name, shell in (("launch.sh", "sh"), (".ci/run", "bash")):
        assert b"\r" not in (ROOT / name).read_bytes()
        subprocess.run([shell, "-n", ROOT / name], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", "-S", "warning", ROOT / name], check=True)


def test_launch_bat_has_windows_line_ends_plain_letters_and_no_lost_label():
    data = (ROOT / "launch.bat").read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n"), (
        "cmd loses labels in a file with bare line feeds"
    )
    assert data.isascii(), "cmd reads it in whatever code page the computer has"
    text = data.decode()
    assert set(re.findall(r"^:(\w+)", text, re.M)) == set(
        re.findall(r"(?:goto |call :)(\w+)", text)
    )
