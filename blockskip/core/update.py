"""Replace the program's files by those of another version, and go back.

A release lists its files in CHECKSUMS.txt (lab/release.py). What they replace is kept in a folder
beside them, so that an update can be undone. A file is replaced in one piece, and the list last:
broken off by a power cut, the same update or way back is just begun again. Runs, models and settings lie in
another folder and stay as they are. Does not import torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from blockskip.core import files, names
from blockskip.core.errors import BadFile, BadInput, NotFound
from blockskip.core.units import GIB

MANIFEST = "CHECKSUMS.txt"
NEW, KEPT, PREVIOUS = ".files-new", ".files-kept", ".files-previous"
MOST_BYTES = GIB  # unpacked
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def update(archive: Path, root: Path) -> tuple[str, str]:
    """Install the release in a ZIP file. root: the program's folder. Returns the versions of before
    and now.

    Raises UserError if the file is no whole release, or the folder is Git's.
    """
    before = _replaceable(root)
    if not archive.is_file():
        raise NotFound(f"There is no file {archive}.", "Name the ZIP file of a release.")
    _finish(root)
    new = root / NEW
    shutil.rmtree(new, ignore_errors=True)
    try:
        _unpack(archive, new)
        return before, _install(new, root)
    except OSError as error:
        raise files.disk_error(root, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def undo(root: Path) -> tuple[str, str]:
    """Go back to the files that the last update replaced; the same again undoes that. Returns the
    versions of before and now. Raises UserError if there are none."""
    before = _replaceable(root)
    if _finish(root):
        return _version(root / PREVIOUS), before
    if not (root / PREVIOUS / MANIFEST).exists():
        raise NotFound("There are no earlier files to go back to.", "Update to a release first.")
    new = root / NEW
    shutil.rmtree(new, ignore_errors=True)
    try:
        shutil.copytree(root / PREVIOUS, new)
        if wrong := _wrong(new, _listed(new, root / PREVIOUS)):
            raise _no_release(root / PREVIOUS, f"{wrong} is not as its makers left it")
        return before, _install(new, root)
    except OSError as error:
        raise files.disk_error(new, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _replaceable(root: Path) -> str:
    """Return the version of the program's files. Raises BadInput if they are not of a release."""
    if (root / ".git").exists() or not (root / MANIFEST).exists():
        raise BadInput(
            f"{root} is no unpacked release, so that its files are not replaced.",
            "Update it as you got it, such as by “git pull”.",
        )
    return _version(root)


def _finish(root: Path) -> bool:
    """Finish what was broken off at its very end. Return whether there was something."""
    unfinished = _digest(root / KEPT / MANIFEST) not in ("", _digest(root / MANIFEST))
    if unfinished:
        _keep_as_previous(root)
    return unfinished


def _keep_as_previous(root: Path) -> None:
    shutil.rmtree(root / PREVIOUS, ignore_errors=True)
    os.replace(root / KEPT, root / PREVIOUS)


def _unpack(archive: Path, new: Path) -> None:
    """Unpack a release. Raises BadFile if it is none, or not whole."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [member for member in zipped.infolist() if not member.is_dir()]
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise _no_release(archive, "it is too large")
            for member in members:
                inner = PurePosixPath(*PurePosixPath(member.filename).parts[1:])
                if not _is_inside(inner):
                    raise _no_release(archive, f"it has a file called “{member.filename}”")
                target = new / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
                if mode := member.external_attr >> 16 & 0o777:
                    target.chmod(mode | 0o600)
    # zipfile says NotImplementedError of a packing it does not know, RuntimeError of a password
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _no_release(archive, "it is no whole ZIP file") from error
    except OSError as error:
        raise files.disk_error(new, error) from error
    if wrong := _wrong(new, _listed(new, archive)):
        raise _no_release(archive, f"{wrong} is not as its makers left it")


def _install(new: Path, root: Path) -> str:
    """Put unpacked files in place of those of `root`, which are kept. Returns their version."""
    ours, theirs, kept = _listed(root, root), _listed(new, new), root / KEPT
    if ours == theirs:
        return _version(root)
    if not (kept / MANIFEST).exists() or _wrong(kept, ours):  # else of this update, broken off
        shutil.rmtree(kept, ignore_errors=True)
        for name in (*ours, MANIFEST):
            if (root / name).exists():
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, kept / name)
    for name in (*theirs, MANIFEST):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / name, root / name)
    for name in ours.keys() - theirs.keys():
        files.remove(root / name)
    _keep_as_previous(root)
    return _version(root)


def _listed(folder: Path, release: Path) -> dict[str, str]:
    """Return the SHA-256 of each of a release's files. Raises BadFile."""
    try:
        lines = (folder / MANIFEST).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _no_release(release, f"{MANIFEST} is missing") from error
    found = {}
    for line in lines:
        parts = _LINE.fullmatch(line)
        if parts is None or not _is_inside(PurePosixPath(parts[2])):
            raise _no_release(release, f"{MANIFEST} is damaged")
        found[parts[2]] = parts[1]
    return found


def _wrong(folder: Path, listed: Mapping[str, str]) -> str:
    """Return a file that is missing, other or too many, "" for none."""
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    if odd := there - {MANIFEST} ^ set(listed):
        return min(odd)
    return next((name for name, digest in listed.items() if _digest(folder / name) != digest), "")


def _is_inside(name: PurePosixPath) -> bool:
    return (
        bool(name.parts)
        and all(
            part not in ("..", ".git") and names.is_safe_name(part.lstrip("."))
            for part in name.parts
        )
        and not name.is_absolute()
    )


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _version(root: Path) -> str:
    try:
        return str(
            tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadFile("pyproject.toml cannot be read.", "Unpack the download again.") from error


def _no_release(path: Path, why: str) -> BadFile:
    return BadFile(
        f"{path.name} is no release of BlockSkip Studio: {why}.",
        "Download it again. Nothing changed.",
    )
