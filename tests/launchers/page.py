"""assets/evidence/updates.md: folders of other versions, every scenario with both launchers, every
seeded fault."""

import datetime
import platform
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.launching import COMPILER, ROOT, wine
from launchers import other_versions
from launchers.doctor_faults import FAULTS, found
from launchers.launcher import Launcher
from launchers.scenarios import SCENARIOS, Untried

from blockskip.lab.measuring import json_lines

PAGE = ROOT / "assets" / "evidence" / "updates.md"
KEPT = Path(tempfile.gettempdir()) / "blockskip-updates.jsonl"
COMMAND = "./launch.sh test tests/launchers --page"
INTRODUCTION = """# Updates, and launchers on other people's computers

{findings}

Of the launchers' scenarios, the Python only pretends: it writes down how it is called, and what it is told to fail at fails. *Held*
means that the launcher ended with the right code, in words, and left the right environments behind.
`launch.bat` ran under {wine}, never on Windows itself. {shellcheck}

Made by `{command}` on {date}: {system}, Python {python}.
"""
MOST = 400  # characters of what is said


def main() -> int:
    """Try all and write the page; stopped, it goes on where it was. Returns 0 if all held."""
    with ExitStack() as stack:
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tmp.chmod(0o755)
        ready = None
        if shutil.which("wine") and shutil.which(COMPILER):
            (tmp / "windows").mkdir()
            ready = stack.enter_context(wine(tmp / "windows"))
        faults = [_fault(name, tmp) for name in FAULTS]
        scenarios = [_kept(name, partial(_scenario, name, tmp, ready)) for name in SCENARIOS]
        versions = [_kept(name, make) for name, make in other_versions.rows(tmp).items()]
    lost = sum("LOST" in cell for row in (*scenarios, *faults, *versions) for cell in row)
    PAGE.write_text(_page(scenarios, faults, versions), encoding="utf-8", newline="\n")
    KEPT.unlink(missing_ok=True)
    print(f"{PAGE}: {lost} did not hold")
    return int(lost > 0)


def _kept(name: str, make: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Return a row, made now or before this program was stopped."""
    for line in json_lines.read_lines(KEPT):
        if line["name"] == name:
            return tuple(line["row"])
    row = tuple(map(_plain, make()))
    json_lines.append_line(KEPT, {"name": name, "row": row})
    print(*row, sep=" | ", flush=True)
    return row


def _scenario(name: str, tmp: Path, ready: SimpleNamespace | None) -> tuple[str, ...]:
    number = list(SCENARIOS).index(name)
    shell = _tried(lambda: SCENARIOS[name](_launcher(tmp / f"sh-{number}", None)))
    bat = ("not tried: no wine here", "")
    if ready is not None:
        bat = _tried(lambda: SCENARIOS[name](_launcher(tmp / f"bat-{number}", ready)))
    said = dict.fromkeys(text for text in (shell[1], bat[1]) if text)
    return name, shell[0], bat[0], " / ".join(said)


def _launcher(tmp: Path, ready: SimpleNamespace | None) -> Launcher:
    tmp.mkdir()
    return Launcher(tmp, ready, thorough=True)


def _fault(name: str, tmp: Path) -> tuple[str, ...]:
    folder = tmp / f"fault-{list(FAULTS).index(name)}"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        try:
            line = found(name, patch, folder)
        except Exception:
            traceback.print_exc()
            return name, "LOST", "", ""
    if line is None:
        return name, "OK", "nothing is wrong", ""
    return name, line.state, f"{line.name}: {_plain(line.text)}", _plain(line.remedy)


def _tried(scenario: Callable[[], str]) -> tuple[str, str]:
    try:
        return "held", _plain(scenario())
    except Untried as why:
        return f"not tried: {why}", ""
    except Exception:
        traceback.print_exc()
        return "LOST", ""


def _page(scenarios: Sequence[tuple], faults: Sequence[tuple], versions: Sequence[tuple]) -> str:
    cells = [cell for row in scenarios for cell in row[1:3]]
    held, lost = cells.count("held"), cells.count("LOST")
    missed = sum(row[1] == "LOST" for row in faults)
    wrong = sum(any("LOST" in cell for cell in row) for row in versions)
    findings = [
        f"Of {len(versions)} folders opened by another version, {wrong} lost something: each was "
        "listed, and each was exported and resumed or refused in words, with nothing changed.",
        f"Of {held + lost} scenarios of a launcher, {held} held and {lost} did not; {len(cells) - held - lost} were not tried.",
        f"`doctor` named {len(faults) - missed} of {len(faults)} seeded faults rightly, with the remedy.",
    ]
    head = INTRODUCTION.format(
        findings="\n".join(f"{n}. {line}" for n, line in enumerate(findings, 1)),
        wine=_version("wine", "--version") or "no wine, so that it was not tried",
        shellcheck=_shellcheck(),
        command=COMMAND,
        date=datetime.date.today(),
        system=platform.system(),
        python=platform.python_version(),
    )
    shown = _table(("scenario", "launch.sh", "launch.bat", "what is said"), scenarios)
    opened = _table(other_versions.HEAD, versions)
    named = _table(("fault", "state", "finding", "remedy"), faults)
    parts = {
        "Folders of other versions": opened,
        "Launchers": shown,
        "Faults that `doctor` finds": named,
    }
    return head + "".join(f"\n## {title}\n\n{table}\n" for title, table in parts.items())


def _shellcheck() -> str:
    if not shutil.which("shellcheck"):
        return "`launch.sh` was not looked at by shellcheck."
    done = subprocess.run(["shellcheck", "-S", "warning", ROOT / "launch.sh"], capture_output=True)
    verdict = "no warning" if done.returncode == 0 else "WARNINGS"
    return f"shellcheck has {verdict} for `launch.sh`."


def _version(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.split(" ")[0].strip()


def _plain(text: str) -> str:
    """Return a text that a Markdown table can show."""
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    for sign, other in {"|": "/", "<": "‹", ">": "›"}.items():
        text = text.replace(sign, other)
    if text.count("`") % 2:
        text = text.replace("`", "'")
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def _table(head: Sequence[str], rows: Sequence[tuple]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
