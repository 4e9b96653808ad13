"""What the hub says of a model: which files it is made of, whether we are let in, and what its
errors mean. Nothing is downloaded here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, ModelMissing, Unreachable, UserError, command
from blockskip.core.presets import ModelRow

TEXT_SUFFIXES = (
    ".json",
    ".txt",
    ".model",
    ".jinja",
)  # configurations, vocabularies, chat templates
# the parts' weights, whole or in shards; not the same a second time beside them, in the original
# layout, in folders of single files, or as fp16
_WEIGHTS = [
    f"*/{name}{shard}.safetensors"
    for name in ("diffusion_pytorch_model", "model")
    for shard in ("", "-?????-of-?????")
]
FILE_PATTERNS = ["model_index.json", *(f"*/*{ending}" for ending in TEXT_SUFFIXES), *_WEIGHTS]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. size: bytes. version: changes with the content. sha256: of the
    content, "" where the hub does not tell (small texts)."""

    name: str
    size: int
    version: str
    sha256: str


def model_page(row: ModelRow) -> str:
    """Where people read about a model and accept its licence."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{row.source}"


def list_files(row: ModelRow, token: str | None = None) -> tuple[str, list[RemoteFile]]:
    """(commit, files we want, the small ones first). token: instead of the one that is kept."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    info = HfApi(token=token).model_info(row.source, files_metadata=True)
    found = filter_repo_objects(
        info.siblings or [], allow_patterns=FILE_PATTERNS, key=lambda sibling: sibling.rfilename
    )
    wanted = []
    for file in found:
        if ".." in file.rfilename or "\\" in file.rfilename:
            continue  # a name that would leave our folder
        digest = file.lfs.sha256 if file.lfs else ""
        wanted.append(
            RemoteFile(file.rfilename, file.size or 0, digest or file.blob_id or "", digest)
        )
    if not wanted:
        raise BadFile(f"{row.source} holds no model in diffusers' layout.", "Choose another.")
    return info.sha or "main", sorted(wanted, key=lambda remote: (remote.size, remote.name))


def check_access(
    row: ModelRow, commit: str, wanted: list[RemoteFile], token: str | None = None
) -> None:
    """Ask for one weight file's head: a gated model says here whether it lets us in."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(row.source, wanted[-1].name, revision=commit)
    get_hf_file_metadata(url, token=token)


def retry_command(row: ModelRow) -> str:
    """What to type to go on with a download."""
    return command(f"models fetch {row.name}")


def to_user_error(row: ModelRow, folder: Path, error: Exception) -> UserError:
    """What the hub's, the network's or the disk's error means for people."""
    import httpx2
    from huggingface_hub import errors

    go_on = retry_command(row)
    if isinstance(error, errors.GatedRepoError):
        return gated_error(row)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelMissing(
            f"The hub does not know {row.source}, or does not let you see it.",
            "If you have a token, it may be wrong or too old: set the environment variable HF_TOKEN "
            "to a new one.",
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
        said = error.response.status_code
        return Unreachable(f"The hub answered with an error ({said}).", f"Try again later: {go_on}")
    if isinstance(error, httpx2.ConnectError):
        return Unreachable(
            f"The hub ({model_page(row)}) cannot be reached.",
            f"Check the connection; what is here already is kept: {go_on}",
        )
    network = isinstance(error, ConnectionError)
    if isinstance(error, OSError) and error.errno is not None and not network:
        return files.disk_error(folder, error)
    return Unreachable(
        f"The download of {row.title} was interrupted ({type(error).__name__}).",
        f"It goes on where it stopped: {go_on}",
    )


def gated_error(row: ModelRow) -> UserError:
    """What to do to be let in."""
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
