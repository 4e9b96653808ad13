"""Coverage-guided fuzzing of every parser with atheris (Linux only).

    python tests/corpus/fuzz.py TARGET SECONDS OUT.json

fuzzes one of fuzz_targets.TARGETS in this process. Inputs after which another error than a
UserError left the parser are written to tests/corpus/seeds/TARGET, one for each place in the code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES, MOST_MIB, SLOW_S = 65536, 4096, 30
INSTRUMENTED = ["blockskip", "tomllib", "json", "gguf", "PIL", "yaml"]


@dataclass(frozen=True)
class Fuzzed:
    """What fuzzing a target did. coverage: edges reached. problems: place in the code → error."""

    target: str
    seconds: float
    executions: int
    coverage: int
    problems: dict[str, str]


def available() -> bool:
    """Return whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(target: str, seconds: int) -> Fuzzed:
    """Fuzz a target in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="corpus-fuzz-") as name:
        out = Path(name) / "out.json"
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        names = {"PYTHONPATH": paths, "BLOCKSKIP_DATA": str(Path(name) / "data")}
        names |= {"GRADIO_TEMP_DIR": str(Path(name) / "gradio"), "HF_HUB_OFFLINE": "1"}
        process = subprocess.run(
            [sys.executable, __file__, target, str(seconds), str(out)],
            env={**os.environ, **names},
            cwd=name,
            capture_output=True,
            timeout=seconds * 3 + 300,
        )
        said = process.stderr.decode("utf-8", "replace")
        problems = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    if process.returncode != 0:  # too slow, too much memory, or a crash of a library
        problems["the whole process"] = " ".join(said.split())[-200:]
    counts = re.findall(r"#(\d+)\s.*?cov: (\d+)", said)
    executions, coverage = (int(number) for number in counts[-1]) if counts else (0, 0)
    return Fuzzed(target, seconds, executions, coverage, problems)


def _main(target: str, seconds: str, out: str) -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from corpus import fuzz_seeds, fuzz_targets
        from helpers.scratch import scratch
    parse, folder = fuzz_targets.TARGETS[target], scratch("fuzz")
    start = scratch("fuzz")
    for number, data in enumerate(fuzz_seeds.seeds(target)):
        (start / f"{number:03d}").write_bytes(data)
    problems: dict[str, str] = {}

    def once(data: bytes) -> None:
        try:
            parse(data, folder)
        except Exception as error:  # it is noted, and the search goes on
            place = _place(error)
            if place not in problems:
                problems[place] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                Path(out).write_text(json.dumps(problems), encoding="utf-8")
                seed = fuzz_seeds.SEEDS / target / hashlib.sha256(data).hexdigest()[:16]
                seed.parent.mkdir(parents=True, exist_ok=True)
                seed.write_bytes(data)

    limits = [f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", f"-timeout={SLOW_S}"]
    limits += [f"-rss_limit_mb={MOST_MIB}", "-seed=1", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={start}/", str(start)], once)
    atheris.Fuzz()


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}blockskip{os.sep}" in frame.filename]
    last = (ours or frames)[-1]
    return f"{Path(last.filename).name} {last.name} {type(error).__name__}"


def as_dict(fuzzed: Fuzzed) -> dict[str, Any]:
    """Return the result as JSON has it."""
    return asdict(fuzzed)


if __name__ == "__main__":
    _main(*sys.argv[1:])
