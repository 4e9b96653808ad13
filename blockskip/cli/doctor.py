"""Check this computer for BlockSkip Studio, with a remedy for each problem.

The launchers also run it, before an environment exists and when it fails. Therefore it needs only
the standard library at the top, and runs as a plain file: `python -I blockskip/cli/doctor.py [fits
[EXTRA] | card | --report FILE [--force]]`.

A report has no photos, tokens or environment variables, and neither the user's nor the computer's
name; the home folder is shown as `~`.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # a plain file of the launchers
    sys.path.insert(0, str(ROOT))

from blockskip.cli import nvidia_cards, surroundings  # noqa: E402
from blockskip.cli.finding import GIB, OK, PROBLEM, WARNING, Line  # noqa: E402
from blockskip.cli.surroundings import AGAIN  # noqa: E402

TITLE = "BlockSkip Studio"
MAX_REPORT = 1 << 20  # bytes that are read of a file to tell whether it is a report
OTHER_NAME = "Choose another name, or add --force to replace a file."
UNPACK = "Unpack BlockSkip Studio again from its download."
SHORT = r"Move the whole folder to a short, plain place such as C:\BlockSkip."
MOVE = (
    "Free some space, or keep models and runs on another drive: set the environment variable "
    "BLOCKSKIP_DATA to a folder there."
)
RUNTIME = "Install Microsoft's Visual C++ runtime: https://aka.ms/vs/17/release/vc_redist.x64.exe"
PAGE_FILE = (
    "Windows counts what the card holds against RAM and page file. Let it manage the page file "
    "(Settings, System, About, Advanced system settings, Performance, Advanced, Virtual memory), "
    "or make it larger than the card's memory."
)
DRIVER = "Restart the computer. If that does not help, install NVIDIA's driver again."
BUILD = (
    "Update the card's driver, delete the folder .venv and start again. Or choose the build of "
    "torch yourself: set BLOCKSKIP_TORCH=cu126 (older cards and drivers) and start again."
)
# by compute capability: what no build that suits this driver, or not the newest, has kernels for
TOO_NEW, TOO_OLD = 10.0, 7.5
TOO_NEW_REMEDY = (
    "Update the card's driver: the builds of torch for older drivers do not know this card. Then "
    "delete the folder .venv and start again."
)
TOO_OLD_REMEDY = "Only an older build knows this card: set BLOCKSKIP_TORCH=cu126 and start again."
UNTRIED = "Only NVIDIA's cards have been planned for: the others may fail. Report how it went."
OTHER_CARD = (
    "Enough for the demo model; big models need a graphics card. AMD's and Intel's are untried: set "
    "BLOCKSKIP_TORCH=auto and start again to take their build."
)


class Report(NamedTuple):
    """All findings, the computer first, the data last."""

    lines: list[Line]

    @property
    def state(self) -> str:
        return max((x.state for x in self.lines), key=(OK, WARNING, PROBLEM).index, default=OK)

    def text(self) -> str:
        rows = [f"{TITLE} {_project()['version']}, {datetime.date.today()}", ""]
        for x in self.lines:
            rows.append(f"{x.state:8} {x.name:14} {x.text}")
            rows += [f"{'':23} -> {x.remedy}"] if x.remedy else []
        return "\n".join([*rows, "", f"Overall: {self.state}."])


def run_doctor(
    report: Path | None = None,
    as_json: bool = False,
    force: bool = False,
    more: Callable[[], list[Line]] = list,
) -> int:
    """Print the findings and write them to `report`. Returns 1 if any is a problem, else 0.

    more: another check. Returns 2 before any if `report` cannot be written, or is a file that is no
    earlier report, unless `force`.
    """
    if report is not None and (problem := _report_problem(report, force)):
        if as_json:
            print(json.dumps({"error": problem, "remedy": OTHER_NAME, "kind": "BadInput"}))
        print(f"{problem} {OTHER_NAME}", file=sys.stderr)
        return 2
    findings = doctor(more)
    data = {"state": findings.state, "lines": [x._asdict() for x in findings.lines]}
    print(json.dumps(data) if as_json else findings.text())
    try:
        if report:
            report.write_text(findings.text() + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        print(f"{report} could not be written: {error.strerror}.", file=sys.stderr)
        return 1
    return int(findings.state == PROBLEM)


def _report_problem(report: Path, force: bool) -> str:
    """Return why a report cannot be written, "" if it can."""
    try:
        if report.is_dir() or not report.parent.is_dir():
            raise IsADirectoryError(21, "it is a folder" if report.is_dir() else "no such folder")
        if not os.access(report if report.exists() else report.parent, os.W_OK):
            raise PermissionError(13, "it may not be written")
        if not report.exists() or force or (report.is_file() and _is_report(report)):
            return ""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{report} could not be written: {reason}."
    return f"{report} exists already and is not a report: it is left as it is."


def _is_report(path: Path) -> bool:
    text = path.read_bytes()[:MAX_REPORT].decode("utf-8", errors="replace")
    return text.startswith(f"{TITLE} ") and "\nOverall: " in text


def doctor(more: Callable[[], list[Line]] = list) -> Report:
    """Run all checks (torch in its own process), then another one. Never raises."""
    from blockskip.core.privacy import redact

    lines = []
    for look in (
        *(_system, _folder, _packages, _environment, _launcher, surroundings.proxy),
        *(_graphics_card, _memory, _data, _demo, more),
    ):
        try:
            lines += look()
        except Exception as error:  # report a failed check and continue with the others
            lines.append(Line(look.__name__.strip("_"), WARNING, f"not checked: {error!r}"))
    return Report(
        [Line(n, s, redact(text), redact(cure) if s != OK else "") for n, s, text, cure in lines]
    )


def pins(extra: str = "") -> dict[str, str]:
    """Return the version of each package that pyproject.toml pins for this system."""
    project, versions = _project(), {}
    for line in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        name, version, marker = re.split(r"\s*(?:==|;)\s*", f"{line};")[:3]
        if platform.system() != "Darwin" or "Darwin" not in marker:  # the only marker in use
            versions[name] = version
    return versions


def version_mismatches(extra: str = "") -> list[str]:
    """Describe the pins that this Python's environment does not meet."""
    mismatches = []
    for name, wanted in pins(extra).items():
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            have = "none"
        if have.partition("+")[0] != wanted:  # 2.13.0+cu126 is a build of 2.13.0
            mismatches.append(f"{name} {wanted} wanted, {have} found")
    return mismatches


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _system() -> list[Line]:
    bits = 64 if sys.maxsize > 2**32 else 32
    text = f"Python {platform.python_version()} of {bits} bits, {platform.platform()}, {os.cpu_count()} cores"
    fits = (3, 11) <= sys.version_info[:2] <= (3, 14) and sys.maxsize > 2**32
    return [Line("system", OK if fits else PROBLEM, text, "Install a 64-bit Python 3.11 to 3.14.")]


