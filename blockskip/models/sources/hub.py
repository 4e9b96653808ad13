"""Download models from the hub: check the disk first, resume interrupted downloads, and use the
files offline afterwards. Gated models need a token.

huggingface_hub 2.4 discards a partial file when its process ends. Because files reach 10 GB, we
keep it (`<file>.part`, with the file's version in its name) and resume it. huggingface_hub manages
tokens (models/sources/hub_token.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated

from pydantic import Field

from blockskip.core import files
from blockskip.core.errors import BadFile, DiskFull, ModelMissing, UserError
from blockskip.core.lasting_folders import make_folder
from blockskip.core.paths import data_dir
from blockskip.core.repositories import Repository, ToolRow
from blockskip.core.units import GIB
from blockskip.models.sources import hub_environment
from blockskip.models.sources.hub_api import (
    FILE_PATTERNS,
    RemoteFile,
    check_access,
    list_files,
    model_page,
    retry_command,
    to_user_error,
)
from blockskip.models.sources.hub_token import token_state, try_token

__all__ = [
    "IncompleteDownload",
    "RESERVED_BYTES",
    "downloaded",
    "fetch",
    "download_folder",
    "missing_bytes",
    "model_page",
]
__all__ += ["token_state", "try_token"]

RESERVED_BYTES = 2 << 30  # bytes left free on the disk for the system
SYNC_BYTES = (
    64 << 20
)  # of a partial file, more than a chunk: a power cut damages at most twice as many
Progress = Callable[[int, int, str], None]  # bytes present, bytes in total, current file


class IncompleteDownload(ModelMissing):
    """A download by `fetch` that was begun and can be resumed."""


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The record of a download. files: name → version of finished files. listed: (name, bytes,
    version) of all files."""

    files: dict[str, str]
    listed: list[tuple[str, Annotated[int, Field(ge=0)], str]] = field(default_factory=list)
    repository: str = ""
    commit: str = ""
    whole: bool = False
    problem: str = ""


def download_folder(row: Repository) -> Path:
    """Return the folder that `fetch` downloads a model to, always inside the data folder."""
    return data_dir() / "models" / row.name


def downloaded(row: Repository) -> Path | None:
    """Return the folder of a complete model, downloaded by `fetch` or to huggingface_hub's cache,
    else None. Uses no network.

    Raises IncompleteDownload for an unfinished download by `fetch`, BadFile if one has lost files
    or was of another model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = download_folder(row)
    manifest = _read_manifest(folder)
    missing = [r.name for r in _remote_files(manifest) if _size(folder / r.name) != r.size]
    if manifest.get("whole") and not missing:
        return folder
    try:
        cached = Path(
            snapshot_download(
                row.source, local_files_only=True, allow_patterns=list(row.files) or FILE_PATTERNS
            )
        )
        if _is_complete(row, cached):
            return cached
    except (LocalEntryNotFoundError, ValueError):
        pass
    if problem := manifest.get("problem"):
        raise BadFile(problem, f"If its repository is right by now: {retry_command(row)}")
    if manifest.get("whole"):
        raise BadFile(
            f"{folder / missing[0]}, of {row.title}, is missing or cut short.",
            f"Fetch it again: {retry_command(row)}",
        )
    if folder.exists():
        raise IncompleteDownload(
            f"The download of {row.title} is not finished.",
            f"Go on where it stopped: {retry_command(row)}",
        )
    return None


def fetch(
    row: Repository, check: Callable[[Path], object], progress: Progress = lambda *_: None
) -> Path:
    """Download a model's missing files. Return its folder.

    check: validates the complete folder and raises UserError if it holds another model; only then
    is the download recorded as whole. progress: called after every chunk. Raises UserError also if
    the licence is not accepted, the disk is too small or the connection fails. Only one process at
    a time may call this, which download_process.py ensures.
    """
    import httpx2

    folder = download_folder(row)
    hub_environment.check()
    try:
        manifest = _download_all(row, folder, progress)
    except (httpx2.HTTPError, OSError) as error:
        raise to_user_error(row, folder, error) from error
    try:
        check(folder)
    except UserError as error:
        _write_manifest(folder, manifest | {"problem": error.title})
        raise
    _write_manifest(folder, manifest | {"whole": True})
    return folder


def missing_bytes(row: Repository) -> int | None:
    """Return the bytes that `fetch` has still to download, None before the first list of files."""
    folder = download_folder(row)
    manifest = _read_manifest(folder)
    missing = [
        r for r in _remote_files(manifest) if not _is_downloaded(folder, r, manifest["files"])
    ]
    return _remaining_bytes(folder, missing) if _remote_files(manifest) else None


def _download_all(row: Repository, folder: Path, progress: Progress) -> dict:
    """Download all missing files. Return the manifest, with the model still unchecked."""
    commit, wanted = list_files(row)
    check_access(row, commit, wanted)
    versions = _read_manifest(folder).get("files", {})
    missing = [remote for remote in wanted if not _is_downloaded(folder, remote, versions)]
    _remove_stale_parts(folder, missing)
    _check_disk(row, folder, missing)
    manifest = {"repository": row.source, "commit": commit, "whole": False, "problem": ""}
    manifest |= {"files": versions, "listed": [[r.name, r.size, r.version] for r in wanted]}
    total = sum(remote.size for remote in wanted)
    done = total - sum(remote.size for remote in missing)

    def report(file_bytes: int, label: str) -> None:
        progress(done + file_bytes, total, label)

    report(0, "")
    for remote in missing:
        _write_manifest(folder, manifest)
        _download_file(row, commit, remote, folder, report)
        versions[remote.name] = remote.version
        done += remote.size
    return manifest


def _is_downloaded(folder: Path, remote: RemoteFile, versions: dict[str, str]) -> bool:
    return (
        versions.get(remote.name) == remote.version and _size(folder / remote.name) == remote.size
    )


def _size(path: Path) -> int:
    """Return a file's size in bytes, -1 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _remaining_bytes(folder: Path, missing: list[RemoteFile]) -> int:
    """Return the bytes of these files that are not on disk yet."""
    return sum(r.size - max(0, _size(_part_file(folder, r))) for r in missing)


