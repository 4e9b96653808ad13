"""Test the token for a gated model before any download, and save it only if it gives access.

huggingface_hub saves and reads tokens ($HF_TOKEN, or its token file, which other programs share).
We never write a token to a file or log. The test runs in a subprocess, because the studio's process
may not use the network, and gets the token on its stdin.
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
from blockskip.models.sources import hub_api, hub_environment

_TIMEOUT_S = 120  # seconds to wait for the hub


def token_state() -> str:
    """Return "kept" if a download would use a saved token, else "none". Uses no network."""
    from huggingface_hub import get_token

    return "kept" if get_token() else "none"


def try_token(row: ModelRow, token: str) -> None:
    """Test whether the token gives access to the model, and if so save it for huggingface_hub.
    Takes some seconds.

    Raises UserError without saving if the token is wrong, its account has no access, or the hub
    cannot be reached.
    """
    token = token.strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise BadInput("This is no token.", "A token is one word that begins with hf_.")
    words = ["--token", row.name]
    output = processes.run_for_output(
        "blockskip.models.sources.download_process",
        words,
        stdin=token,
        seconds=_TIMEOUT_S,
        online=True,
    )
    try:
        answer = json.loads(output)
    except ValueError:
        raise Unexpected("The token could not be tested.", "Try again.") from None
    if "error" in answer:
        raise from_kind(answer["kind"], answer["error"], answer["remedy"])


def token_error(row: ModelRow, token: str) -> dict[str, str]:
    """Test and save the token in the subprocess of `try_token`. Return {} on success, else {error,
    remedy, kind}."""
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
            "The environment variable HF_TOKEN holds another token and takes precedence.",
            "Remove it, or set it to this token, and start again.",
        )
    hub_environment.check()
    try:
        HfApi().whoami(token)
        commit, wanted = hub_api.list_files(row, token)
        hub_api.check_access(row, commit, wanted, token)
        login(token)
    except errors.GatedRepoError as error:
        raise ModelMissing(
            f"The token is right, but its account is not let in to {row.title} yet.",
            f"With that account, accept the licence ({row.licence}) at {hub_api.model_page(row)}, "
            "then try again. The token must be of the kind “read”, or may read gated repositories.",
        ) from error
    except (httpx2.TransportError, ConnectionError) as error:
        raise Unreachable(
            f"The hub ({hub_api.model_page(row)}) cannot be reached.",
            "Check the connection; try again.",
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        raise hub_api.to_user_error(row, Path(constants.HF_TOKEN_PATH), error) from error
