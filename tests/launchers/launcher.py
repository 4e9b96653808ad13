"""One of both launchers, on a computer that only pretends."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

from helpers import launching
from helpers.launching import FOLDER, shell_place, windows_place


class Launcher:
    """A launcher in a new folder. windows: wine and its pretended programs, None for launch.sh.
    thorough: kill it at each step, not at some."""

    def __init__(
        self, tmp: Path, windows: SimpleNamespace | None = None, thorough: bool = False
    ) -> None:
        self.tmp, self.windows, self.thorough = tmp, windows, thorough
        self.is_bat = windows is not None
        self._folders = 0
        self.renew()

    def renew(self, folder: str = FOLDER) -> None:
        """Begin with a fresh computer."""
        self._folders += 1
        tmp = self.tmp / str(self._folders)
        tmp.mkdir()
        self.place = (
            windows_place(self.windows, tmp, folder) if self.is_bat else shell_place(tmp, folder)
        )
        self.home, self.bin = self.place.home, self.place.bin

    def start(self, *words: str, **settings: str) -> subprocess.CompletedProcess:
        if self.is_bat:
            return self.place.start(*words, **settings)
        return launching.launch(self.place, *words, **settings)

    def fails(self, text: str, *words: str, **settings: str) -> str:
        """Start it; it must end with 1, never the program, and say a text. Returns its last words."""
        done = self.start(*words, **settings)
        assert done.returncode == 1, done.said
        assert text in done.said, done.said
        assert not any(is_program(call) for call in done.calls)
        return self.last_words(done.said)

    def works(self, *words: str, code: int = 0, **settings: str) -> subprocess.CompletedProcess:
        """Start it; the program must run."""
        done = self.start(*words, **settings)
        assert done.returncode == code, (done.returncode, done.calls, done.said)
        assert is_program(done.calls[-1]), done.calls
        return done

    def last_words(self, said: str) -> str:
        """Return the sentences of the launcher itself that end what was said."""
        start = "could not start." if self.is_bat else "BlockSkip Studio: "
        own = said.rpartition(start)[2] if start in said else said.strip().splitlines()[-1]
        return " ".join(own.replace(str(self.home), "FOLDER").split())

    def rename_python(self, name: str) -> None:
        old = self.bin / ("python.exe" if self.is_bat else "python3")
        old.rename(self.bin / (f"{name}.exe" if self.is_bat else name))

    def mark(self) -> None:
        """Mark the environment, to know it again."""
        (self.home / ".venv" / "mark").write_text("old")

    def environments(self) -> dict[str, bool]:
        """Return the environments there, and whether each is the marked one."""
        folders = sorted(path for path in self.home.glob(".venv*") if path.is_dir())
        return {path.name: (path / "mark").exists() for path in folders}


def is_program(call: str) -> bool:
    return "-m blockskip" in call or "-m|blockskip|" in call


def installs(done: subprocess.CompletedProcess) -> bool:
    return any("install" in call for call in done.calls)
