"""Errors meant for people. They state what happened, to which file or setting, and what to do.

People read `title` and `remedy`. Programs distinguish errors by `kind`, the name of one of the
classes below. It appears in `--json` output, in a run's events and in the studio's API:

    UserError
    ├── BadInput       an invalid setting, option or name
    ├── BadPhoto       no photos, or unusable photos
    ├── BadFile        a missing, broken, foreign or inaccessible file
    ├── NotFound       no model, run, step, picture or path of that name
    ├── ModelMissing   a model not yet downloaded or chosen, or lacking a licence or token
    ├── Unreachable    no network, or no answer from a server
    ├── DiskFull       too little disk space
    ├── OutOfMemory    too little graphics memory or RAM for the plan or the work
    ├── WrongState     not possible now: a run is busy, finished or has no trained steps yet
    └── Unexpected     a bug, or an error that was not anticipated
"""

from __future__ import annotations

import os

from blockskip.core.names import shown_name


class UserError(Exception):
    """A problem that the user can solve. Raised directly if no subclass below fits.

    title: one plain sentence that names the file or setting. remedy: how to solve the problem. Both
    may quote what others wrote (names, headers, servers' answers), which is made fit to be shown.
    """

    def __init__(self, title: str, remedy: str = "") -> None:
        title, remedy = shown_name(title), shown_name(remedy)
        super().__init__(f"{title} {remedy}".strip())
        self.title = title
        self.remedy = remedy

    @property
    def kind(self) -> str:
        """The class name, or that of the nearest ancestor in the tree above."""
        return next(cls.__name__ for cls in type(self).__mro__ if cls.__name__ in _KINDS)

    def to_dict(self) -> dict[str, str]:
        """Return the error as printed by `--json`."""
        return {"error": self.title, "remedy": self.remedy, "kind": self.kind}

    def __reduce__(self) -> tuple:
        return from_kind, (self.kind, self.title, self.remedy), self.__dict__


class BadInput(UserError):
    """A setting, an option or a name is invalid."""


class BadPhoto(UserError):
    """There are no photos, or they are unusable."""


class BadFile(UserError):
    """A file is missing, broken, foreign, or may not be read or written."""


class NotFound(UserError):
    """There is no model, run, step, picture or path of that name."""


class ModelMissing(UserError):
    """A model must be downloaded or chosen first, or needs an accepted licence or a token."""


class Unreachable(UserError):
    """There is no network, or a server does not answer."""


class DiskFull(UserError):
    """There is too little disk space for the plan or the work."""


class OutOfMemory(UserError):
    """There is too little graphics memory or RAM for the plan or the work."""


class WrongState(UserError):
    """The action is not possible now: a run is busy, finished or has no trained steps yet."""


class Unexpected(UserError):
    """A bug, or an error that was not anticipated."""


_KINDS: dict[str, type[UserError]] = {"UserError": UserError}
_KINDS |= {cls.__name__: cls for cls in UserError.__subclasses__()}


def from_kind(kind: str, title: str, remedy: str = "") -> UserError:
    """Recreate an error reported by another process. Unknown kinds become a plain UserError."""
    return _KINDS.get(kind, UserError)(title, remedy)


def command(words: str = "") -> str:
    """Return a command line that people can type in the program's folder.

    It names the launcher, since the launchers install no executable called blockskip.
    """
    # cmd would accept a plain launch.bat, PowerShell would not
    start = r".\launch.bat" if os.name == "nt" else "./launch.sh"
    return f"{start} {words}".strip()