def _folder() -> list[Line]:
    path, windows = str(ROOT), os.name == "nt"
    if os.pathsep in path:
        return [Line("folder", PROBLEM, f"{path} has '{os.pathsep}' in it", "Rename that folder.")]
    if "onedrive" in path.lower():
        return [Line("folder", WARNING, f"{path}: OneDrive would upload gigabytes", SHORT)]
    # torch's paths take 199 of Windows' 260 characters
    if windows and (len(path) > 60 or not path.isascii()):
        return [Line("folder", WARNING, f"{path}: long or special names may fail", SHORT)]
    return [Line("folder", OK, path)]


def _packages() -> list[Line]:
    wrong = "; ".join(version_mismatches())
    return [Line("packages", PROBLEM if wrong else OK, wrong or "all as wanted", AGAIN)]


def _environment() -> list[Line]:
    return surroundings.environment(ROOT, pins())


def _launcher() -> list[Line]:
    return surroundings.launcher(ROOT)


def _graphics_card() -> list[Line]:
    try:
        cards = [Line("graphics card", OK, text) for text in nvidia_cards.describe()]
    except Exception as error:  # after an update of the driver, it answers the next start only
        text = f"NVIDIA's driver does not answer: {error}"
        return [Line("graphics card", PROBLEM, text, DRIVER)]
    works, device, text, remedy = _try_torch()
    if works and device == "cpu" and cards:
        text += ", although there is a graphics card"
    elif works and device == "cpu":
        remedy = OTHER_CARD
    elif works and not cards:
        remedy = UNTRIED
    if cards and (not works or device == "cpu"):
        remedy = _build_for(nvidia_cards.capability()) if remedy == BUILD else remedy
    state = PROBLEM if not works else OK if cards and device == "cuda" else WARNING
    return [*cards, Line("torch", state, text, remedy)]


