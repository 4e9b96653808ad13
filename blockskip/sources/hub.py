"""Models from the hub: gated ones with a token, the disk checked first, interrupted downloads
resumed, offline ever after.

huggingface_hub 2.4 throws a half-downloaded file away when its process ends; for files of 10 GB we
keep it (`<file>.part`, with the version of the file it belongs to) and ask for the rest of it.
Tokens are huggingface_hub's own affair ($HF_TOKEN, or one that another program of the hub's keeps):
we neither keep nor print them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blockskip import files, runs
from blockskip.config import ModelRow
from blockskip.events import UserError, command

# the parts, not the same weights a second time in the original layout beside them
WANTED = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]
SPARE = 2 << 30  # bytes a disk keeps free for the system


@dataclass(frozen=True)
class Remote:
    """A file of a repository. size: bytes. version: changes with the content. sha256: of the
    content, "" where the hub does not tell (small texts)."""

    name: str
    size: int
    version: str
    sha256: str


def page(row: ModelRow) -> str:
    """Where people read about a model and accept its licence."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{row.source}"


def folder_of(row: ModelRow) -> Path:
    """Where `fetch` puts a model: on the drive of the data folder, never elsewhere unasked."""
    return runs.data_dir() / "models" / row.name


def downloaded(row: ModelRow) -> Path | None:
    """The whole model, if `fetch` or another program of the hub's brought it; asks no network.

    Raises UserError for a download of ours that was not finished, or was of another model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = folder_of(row)
    noted = _noted(folder)
    if noted.get("whole"):
        return folder
    try:
        shared = Path(snapshot_download(row.source, local_files_only=True, allow_patterns=WANTED))
        if _whole(row, shared):
            return shared
    except (LocalEntryNotFoundError, ValueError):
        pass
    if problem := noted.get("problem"):
        raise UserError(problem, f"If its repository is right by now: {_again(row)}")
    if folder.exists():
        raise UserError(
            f"The download of {row.title} is not finished.",
            f"Go on where it stopped: {_again(row)}",
        )
    return None


def fetch(row: ModelRow, check: Callable[[Path], object]) -> Path:
    """Bring a model, or the rest of it; returns its folder.

    check: looks at the folder when all has come, and raises UserError for what is not the model:
    only what passes is remembered as whole. Raises UserError also when the licence is not accepted,
    the disk too small, or the connection missing or lost.
    """
    import httpx2

    folder = folder_of(row)
    try:
        commit, wanted = _listing(row)
        _knock(row, commit, wanted)
        here = _noted(folder).get("files", {})
        missing = [remote for remote in wanted if not _here(folder, remote, here)]
        _check_disk(row, folder, missing)
        for remote in missing:
            _bring(row, commit, remote, folder)
            here[remote.name] = remote.version
            _note(folder, row, commit, here)
    except (httpx2.HTTPError, OSError) as error:
        raise _explained(row, folder, error) from error
    try:
        check(folder)
    except UserError as error:
        _note(folder, row, commit, here, problem=error.title)
        raise
    _note(folder, row, commit, here, whole=True)
    return folder


def _again(row: ModelRow) -> str:
    return command(f"models fetch {row.name}")


def _explained(row: ModelRow, folder: Path, error: Exception) -> UserError:
    """What the hub's, the network's or the disk's error means for people."""
    import httpx2
    from huggingface_hub import errors

    again = _again(row)
    if isinstance(error, errors.GatedRepoError):
        return _locked(row)
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(
            f"The hub does not know {row.source}, or does not let you see it.",
            "If you have a token, it may be wrong or too old: set the environment variable HF_TOKEN "
            "to a new one.",
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return UserError(
            f"{row.title} cannot be downloaded: offline mode is on.", "Unset HF_HUB_OFFLINE."
        )
    if isinstance(error, errors.HfHubHTTPError):
        said = error.response.status_code
        return UserError(f"The hub answered with an error ({said}).", f"Try again later: {again}")
    if isinstance(error, httpx2.ConnectError):
        return UserError(
            f"The hub ({page(row)}) cannot be reached.",
            f"Check the connection; what is here already is kept: {again}",
        )
    network = isinstance(error, ConnectionError) or getattr(error, "errno", None) is None
    if not network:
        return files.disk_error(folder, error)
    return UserError(
        f"The download of {row.title} was interrupted ({type(error).__name__}).",
        f"It goes on where it stopped: {again}",
    )


def _listing(row: ModelRow) -> tuple[str, list[Remote]]:
    """(commit, files we want, the small ones first)."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    info = HfApi().model_info(row.source, files_metadata=True)
    found = filter_repo_objects(
        info.siblings or [], allow_patterns=WANTED, key=lambda sibling: sibling.rfilename
    )
    wanted = []
    for file in found:
        if ".." in file.rfilename or "\\" in file.rfilename:
            continue  # a name that would leave our folder
        digest = file.lfs.sha256 if file.lfs else ""
        wanted.append(Remote(file.rfilename, file.size or 0, digest or file.blob_id or "", digest))
    if not wanted:
        raise UserError(f"{row.source} holds no model in diffusers' layout.", "Choose another.")
    return info.sha, sorted(wanted, key=lambda remote: (remote.size, remote.name))


def _here(folder: Path, remote: Remote, noted: dict[str, str]) -> bool:
    path = folder / remote.name
    same = noted.get(remote.name) == remote.version
    return same and path.exists() and path.stat().st_size == remote.size


def _knock(row: ModelRow, commit: str, wanted: list[Remote]) -> None:
    """Ask for one weight file's head: a gated model says here whether it lets us in."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    get_hf_file_metadata(hf_hub_url(row.source, wanted[-1].name, revision=commit))


def _check_disk(row: ModelRow, folder: Path, wanted: list[Remote]) -> None:
    """Raises UserError, before anything is downloaded, when it would not fit."""
    parts = [_part(folder, remote) for remote in wanted]
    have = sum(path.stat().st_size for path in parts if path.exists())
    missing, free = sum(remote.size for remote in wanted) - have, files.free_bytes(folder)
    if missing > 0 and missing + SPARE > free:
        raise UserError(
            f"{row.title} needs {missing / 2**30:.1f} GiB, and the drive of {folder} has "
            f"{free / 2**30:.1f} GiB free ({SPARE / 2**30:.0f} GiB of them are left alone).",
            "Free some space, or keep models and runs on another drive: set the environment variable "
            "BLOCKSKIP_DATA to a folder there.",
        )


def _bring(row: ModelRow, commit: str, remote: Remote, folder: Path) -> None:
    """One file: under its own name only when it is whole and its digest is right."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    target, part = folder / remote.name, _part(folder, remote)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file:
        http_get(
            hf_hub_url(row.source, remote.name, revision=commit),
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=remote.size,
            displayed_filename=remote.name,
        )
    if remote.sha256:
        with open(part, "rb") as file:
            right = hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
        if not right:
            part.unlink()
            raise UserError(
                f"{remote.name} arrived damaged and was thrown away.",
                f"Fetch it again: {_again(row)}",
            )
    files.replace(part, target)


def _part(folder: Path, remote: Remote) -> Path:
    """The unfinished file, named after its content, so that halves of two versions never meet."""
    return folder / f"{remote.name}.{remote.version[:12]}.part"


def _noted(folder: Path) -> dict:
    """What `fetch` brought so far: {repository, commit, files: name → version, whole, problem}."""
    try:
        said = files.read_json(folder / "fetched.json")
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _note(
    folder: Path, row: ModelRow, commit: str, here: dict, whole: bool = False, problem: str = ""
) -> None:
    said = {"repository": row.source, "commit": commit, "whole": whole, "files": here}
    files.write_json(folder / "fetched.json", said | {"problem": problem})


def _whole(row: ModelRow, folder: Path) -> bool:
    from blockskip.sources.model import Source, layouts

    source = Source(row, folder)
    return (folder / "model_index.json").exists() and all(
        source.paths(part) for part in layouts(row.family).PARTS
    )


def _locked(row: ModelRow) -> UserError:
    from huggingface_hub import get_token

    accept = f"accept its licence ({row.licence}) at {page(row)}"
    if get_token():
        return UserError(
            f"{row.title} is gated, and your account is not let in yet.",
            f"With the account of your token, {accept}; then fetch again.",
        )
    return UserError(
        f"{row.title} is gated: the hub wants to know who you are.",
        f"Make a free account, {accept}, make a read token in your settings there, set the "
        f"environment variable HF_TOKEN to it, and in the same window: {_again(row)}",
    )
