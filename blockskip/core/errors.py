"""Errors meant for people: what happened, to which file or setting, and what to do.

People read `title` and `remedy`. Programs tell errors apart by `kind`, the name of a class here,
which `--json`, the events of a run and the studio's API carry:

    UserError
    ├── BadInput       a setting, an option or a name that cannot be
    ├── BadPhoto       no photos, or photos that cannot be used
    ├── BadFile        a file that is gone, broken, another's, or may not be read or written
    ├── NotFound       no model, run, step, picture or path of that name
    ├── ModelMissing   a model to be fetched or chosen first; a licence or a token is wanted
    ├── Unreachable    the network, or who should answer there
    ├── DiskFull       a disk with too little room
    ├── OutOfMemory    a graphics card or RAM too small for the plan or the work
    ├── WrongState     not possible as things stand: a run is busy, over, or has learnt nothing yet
    └── Unexpected     a fault of ours, or one that nobody foresaw
"""

from __future__ import annotations

import os


class UserError(Exception):
    """A problem the user can solve, of none of the kinds below when raised as it is.

    title: one plain sentence naming the file or setting. remedy: what to do about it.
    """

    def __init__(self, title: str, remedy: str = "") -> None:
        super().__init__(f"{title} {remedy}".strip())
        self.title = title
        self.remedy = remedy

    @property
    def kind(self) -> str:
        """The name of its class; of a class that is no part of the tree, that of its parent."""
        return next(cls.__name__ for cls in type(self).__mro__ if cls.__name__ in _KINDS)

    def to_dict(self) -> dict[str, str]:
        """What `--json` says of it."""
        return {"error": self.title, "remedy": self.remedy, "kind": self.kind}

    def __reduce__(self) -> tuple:
        return from_kind, (self.kind, self.title, self.remedy), self.__dict__


class BadInput(UserError):
    """A setting, an option or a name cannot be."""


class BadPhoto(UserError):
    """There are no photos, or they cannot be used."""


class BadFile(UserError):
    """A file is gone, broken, another's, or may not be read or written."""


class NotFound(UserError):
    """There is no model, run, step, picture or path of that name."""


class ModelMissing(UserError):
    """A model must be fetched or chosen first, or its licence accepted, or a token given."""


class Unreachable(UserError):
    """The network is gone, or who should answer there does not."""


class DiskFull(UserError):
    """A disk has too little room for the plan or the work."""


class OutOfMemory(UserError):
    """The graphics card or the RAM is too small for the plan or the work."""


class WrongState(UserError):
    """It is not possible as things stand: a run is busy, over, or has learnt nothing yet."""


class Unexpected(UserError):
    """A fault of ours, or one that nobody foresaw."""


_KINDS: dict[str, type[UserError]] = {"UserError": UserError}
_KINDS |= {cls.__name__: cls for cls in UserError.__subclasses__()}


def from_kind(kind: str, title: str, remedy: str = "") -> UserError:
    """The error that another process told of; a kind that this version does not know is a
    UserError."""
    return _KINDS.get(kind, UserError)(title, remedy)


def command(words: str = "") -> str:
    """A command of this program as people can type it where the program lies: the launchers
    install no program called blockskip."""
    # cmd would take launch.bat alone, PowerShell would not
    start = r".\launch.bat" if os.name == "nt" else "./launch.sh"
    return f"{start} {words}".strip()