def _build_for(capability: float) -> str:
    """Return the remedy where no build of torch so far computes on a card."""
    if capability >= TOO_NEW:
        return TOO_NEW_REMEDY
    return TOO_OLD_REMEDY if 0 <= capability < TOO_OLD else BUILD


def _try_torch() -> tuple[bool, str, str, str]:
    """Run the `card` command in another process, since a bad driver may hang or kill it."""
    command = [sys.executable, "-I", str(Path(__file__).resolve()), "card"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        return tuple(json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return False, "", "torch hung or killed its process while it tried the card", BUILD


def _multiply() -> tuple[bool, str, str, str]:
    """Multiply on the best device and compare with the CPU. Returns (works, device, text,
    remedy)."""
    try:
        import torch

        device = torch.accelerator.current_accelerator(True) or torch.device("cpu")
        # sums of small integers are exact in every precision that a card may choose
        a, b = torch.randint(-4, 5, (2, 256, 256), generator=torch.manual_seed(0)).float()
        exact = torch.equal((a.to(device) @ b.to(device)).cpu(), a @ b)
    except (ImportError, OSError) as error:  # on Windows also if c10.dll or a dependency is missing
        damaged = os.name != "nt" or isinstance(error, ModuleNotFoundError)
        return False, "", f"torch does not start: {error}", AGAIN if damaged else RUNTIME
    except Exception as error:  # a driver may raise anything
        return False, "", f"the card does not compute: {str(error).partition(chr(10))[0]}", BUILD
    verdict = "computes" if exact else "computes WRONGLY"
    return exact, device.type, f"{torch.__version__} {verdict} on {device.type}", BUILD


def _memory() -> list[Line]:
    import psutil

    ram = psutil.virtual_memory()
    text = f"{ram.available / GIB:.1f} of {ram.total / GIB:.1f} GiB free"
    memory = Line("memory", OK if ram.total > 12 * GIB else WARNING, text, "FLUX wants 16 GB.")
    return [memory, *_page_file()]


def _page_file() -> list[Line]:
    """Compare Windows' page file with the card's memory, for which Windows sets some aside too."""
    from blockskip.memory import monitor

    now, card = monitor.commit(), monitor.usage().vram_total_gib
    if now is None or card < 0:
        return []
    text = f"{now.page_file_gib:.1f} GiB, the card has {card:.1f}; {now.free_gib:.1f} GiB of it and RAM are free"
    return [Line("page file", OK if now.page_file_gib >= card else WARNING, text, PAGE_FILE)]


def _data() -> list[Line]:
    from blockskip.core import files
    from blockskip.core.errors import UserError
    from blockskip.core.paths import data_dir

    folder = data_dir().absolute()
    try:
        parent, free = files.existing_parent(folder), files.free_bytes(folder) / GIB
    except UserError as error:
        return [Line("data folder", PROBLEM, error.title, error.remedy)]
    if not os.access(parent, os.W_OK):
        return [Line("data folder", PROBLEM, f"{folder} may not be written to", MOVE)]
    state = OK if free > 40 else WARNING if free > 2 else PROBLEM
    return [Line("data folder", state, f"{folder}: {free:.0f} GiB free", f"FLUX wants 40. {MOVE}")]


def _demo() -> list[Line]:
    from safetensors import SafetensorError, safe_open

    folder = ROOT / "assets" / "demo-model"
    weights = sorted(folder.rglob("*.safetensors"))
    if not (weights and (folder / "model_index.json").is_file()):
        return [Line("demo model", PROBLEM, f"{folder} is not complete", UNPACK)]
    for path in (*weights, *folder.rglob("*.json")):
        try:
            safe_open(path, "np") if path in weights else json.loads(path.read_bytes())
        except (OSError, ValueError, SafetensorError) as error:
            text = f"{path.relative_to(ROOT).as_posix()} cannot be read: {error}"
            return [Line("demo model", PROBLEM, text, UNPACK)]
    return [Line("demo model", OK, f"{len(weights)} weight files")]


def _main(words: list[str]) -> int:
    """Run a command of the launchers (see the module docstring), and return its exit code."""
    if words[:1] == ["fits"]:
        return len(version_mismatches(*words[1:]))
    if words[:1] == ["card"]:
        works, device, text, _ = tried = _multiply()
        print(text, file=sys.stderr)  # shown by the launcher
        print(json.dumps(tried))
        return int(not works or device == "cpu")
    reports = [Path(word) for before, word in pairwise(words) if before == "--report"]
    return run_doctor(reports[0] if reports else None, "--json" in words, "--force" in words)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
