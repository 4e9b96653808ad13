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


HOLDER = (
    "import sys; from pathlib import Path; from blockskip.core import processes\n"
    "print('a greeting of sitecustomize', flush=True)\n"
    "with processes.holding(Path(sys.argv[1])) as ours:\n"
    "    print('goes to the log'); sys.stdin.read() if ours else sys.exit(3)"
)


def test_a_holder_is_known_by_its_lock_alone(tmp_path, monkeypatch):
    lock, log = tmp_path / "lock", tmp_path / "log"
    assert processes.holder(lock) is None and not processes.is_locked(lock)
    stay = HOLDER.replace("sys.stdin.read()", "__import__('time').sleep(60)")

    def start(code):
        popen = subprocess.Popen

        def run(words, **options):
            return popen([sys.executable, "-c", code, str(lock)], **options)

        with monkeypatch.context() as patch:
            patch.setattr(processes.subprocess, "Popen", run)
            return processes.start_holder("m", [], log)

    started = start(stay)
    assert processes.holder(lock).pid == started.pid and processes.is_locked(lock)
    assert start(stay) is None, "another one holds it"
    processes.kill(processes.holder(lock))
    started.wait()
    assert processes.holder(lock) is None and not processes.is_locked(lock)
    assert b"begun" not in log.read_bytes()
    assert start("import sys; sys.exit(9)").wait() == 9, "it failed before it held the lock"


def test_asking_leaves_no_file_and_no_lock(tmp_path):
    assert not processes.is_locked(tmp_path / "nothing") and list(tmp_path.iterdir()) == []
    with processes.locked(tmp_path / "lock"):
        assert processes.is_locked(tmp_path / "lock")
        assert processes.holder(tmp_path / "lock") is None, "it has not said who it is"
