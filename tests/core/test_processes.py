"""A lock belongs to one holder and ends with it, however that ends."""

import subprocess
import sys

from blockskip.core import processes

HOLD = (
    "import sys; from pathlib import Path; from blockskip.core.processes import locked\n"
    "with locked(Path(sys.argv[1])) as ours: print(ours, flush=True); sys.stdin.read()"
)


def test_a_lock_is_held_once_and_its_file_stays_empty(tmp_path):
    path = tmp_path / "made on the way" / "lock"
    for _ in range(2):
        with processes.locked(path) as first:
            with processes.locked(path) as second:
                assert (first, second) == (True, False)
            with processes.locked(path) as third:
                assert not third, "who did not hold it does not give it back"
        assert path.read_bytes() == b""


def test_a_killed_holder_frees_its_lock(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    with holder:
        assert holder.stdout.readline() == "True\n"
        with processes.locked(path) as ours:
            assert not ours
        holder.kill()
        holder.wait()
    with processes.locked(path) as ours:
        assert ours


def test_an_error_inside_frees_the_lock_and_is_not_swallowed(tmp_path):
    try:
        with processes.locked(tmp_path / "lock"):
            raise TimeoutError("of the work")
    except TimeoutError as error:
        assert str(error) == "of the work"
    with processes.locked(tmp_path / "lock") as ours:
        assert ours