def _remove_stale_parts(folder: Path, missing: list[RemoteFile]) -> None:
    """Delete useless partial files: of other versions, or longer than the complete file."""
    useful = {_part_file(folder, r) for r in missing if _size(_part_file(folder, r)) <= r.size}
    for path in [*folder.rglob("*.part"), *folder.rglob("*.tmp")]:
        if path not in useful:
            path.unlink()


def _check_disk(row: Repository, folder: Path, wanted: list[RemoteFile]) -> None:
    """Raise UserError if the missing files do not fit on the disk."""
    missing, free = _remaining_bytes(folder, wanted), files.free_bytes(folder)
    if missing > 0 and missing + RESERVED_BYTES > free:
        raise DiskFull(
            f"{row.title} needs {missing / GIB:.1f} GiB, and the drive of {folder} has "
            f"{free / GIB:.1f} GiB free ({RESERVED_BYTES / GIB:.0f} GiB of them are left alone).",
            "Free some space, or keep models and runs on another drive: choose it in the studio, "
            "or set the environment variable BLOCKSKIP_DATA to a folder there.",
        )


def _download_file(
    row: Repository,
    commit: str,
    remote: RemoteFile,
    folder: Path,
    report: Callable[[int, str], None],
) -> None:
    """Download one file. It gets its final name only once it is complete, its digest matches and it
    is on the disk."""
    target, part = folder / remote.name, _part_file(folder, remote)
    make_folder(target.parent)
    if remote.sha256 and _size(target) == remote.size and _sha256(target) == remote.sha256:
        return  # the process was killed before it recorded the file
    begun = max(0, _size(part))
    _download_part(row, commit, remote, part, report)
    if not _is_right(part, remote, report) and begun:  # by a power cut, perhaps
        os.truncate(part, max(0, begun // SYNC_BYTES - 1) * SYNC_BYTES)
        _download_part(row, commit, remote, part, report)
    if not _is_right(part, remote, report):
        part.unlink()
        raise BadFile(
            f"{remote.name} arrived damaged and was thrown away.",
            f"Fetch it again: {retry_command(row)}",
        )
    files.replace(part, target)


def _is_right(part: Path, remote: RemoteFile, report: Callable[[int, str], None]) -> bool:
    """Return whether a complete file has its digest, if it is known."""
    if not remote.sha256:
        return True
    report(remote.size, f"checking {remote.name}")
    return _sha256(part) == remote.sha256


def _download_part(
    row: Repository,
    commit: str,
    remote: RemoteFile,
    part: Path,
    report: Callable[[int, str], None],
) -> None:
    """Download what a partial file lacks, and return once it is on the disk."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # without a digest (small texts) a resumed file could not be checked, so it starts anew
    with open(part, "ab" if remote.sha256 else "wb") as file:
        http_get(
            hf_hub_url(row.source, remote.name, revision=commit),
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=remote.size,
            displayed_filename=remote.name,
            # http_get is typed for a class, but only calls it
            tqdm_class=lambda initial, **_: _ProgressBar(  # type: ignore[arg-type]
                file, initial, lambda n: report(n, remote.name)
            ),
        )
        file.flush()
        os.fsync(file.fileno())


class _ProgressBar:
    """The subset of a progress bar that http_get uses. It syncs the file at every SYNC_BYTES."""

    def __init__(self, file: IO[bytes], num_bytes: int, report: Callable[[int], None]) -> None:
        self.file, self.num_bytes, self.report = file, num_bytes, report
        report(num_bytes)

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int) -> None:
        before, self.num_bytes = self.num_bytes, self.num_bytes + n
        if before // SYNC_BYTES < self.num_bytes // SYNC_BYTES:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.report(self.num_bytes)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part_file(folder: Path, remote: RemoteFile) -> Path:
    """Return the path of a partial file, with the version in its name to keep versions apart."""
    return folder / f"{remote.name}.{remote.version[:12]}.part"


def _read_manifest(folder: Path) -> dict:
    """Return the fields of `_Manifest`, {} without a valid one."""
    try:
        return asdict(files.read_json(folder / "fetched.json", _Manifest))
    except (OSError, ValueError):
        return {}


def _remote_files(manifest: dict) -> list[RemoteFile]:
    return [
        RemoteFile(name, int(size), version, "")
        for name, size, version in manifest.get("listed", [])
    ]


def _write_manifest(folder: Path, manifest: dict) -> None:
    files.write_json(folder / "fetched.json", manifest)


def _is_complete(row: Repository, folder: Path) -> bool:
    from blockskip.models.sources.layouts import index_file
    from blockskip.models.sources.source import Source

    if isinstance(row, ToolRow) or row.files:  # an index is there only for several files
        needed = (name for name in row.files if not name.endswith(".index.json"))
        return all(any(folder.glob(name)) for name in needed)
    source = Source(row, folder)
    return index_file(folder) is not None and all(map(source.paths, row.parts))
