"""Query the hub about a model: list its files, check access and explain errors. No downloads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, ModelMissing, Unreachable, UserError, command
from blockskip.core.names import is_safe_name
from blockskip.core.repositories import Repository

# configs, vocabularies, chat templates
TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja")
# the parts' weights, single or sharded, without the copies that many repositories add: in the
# original layout, as single files, or as fp16
_WEIGHTS = [
    f"*/{name}{shard}.safetensors"
    for name in ("diffusion_pytorch_model", "model")
    for shard in ("", "-?????-of-?????")
]
_INDEXES = ("model_index.json", "modular_model_index.json")
FILE_PATTERNS = [*_INDEXES, *(f"*/*{ending}" for ending in TEXT_SUFFIXES), *_WEIGHTS]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. size: bytes. version: changes with the content. sha256: of the
    content, "" for small texts, which the hub lists without one."""

    name: str
    size: int
    version: str
    sha256: str


def model_page(row: Repository) -> str:
    """Return the URL of a model's page, where users accept its licence."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{row.source}"


def list_files(row: Repository, token: str | None = None) -> tuple[str, list[RemoteFile]]:
    """Return (commit, needed files by ascending size). token: overrides the saved one. Raises
    BadFile if the repository is not in diffusers' layout."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    info = HfApi(token=token).model_info(row.source, files_metadata=True)
    patterns = list(row.files) or FILE_PATTERNS
    siblings = filter_repo_objects(
        info.siblings or [], allow_patterns=patterns, key=lambda sibling: sibling.rfilename
    )
    wanted = []
    for file in siblings:
        if not all(map(is_safe_name, file.rfilename.split("/"))):
            continue  # it could leave the download folder, or be a device or a stream on Windows
        if not is_needed(row, file.rfilename):
            continue
        digest = file.lfs.sha256 if file.lfs else ""
        wanted.append(
            RemoteFile(file.rfilename, file.size or 0, digest or file.blob_id or "", digest)
        )
    if not wanted:
        what = row.files[0] if row.files else "model in diffusers' layout"
        raise BadFile(f"{row.source} holds no {what}.", "Choose another.")
    return info.sha or "main", sorted(wanted, key=lambda remote: (remote.size, remote.name))


def is_needed(row: Repository, name: str) -> bool:
    """Return whether a file of FILE_PATTERNS is used: not the weights of a part that the row has
    not, such as a program that improves prompts, or what a sibling shares with its model."""
    weights = name.endswith(".safetensors") and row.parts and not row.files
    return not weights or name.split("/")[0] in row.parts


def check_access(
    row: Repository, commit: str, wanted: list[RemoteFile], token: str | None = None
) -> None:
    """Request the metadata of one weight file, which raises GatedRepoError without access."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(row.source, wanted[-1].name, revision=commit)
    get_hf_file_metadata(url, token=token)


JOIN_PAGE = "https://huggingface.co/join"
TOKEN_PAGE = "https://huggingface.co/settings/tokens"


def retry_command(row: Repository) -> str:
    """Return the command that resumes a download."""
    return command(f"models fetch {row.name}")


def to_user_error(row: Repository, folder: Path, error: Exception) -> UserError:
    """Convert an error of the hub, the network or the disk to a UserError."""
    import httpx2
    from huggingface_hub import errors

    retry = retry_command(row)
    if isinstance(error, errors.GatedRepoError):
        return gated_error(row)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelMissing(
            f"The hub does not know {row.source}, or does not let you see it.",
            "If you have a token, it may be wrong or too old: set the environment variable "
            "HF_TOKEN to a new one.",
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unreachable(
            f"{row.title} cannot be downloaded: offline mode is on.", "Unset HF_HUB_OFFLINE."
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401:
        return ModelMissing(
            "The hub does not know your token: it is wrong, too old or was withdrawn.",
            "Make a new read token in your settings there.",
        )
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return Unreachable(
            f"The hub answered with an error ({status}).", f"Try again later: {retry}"
        )
    if isinstance(error, httpx2.ConnectError):
        return Unreachable(
            f"The hub ({model_page(row)}) cannot be reached.",
            f"Check the connection; what is here already is kept: {retry}",
        )
    is_network_error = isinstance(error, ConnectionError)
    if isinstance(error, OSError) and error.errno is not None and not is_network_error:
        return files.disk_error(folder, error)
    return Unreachable(
        f"The download of {row.title} was interrupted ({type(error).__name__}).",
        f"It goes on where it stopped: {retry}",
    )


def gated_error(row: Repository) -> UserError:
    """Return an error that explains how to get access to a gated model."""
    from huggingface_hub import get_token

    accept = f"accept its licence ({row.licence}) at {model_page(row)}"
    if get_token():
        return ModelMissing(
            f"{row.title} is gated, and your account is not let in yet.",
            f"With the account of your token, {accept}; then fetch again.",
        )
    return ModelMissing(
        f"{row.title} is gated: the hub wants to know who you are.",
        f"Make a free account, {accept}, make a read token in your settings there, set the "
        f"environment variable HF_TOKEN to it, and in the same window: {retry_command(row)}",
    )
