"""Models from the hub: gated ones with a token, the disk checked first, interrupted downloads
resumed, offline ever after.

huggingface_hub 2.4 throws a half-downloaded file away when its process ends; for files of 10 GB we
keep it (`<file>.part`, with the version of the file it belongs to) and ask for the rest of it.
Tokens are huggingface_hub's own affair (models/sources/hub_token.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, DiskFull, ModelMissing, UserError
from blockskip.core.paths import data_dir
from blockskip.core.presets import ModelRow
from blockskip.core.units import GIB
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

RESERVED_BYTES = 2 << 30  # bytes a disk keeps free for the system
Progress = Callable[[int, int, str], None]  # bytes here, bytes in all, the file it is at


class IncompleteDownload(ModelMissing):
    """A download of ours that was begun and is to go on."""


def download_folder(row: ModelRow) -> Path:
    """Where `fetch` puts a model: on the drive of the data folder, never elsewhere unasked."""
    return data_dir() / "models" / row.name


def downloaded(row: ModelRow) -> Path | None:
    """The whole model, if `fetch` or another program of the hub's brought it; asks no network.

    Raises IncompleteDownload for a download of ours that was not finished, BadFile for one of which
    files are gone, or that was of another model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = download_folder(row)
    noted = _read_manifest(folder)
    lacking = [r.name for r in _remote_files(noted) if _size(folder / r.name) != r.size]
    if noted.get("whole") and not lacking:
        return folder
    try:
        shared = Path(
            snapshot_download(row.source, local_files_only=True, allow_patterns=FILE_PATTERNS)
        )
        if _is_complete(row, shared):
            return shared
    except (LocalEntryNotFoundError, ValueError):
        pass
    if problem := noted.get("problem"):
        raise BadFile(problem, f"If its repository is right by now: {retry_command(row)}")
    if noted.get("whole"):
        raise BadFile(
            f"{folder / lacking[0]}, of {row.title}, is missing or cut short.",
            f"Fetch it again: {retry_command(row)}",
        )
    if folder.exists():
        raise IncompleteDownload(
            f"The download of {row.title} is not finished.",
            f"Go on where it stopped: {retry_command(row)}",
        )
    return None


def fetch(
    row: ModelRow, check: Callable[[Path], object], progress: Progress = lambda *_: None
) -> Path:
    """Bring a model, or the rest of it; returns its folder.

    check: looks at the folder when all has come, and raises UserError for what is not the model:
    only what passes is remembered as whole. progress: told with every piece that came. Raises
    UserError also when the licence is not accepted, the disk too small, or the connection missing
    or lost. One process at a time may do this: blockskip/models/sources/download_process.py sees to it.
    """
    import httpx2

    folder = download_folder(row)
    try:
        note = _download_all(row, folder, progress)
    except (httpx2.HTTPError, OSError) as error:
        raise to_user_error(row, folder, error) from error
    try:
        check(folder)
    except UserError as error:
        _write_manifest(folder, note | {"problem": error.title})
        raise
    _write_manifest(folder, note | {"whole": True})
    return folder


def missing_bytes(row: ModelRow) -> int | None:
    """What `fetch` has still to bring; None when the hub was never asked for its list of files."""
    folder = download_folder(row)
    noted = _read_manifest(folder)
    missing = [r for r in _remote_files(noted) if not _is_downloaded(folder, r, noted["files"])]
    return _remaining_bytes(folder, missing) if _remote_files(noted) else None


def _download_all(row: ModelRow, folder: Path, progress: Progress) -> dict:
    """Returns what `fetched.json` is to say, but for whether it is the right model."""
    commit, wanted = list_files(row)
    check_access(row, commit, wanted)
    here = _read_manifest(folder).get("files", {})
    missing = [remote for remote in wanted if not _is_downloaded(folder, remote, here)]
    _remove_stale_parts(folder, missing)
    _check_disk(row, folder, missing)
    note = {"repository": row.source, "commit": commit, "whole": False, "problem": ""}
    note |= {"files": here, "listed": [[r.name, r.size, r.version] for r in wanted]}
    total = sum(remote.size for remote in wanted)
    done = total - sum(remote.size for remote in missing)

    def tell(here: int, what: str) -> None:
        progress(done + here, total, what)

    tell(0, "")
    for remote in missing:
        _write_manifest(folder, note)
        _download_file(row, commit, remote, folder, tell)
        here[remote.name] = remote.version
        done += remote.size
    return note


