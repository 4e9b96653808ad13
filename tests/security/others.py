"""Other users of this computer: what they can read, and what a key that they have seen is worth."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from corpus.cases import Case, demand, numbered, replaced
from corpus.house import opened
from helpers.fake_feed import feed, keep, make_photos, make_run
from security.watched_studio import LET_THROUGH

from blockskip.core import files, paths
from blockskip.models.captioners import jobs
from blockskip.runs.run import create_run
from blockskip.studio import access, draft, new_run, peer

# in a data folder that its user has opened to others, these may be read: nobody's photo, name or word
OPEN = ("place.json", "speed.json", "fingerprints.json", "start.lock", "studio.lock", "models")
IS_ROOT = os.name != "nt" and os.geteuid() == 0 and shutil.which("runuser") is not None


def cases(seed: int) -> list[Case]:
    """Return what others try."""
    found = [*numbered("mode", "files that other users may open", _modes())]
    if IS_ROOT:
        found += numbered("nobody", "files read by the user nobody", _as_nobody())
    if Path("/proc/net/tcp").exists():
        found += numbered("peer", "the key in another user's hands", _peers())
    return found


def _made(folder: Path) -> Path:
    """Return a data folder that all may enter, with one of everything that is private."""
    data = folder / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    folder.chmod(0o755)
    with opened(data):
        paths.make_data_dir()
        photos = make_photos(folder / "photos", 2, 48)
        run = make_run(photos, 12, "luna")
        feed(run, 12)
        keep(run, 6, 12)
        create_run(run.settings(), photos, str(folder / "elsewhere"))
        draft.add(photos)
        new_run.from_uploads(run.settings(), [str(path) for path in photos])
        secrets = access.create(data)
        files.write_private(data / "studio.json", secrets.key)
        files.write_json(jobs.folder() / "job.json", {"photos": ["luna.png"]})
    return folder


def _private(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder).parts
        if below[0] in ("elsewhere", "data") and path.is_file() and below[-1] not in OPEN:
            yield path


def _modes() -> Iterator[tuple[Callable, Callable]]:
    def check(folder: Path) -> None:
        private = list(_private(folder))
        demand(len(private) > 20, f"only {len(private)} files were made")
        for path in private:
            above = [path, *(p for p in path.parents if p.is_relative_to(folder) and p != folder)]
            closed = any(not stat.S_IMODE(place.stat().st_mode) & 0o077 for place in above)
            demand(closed, f"{path.relative_to(folder)} may be read by others", LET_THROUGH)

    if os.name != "nt":
        yield _made, check
        yield _temporary, check


def _temporary(folder: Path) -> Path:
    """Return a data folder in the middle of work that puts photos aside for a moment."""
    made = _made(folder)
    with opened(made / "data"), files.temporary_folder(made / "data" / "uploads-1") as work:
        (work / "photo.png").write_bytes(b"x")
        shutil.copytree(work, made / "data" / "uploads-kept")
        (made / "data" / "uploads-kept").chmod(stat.S_IMODE(work.stat().st_mode))
    return made


def _as_nobody() -> Iterator[tuple[Callable, Callable]]:
    tries: tuple[tuple[str, ...], ...] = (
        ("find", ".", "-name", "*.png", "-readable"),
        ("find", ".", "-name", "*.txt", "-readable"),
        ("find", ".", "-name", "*.safetensors", "-readable"),
        ("find", ".", "-name", "run.toml", "-readable"),
        ("find", ".", "-name", "draft.json", "-readable"),
        ("find", ".", "-writable", "-not", "-type", "l"),
        ("cat", "data/studio.json"),
        ("cat", "data/studio.secret"),
        ("ls", "data/runs"),
        ("ls", "data/draft"),
        ("ls", "data/describe"),
        ("ls", "elsewhere"),
        ("touch", "data/runs/evil"),
        ("touch", "data/evil"),
        ("ln", "-s", "/etc/passwd", "data/draft/photos/evil.png"),
    )
    for words in tries:

        def check(folder: Path, words: tuple[str, ...] = words) -> None:
            shutil.rmtree(folder / "photos")  # the user's own, wherever they lie
            as_nobody = ["runuser", "-u", "nobody", "--", *words]
            done = subprocess.run(as_nobody, cwd=folder, capture_output=True, text=True)
            demand(not done.stdout.strip(), f"{words} tells {done.stdout[:80]!r}", LET_THROUGH)
            refused = done.returncode != 0 or words[0] == "find"
            demand(refused, f"{' '.join(words)} works", LET_THROUGH)

        yield _made, check


def _peers() -> Iterator[tuple[Callable, Callable]]:
    yield lambda folder: folder, _own_connection
    yield lambda folder: folder, _ended_connection
    if IS_ROOT and shutil.which("bash"):
        yield lambda folder: folder, _nobodys_connection


def _connected(check: Callable[[socket.socket, tuple, tuple], None], family: int) -> None:
    with socket.socket(family) as server:
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()[:2]) as client:
            accepted, _ = server.accept()
            with accepted:
                check(client, accepted.getpeername()[:2], accepted.getsockname()[:2])


def _own_connection(folder: Path) -> None:
    def check(client: socket.socket, theirs: tuple, ours: tuple) -> None:
        demand(peer.owner(theirs, ours) == os.geteuid(), "our own connection is not known as ours")

    _connected(check, socket.AF_INET)
    if socket.has_ipv6:
        _connected(check, socket.AF_INET6)


def _ended_connection(folder: Path) -> None:
    """One that asks and is gone: the kernel would call it the administrator's."""

    def check(client: socket.socket, theirs: tuple, ours: tuple) -> None:
        client.close()
        demand(peer.owner(theirs, ours) is None, "a closed connection has an owner", LET_THROUGH)

    _connected(check, socket.AF_INET)


def _nobodys_connection(folder: Path) -> None:
    import pwd

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        words = [
            "runuser",
            "-u",
            "nobody",
            "--",
            "bash",
            "-c",
            f"exec 3<>/dev/tcp/127.0.0.1/{port}; read -u 3",
        ]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
            accepted, _ = server.accept()
            with accepted:
                scope = {"client": accepted.getpeername(), "server": accepted.getsockname()}
                owner = peer.owner(scope["client"], scope["server"])
                told = (peer, "_is_told", lambda: True), (os, "geteuid", lambda: 12345)
                with replaced(*told):
                    stranger = peer.is_other_user(scope)
            process.wait(10)
    demand(owner == pwd.getpwnam("nobody").pw_uid, f"nobody's connection is {owner}'s", LET_THROUGH)
    demand(stranger, "nobody is taken for the user", LET_THROUGH)
