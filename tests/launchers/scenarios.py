"""What happens to both launchers on other people's computers. Each scenario starts one in a folder
of its own, checks what it does, and returns what it said."""

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from helpers.launching import COUNTED, program, repin, shell_place
from launchers.launcher import Launcher, installs

CHANGING = ("cp", "mkdir", "mv", "rm")  # tools with which launch.sh changes files
Scenario = Callable[[Launcher], str]


class Untried(Exception):
    """A scenario does not apply to a launcher, or cannot be tried here; the text says why."""


def no_python(one: Launcher) -> str:
    (one.bin / ("python.exe" if one.is_bat else "python3")).unlink()
    if one.is_bat:
        one.works()  # uv brings one
        shutil.rmtree(one.home / ".venv")
        shutil.rmtree(one.home / ".venv-uv")
        return one.fails("install Python 3.12 from python.org", STUB_CURL="6")
    return one.fails("sudo apt install python3-venv")


def python_of_the_store(one: Launcher) -> str:
    """On Windows it only opens the Store; elsewhere a shim may lead nowhere."""
    if one.is_bat:
        return one.fails("install Python 3.12 from python.org", STUB_SUITS="9009", STUB_CURL="6")
    program(one.bin / "python3", "#!/bin/sh\nexit 127\n")
    return one.fails("sudo apt install python3-venv")


def unsuitable_python(one: Launcher) -> str:
    if one.is_bat:
        return one.fails("install Python 3.12 from python.org", STUB_SUITS="1", STUB_CURL="6")
    return one.fails("sudo apt install python3-venv", STUB_OLD="1")


def py_launcher_and_second_start(one: Launcher) -> str:
    one.rename_python("py" if one.is_bat else "python3.12")
    assert installs(one.works())
    done = one.works("plan")
    assert not installs(done)
    return "nothing is asked the second time"


def in_folder(folder: str, one: Launcher) -> str:
    one.renew(folder)
    one.works()
    assert not installs(one.works("train", "my cat (1).jpg"))
    return "it works"


def no_network(one: Launcher) -> str:
    said = one.fails("Is this computer online", STUB_MISSING="-")
    assert not one.environments()
    return said


def uv_fails(one: Launcher) -> str:
    one.works()
    one.mark()
    said = one.fails(
        "orch could not be installed",
        BLOCKSKIP_TORCH="cu126",
        STUB_MISSING="torch-backend",
        STUB_IMPORT="1",
    )
    assert one.environments() == {".venv": True}
    return said


def program_ends_with_7(one: Launcher) -> str:
    one.works()
    return (
        one.last_words(one.works(code=7, STUB_APP="7").said)
        if one.is_bat
        else (one.works(code=7, STUB_APP="7") and "the program's own words; the code is handed on")
    )


def alone(one: Launcher) -> str:
    (one.home / "pyproject.toml").unlink()
    return one.fails("npack the whole")


def full_disk(one: Launcher) -> str:
    if one.is_bat:
        return one.fails("The disk is nearly full", STUB_ROOM="1")
    (one.bin / "df").unlink()
    program(one.bin / "df", '#!/bin/sh\nprintf "head\\nfs 9 9 1048576 9 /\\n"\n')
    return one.fails("only 1 GB are free")


def broken_packages(one: Launcher) -> str:
    one.works()
    one.mark()
    repin(one)
    said = one.fails("environment does not work", STUB_IMPORT="1")
    assert one.environments() == {".venv": True}
    return said


def read_only_folder(one: Launcher) -> str:
    if one.is_bat:
        raise Untried("wine has no such rights")
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        tmp.chmod(0o755)
        place = shell_place(tmp, "bin here")
        place.home.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        as_other = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        if as_other and not shutil.which("runuser"):
            raise Untried("root may write everywhere")
        done = subprocess.run(
            [*as_other, place.home / "launch.sh"],
            cwd="/",
            env={"PATH": f"{place.bin}", "HOME": "/"} if not as_other else {**os.environ},
            capture_output=True,
            text=True,
        )
        place.home.chmod(0o755)
    assert done.returncode == 1 and "cannot be written to" in done.stderr, done.stderr
    return one.last_words(done.stderr.replace(str(place.home), "FOLDER"))


def foreign_settings(one: Launcher) -> str:
    foreign = dict.fromkeys(
        ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PYTHONSTARTUP"), "/elsewhere"
    )
    done = one.works("plan", **foreign, CONDA_PREFIX="/elsewhere", VIRTUAL_ENV="/elsewhere")
    assert "/elsewhere" not in done.said and "home" not in done.said.lower().split("<")[2]
    return "they are put aside"


def update_while_in_use(one: Launcher) -> str:
    """The old environment stays where it is until nothing runs from it."""
    one.works()
    one.mark()
    repin(one)
    done = one.works("plan", STUB_BUSY="0")
    assert installs(done) and one.environments() == {".venv": True, ".venv-next": False}
    assert not installs(one.works("plan", STUB_BUSY="0"))
    assert one.environments() == {".venv": True, ".venv-next": False}
    assert not installs(one.works("plan"))
    assert one.environments() == {".venv": False, ".venv-previous": True}
    (said,) = {x for x in done.said.splitlines() if "before the update" in x}
    return said


