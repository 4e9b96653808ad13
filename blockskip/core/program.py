"""Tell whether the program was updated while it runs: an update replaces its files in place."""

import tomllib

from blockskip import __version__
from blockskip.core.errors import WrongState
from blockskip.core.paths import ROOT


def check_not_updated() -> None:
    """Raise WrongState if the files on disk are of another version than this process: what it
    starts would be of theirs."""
    try:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        version = project["version"]
    except (OSError, ValueError, KeyError):
        return
    if version != __version__:
        raise WrongState(
            f"BlockSkip Studio was updated to {version} while it was open.",
            "Close it and start it again. A training that runs goes on to its end.",
        )
