"""The token of a gated model: tested with the hub before anything is downloaded, and kept only if
it opens the door.

Tokens are huggingface_hub's own affair ($HF_TOKEN, or the file where all programs of the hub's keep
one): it saves and reads them. Ours are no file and no log with a token in it, and the test runs in
a process of its own, since the studio's may not ask the hub, with the token on its stdin.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from blockskip.core import processes
from blockskip.core.errors import (
    BadInput,
    ModelMissing,
    Unexpected,
    Unreachable,
    UserError,
    from_kind,
)
from blockskip.core.presets import ModelRow
from blockskip.models.sources import hub_api

_TIMEOUT_S = 120  # seconds the hub may take to answer


def token_state() -> str:
    """ "kept" when a download would bring a token along, else "none". Asks no network."""
    from huggingface_hub import get_token

    return "kept" if get_token() else "none"


def try_token(row: ModelRow, token: str) -> None:
    """Ask the hub whether this token may fetch this model, and keep it for all programs of the
    hub's if so. Takes some seconds.

    Raises UserError, and keeps nothing, when the token is wrong, its account is not let in yet, or
    the hub cannot be reached.
    """
    token = token.strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise BadInput("This is no token.", "A token is one word that begins with hf_.")
    words = ["--token", row.name]
    said = processes.run_for_output(
        "blockskip.models.sources.download_process",
        words,
        stdin=token,
        seconds=_TIMEOUT_S,
        online=True,
    )
    try:
        answer = json.loads(said)
    except ValueError:
        raise Unexpected("The token could not be tested.", "Try again.") from None
    if "error" in answer:
        raise from_kind(answer["kind"], answer["error"], answer["remedy"])


def token_error(row: ModelRow, token: str) -> dict[str, str]:
    """In the process that `try_token` starts: {} when the token opens the door and is kept, else
    what is wrong: error, remedy, kind."""
    try:
        _test_and_save(row, token)
    except UserError as error:
        return error.to_dict()
    return {}


def _test_and_save(row: ModelRow, token: str) -> None:
    import httpx2
    from huggingface_hub import HfApi, constants, errors, login

    if (os.environ.get("HF_TOKEN") or token) != token:
        raise BadInput(
            "The environment variable HF_TOKEN holds another token, and wins.",
            "Remove it, or set it to this token, and start again.",
        )
    try:
        HfApi().whoami(token)
        commit, wanted = hub_api.list_files(row, token)
        hub_api.check_access(row, commit, wanted, token)
        login(token)
    except errors.GatedRepoError as error:
        raise ModelMissing(
            f"The token is right, but its account is not let in to {row.title} yet.",
            f"With that account, accept the licence ({row.licence}) at {hub_api.model_page(row)}, then "
            "try again. The token must be of the kind “read”, or may read gated repositories.",
        ) from error
    except (httpx2.TransportError, ConnectionError) as error:
        raise Unreachable(
            f"The hub ({hub_api.model_page(row)}) cannot be reached.",
            "Check the connection; try again.",
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        raise hub_api.to_user_error(row, Path(constants.HF_TOKEN_PATH), error) from error