def two_updates_while_in_use(one: Launcher) -> str:
    one.works()
    one.mark()
    repin(one)
    one.works("plan", STUB_BUSY="0")
    (one.home / ".venv-next" / "pyproject.toml").write_text("of another version")
    said = one.fails("two earlier versions", "plan", STUB_BUSY="0")
    assert one.environments() == {".venv": True, ".venv-next": False}
    return said


def rollback_while_in_use(one: Launcher) -> str:
    one.works()
    one.mark()
    repin(one)
    one.works("plan")
    said = one.fails("uses the environment", "rollback", STUB_BUSY="0")
    assert one.environments() == {".venv": False, ".venv-previous": True}
    assert one.start("rollback").returncode == 0
    assert one.environments() == {".venv": True, ".venv-previous": False}
    assert not installs(one.works("plan"))
    return said


def left_lock(one: Launcher) -> str:
    """A number in it may be another program's by now."""
    lock = one.home / ".venv-lock"
    if one.is_bat:
        lock.write_text("")
    else:
        lock.mkdir()
        (lock / "pid").write_text(str(os.getpid()))
    one.works()
    return "it is taken over"


def two_windows(one: Launcher) -> str:
    if one.is_bat:
        raise Untried("wine's cmd has no handles by number")
    go = one.place.tmp / "go"
    answers: list[subprocess.CompletedProcess] = []
    first = threading.Thread(target=lambda: answers.append(one.start("plan", STUB_WAIT=str(go))))
    first.start()
    try:
        while not go.with_name("go-begun").exists():
            assert first.is_alive()
            first.join(0.02)
        said = one.fails("another window", "plan")
    finally:
        go.touch()
        first.join()
    assert answers[0].returncode == 0
    return said


def killed_at_each_step(one: Launcher) -> str:
    """During the first installation and during an update, at each call of another program."""
    steps = sum(_killed(one, update) for update in (False, True))
    return f"killed {steps} times, mended by the next start each time"


def _killed(one: Launcher, update: bool) -> int:
    steps = range(1, 200, 1 if one.thorough else 4)
    for tried, step in enumerate(steps):
        one.renew()
        settings = {"STUB_KILL": str(step)}
        if not one.is_bat:
            settings["STUB_COUNT"] = str(one.place.tmp / "count")
        if update:
            one.works("plan")
            one.mark()
            repin(one)
        if not one.is_bat:
            _count_tools(one)
        done = one.start("plan", **settings)
        if done.returncode == 0:
            assert step > 5
            return tried
        if not one.is_bat:
            settings.pop("STUB_KILL")
        else:
            settings = {}
        one.works("plan", **settings)
        assert not installs(one.works("plan", **settings)), "mended for good"
        expected = {".venv": False, ".venv-previous": True} if update else {".venv": False}
        assert {k: v for k, v in one.environments().items() if k != ".venv-lock"} == expected
    raise AssertionError("it never ends")


def _count_tools(one: Launcher) -> None:
    for name in CHANGING:
        tool = one.bin / name
        real = tool.resolve()
        tool.unlink()
        program(tool, f'#!/bin/sh\n{COUNTED}counted {name} || kill -9 0\nexec {real} "$@"\n')


def killed_between_renames(one: Launcher) -> str:
    """What a killed launcher can leave behind while a new environment takes the place of .venv."""
    states = [("", ".venv-next"), (".venv-previous", ".venv-next")]
    if one.is_bat:
        states += [(".venv-moved", ".venv-next")]
    for old, new in states:
        one.renew()
        one.works()
        shutil.copytree(one.home / ".venv", one.home / new)
        one.mark()
        if old:
            (one.home / ".venv").rename(one.home / old)
        assert not installs(one.works("plan"))
        assert one.environments() == {".venv": False, ".venv-previous": True}, old
    return "the finished environment is taken, without fetching anything"


SCENARIOS: dict[str, Scenario] = {
    "no Python": no_python,
    "Python of the Windows Store, or a shim that leads nowhere": python_of_the_store,
    "only `py`, or only `python3.12`; second start": py_launcher_and_second_start,
    "folder `My Apps (x86)`": partial(in_folder, "My Apps (x86)"),
    "folder `cats & dogs!`": partial(in_folder, "cats & dogs!"),
    "folder `Ångström 猫`": partial(in_folder, "Ångström 猫"),
    "no network": no_network,
    "uv fails": uv_fails,
    "the program ends with code 7": program_ends_with_7,
    "Python too old, too new or of 32 bits": unsuitable_python,
    "started inside the ZIP": alone,
    "full disk": full_disk,
    "packages that do not start": broken_packages,
    "folder may not be written to": read_only_folder,
    "PYTHONPATH, PYTHONHOME, Conda of others": foreign_settings,
    "update while a training runs": update_while_in_use,
    "two updates while trainings run": two_updates_while_in_use,
    "rollback, also while a training runs": rollback_while_in_use,
    "lock left behind by a killed launcher": left_lock,
    "two windows at once": two_windows,
    "killed between two renames": killed_between_renames,
    "killed at each step of an installation": killed_at_each_step,
}