def _is_downloaded(folder: Path, remote: RemoteFile, noted: dict[str, str]) -> bool:
    return noted.get(remote.name) == remote.version and _size(folder / remote.name) == remote.size


def _size(path: Path) -> int:
    """In bytes, -1 where there is no file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _remaining_bytes(folder: Path, missing: list[RemoteFile]) -> int:
    """Bytes of these files that have not come yet."""
    return sum(r.size - max(0, _size(_part_file(folder, r))) for r in missing)


def _remove_stale_parts(folder: Path, missing: list[RemoteFile]) -> None:
    """Halves that nothing will be made of: of other versions, or longer than the file."""
    useful = {_part_file(folder, r) for r in missing if _size(_part_file(folder, r)) <= r.size}
    for path in [*folder.rglob("*.part"), *folder.rglob("*.tmp")]:
        if path not in useful:
            path.unlink()


def _check_disk(row: ModelRow, folder: Path, wanted: list[RemoteFile]) -> None:
    """Raises UserError, before anything is downloaded, when it would not fit."""
    missing, free = _remaining_bytes(folder, wanted), files.free_bytes(folder)
    if missing > 0 and missing + RESERVED_BYTES > free:
        raise DiskFull(
            f"{row.title} needs {missing / GIB:.1f} GiB, and the drive of {folder} has "
            f"{free / GIB:.1f} GiB free ({RESERVED_BYTES / GIB:.0f} GiB of them are left alone).",
            "Free some space, or keep models and runs on another drive: choose it in the studio, or set "
            "the environment variable BLOCKSKIP_DATA to a folder there.",
        )


def _download_file(
    row: ModelRow, commit: str, remote: RemoteFile, folder: Path, tell: Callable[[int, str], None]
) -> None:
    """One file: under its own name only when it is whole and its digest is right."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    target, part = folder / remote.name, _part_file(folder, remote)
    target.parent.mkdir(parents=True, exist_ok=True)
    if remote.sha256 and _size(target) == remote.size and _sha256(target) == remote.sha256:
        return  # came, but the process was ended before that was noted
    # a small text, whose digest nobody tells, is never put together from two halves
    with open(part, "ab" if remote.sha256 else "wb") as file:
        http_get(
            hf_hub_url(row.source, remote.name, revision=commit),
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=remote.size,
            displayed_filename=remote.name,
            # a class, says the library, and only calls it
            tqdm_class=lambda initial, **_: _ProgressBar(initial, lambda n: tell(n, remote.name)),  # type: ignore[arg-type]
        )
    if remote.sha256:
        tell(remote.size, f"checking {remote.name}")
        if _sha256(part) != remote.sha256:
            part.unlink()
            raise BadFile(
                f"{remote.name} arrived damaged and was thrown away.",
                f"Fetch it again: {retry_command(row)}",
            )
    files.replace(part, target)


class _ProgressBar:
    """As much of a progress bar as http_get uses."""

    def __init__(self, here: int, tell: Callable[[int], None]) -> None:
        self.here, self.tell = here, tell
        tell(here)

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int) -> None:
        self.here += n
        self.tell(self.here)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part_file(folder: Path, remote: RemoteFile) -> Path:
    """The unfinished file, named after its content, so that halves of two versions never meet."""
    return folder / f"{remote.name}.{remote.version[:12]}.part"


def _read_manifest(folder: Path) -> dict:
    """What `fetch` brought so far: {repository, commit, files: name → version, listed: [name,
    bytes, version] of every file there is, whole, problem}."""
    try:
        said = files.read_json(folder / "fetched.json")
        _remote_files(said), said["files"].get("")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return said


def _remote_files(noted: dict) -> list[RemoteFile]:
    return [
        RemoteFile(name, int(size), version, "") for name, size, version in noted.get("listed", [])
    ]


def _write_manifest(folder: Path, note: dict) -> None:
    files.write_json(folder / "fetched.json", note)


def _is_complete(row: ModelRow, folder: Path) -> bool:
    from blockskip.models.sources.layouts import layout_of
    from blockskip.models.sources.source import Source

    source = Source(row, folder)
    return (folder / "model_index.json").exists() and all(
        source.paths(part) for part in layout_of(row).PARTS
    )
