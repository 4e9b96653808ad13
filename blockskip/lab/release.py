"""Make the ZIP that people download: what Git tracks and .gitattributes does not leave out, with the
checksum of each file. The same commit gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from blockskip import __version__
from blockskip.core import files
from blockskip.core.errors import BadInput
from blockskip.core.paths import ROOT
from blockskip.core.update import MANIFEST

NAME = f"BlockSkip-Studio-{__version__}"


@dataclass(frozen=True)
class Release:
    """A ZIP file. size: in bytes. sha256: as hexadecimal digits, also in a file beside it."""

    path: Path
    version: str
    num_files: int
    size: int
    sha256: str


def make(out: Path) -> Release:
    """Write NAME.zip and NAME.zip.sha256 to the folder `out`.

    Raises BadInput if this is no Git checkout, something is not committed, or the changelog has no
    entry for the version.
    """
    if changed := _git("status", "--porcelain").decode():
        raise BadInput(f"These files are not committed:\n{changed}", "Commit or remove them.")
    changelog = (ROOT / "docs" / "changelog.md").read_text("utf-8")
    if f"\n## {__version__}" not in changelog:
        raise BadInput(f"docs/changelog.md has no entry “{__version__}”.", "Write one.")
    archive = _git("archive", "--format=zip", f"--prefix={NAME}/", "HEAD")
    data, num_files = _with_checksums(archive)
    path, digest = out / f"{NAME}.zip", hashlib.sha256(data).hexdigest()
    files.write_bytes(path, data)
    files.write_text(out / f"{path.name}.sha256", f"{digest}  {path.name}\n")
    return Release(path, __version__, num_files, len(data), digest)


def _with_checksums(archive: bytes) -> tuple[bytes, int]:
    """Return the archive with a list of its files' checksums, and how many they are."""
    out, lines = io.BytesIO(), []
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        members = [member for member in source.infolist() if not member.is_dir()]
        for member in members:
            data = source.read(member)
            name = member.filename.removeprefix(f"{NAME}/")
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}")
            target.writestr(_info(member.filename, member.date_time, member.external_attr), data)
        when = max(member.date_time for member in members)
        text = "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line[66:]))
        target.writestr(_info(f"{NAME}/{MANIFEST}", when, 0o644 << 16), text)
    return out.getvalue(), len(lines)


def _info(name: str, when: tuple[int, int, int, int, int, int], attributes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, when)
    info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3  # Unix, for the modes
    info.external_attr = attributes or 0o644 << 16
    return info


def _git(*words: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=ROOT,
            env={**os.environ, "TZ": "UTC"},  # of the times in the archive
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode("utf-8", "replace").strip()
        raise BadInput(
            f"Git could not be asked: {said or error}", "A release is made in a checkout."
        ) from error
    return done.stdout
