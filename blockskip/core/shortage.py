"""Know a shortage of memory, files, threads or disk space in whatever error it appears.

Libraries report the same shortage in many ways: oneDNN fails to create a primitive, an import fails
to map a file, Windows names its paging file. Graphics memory is not handled here but in
memory/planning/oom_fallback.py. Does not import torch.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from blockskip.core.errors import DiskFull, OutOfMemory, Unexpected, UserError, command

_DISK, _RAM, _FILES, _THREADS = "disk", "RAM", "files", "threads"
_ERRNO = {
    errno.ENOSPC: _DISK,
    getattr(errno, "EDQUOT", errno.ENOSPC): _DISK,
    errno.ENOMEM: _RAM,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
_WINDOWS_ERROR = {
    4: _FILES,  # too many open files
    8: _RAM,  # not enough memory resources
    14: _RAM,  # not enough storage, which is memory
    39: _DISK,  # the disk is full
    112: _DISK,  # there is not enough space on the disk
    1295: _DISK,  # disk quota
    1450: _RAM,  # insufficient system resources
    1455: _RAM,  # the paging file is too small
}
_TEXTS = (  # of messages in lower case
    ("no space left on device", _DISK),
    ("storagefull", _DISK),
    ("not enough space on the disk", _DISK),
    ("database or disk is full", _DISK),
    ("disk quota exceeded", _DISK),
    (" requested and ", _DISK),  # numpy: “8 requested and 0 written”
    ("failed writing file", _DISK),  # torch's zip files
    ("too many open files", _FILES),
    ("can't start new thread", _THREADS),
    ("thread creation failed", _THREADS),
    ("cannot allocate memory", _RAM),
    ("can't allocate memory", _RAM),  # torch's DefaultCPUAllocator
    ("defaultcpuallocator", _RAM),
    ("failed to map segment from shared object", _RAM),  # an import
    ("not enough memory: you tried to allocate", _RAM),
    ("could not create a primitive", _RAM),  # oneDNN
    ("could not execute a primitive", _RAM),
    ("could not create a memory", _RAM),
    ("bad_alloc", _RAM),
    ("bad allocation", _RAM),
    ("unable to allocate", _RAM),  # numpy
    ("out of host memory", _RAM),
    ("paging file", _RAM),
    ("insufficient system resources", _RAM),
    # in the log of a process that ended itself
    ("memoryerror", _RAM),
    # CPython, where C code that got no memory reports no error
    ("error return without exception set", _RAM),
    ("without setting an exception", _RAM),
    ("memory allocation still failed", _RAM),  # OpenBLAS
    ("error: out of memory", _RAM),
    ("not enough memory resources", _RAM),
)
# sound alike, but are something else
_OTHERS = ("static tls block", "cuda out of memory", "operation not permitted")
_KILLED = (-9, 137)  # by the system when RAM runs out, or by somebody
_NO_MEMORY = (0xC0000017, 0xC000012D)  # Windows ends a process that exceeds RAM and paging file


def shortage(error: BaseException, work: str = "this") -> UserError | None:
    """Return what is short, or None if the error means something else.

    Errors that caused `error` count. work: what there is too little RAM for.
    """
    kinds = (_kind(one) for one in _chain(error))
    return _sentence(next(filter(None, kinds), ""), work)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that there is no space on a disk."""
    return _kind(error) == _DISK


def as_user_error(error: Exception, log: Path) -> UserError:
    """Return what a run's process tells about an error. log: the file with its traceback."""
    return shortage(error, "this run") or Unexpected(
        f"Training stopped on an unexpected error ({type(error).__name__}).",
        f"Nothing saved is lost; resume to continue. Details: {log}",
    )


def is_ram_short(error: BaseException) -> bool:
    """Return whether an error means that there is too little RAM."""
    return any(_kind(one) == _RAM for one in _chain(error))


def of_last_words(text: str, work: str = "this") -> UserError | None:
    """Return the shortage that a process named before it ended itself, None if it named none.

    text: the end of its log. Libraries without exceptions of Python end their process so.
    """
    return _sentence(_kind(RuntimeError(text)), work)


def of_exit_code(code: int | None, work: str = "the training") -> UserError | None:
    """Return the shortage for which the system ended a process, None for other exit codes.

    work: what the process did.
    """
    if code in _KILLED or (code is not None and code & 0xFFFFFFFF in _NO_MEMORY):
        return ended_by_system(work, certain=False)
    return None


def ended_by_system(work: str, certain: bool) -> OutOfMemory:
    """Return that the system ended a process. certain: whether it has told why."""
    why = "because RAM ran out" if certain else "most likely because RAM ran out"
    return OutOfMemory(
        f"The system ended {work}{' ' if certain else ', '}{why}.",
        "Close other programs, then resume; nothing saved is lost.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _kind(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return _RAM
    if isinstance(error, OSError):
        kind = _WINDOWS_ERROR.get(getattr(error, "winerror", None) or 0)
        kind = kind or _ERRNO.get(error.errno or 0)
        if kind:
            return kind
    if isinstance(error, UserError):  # already says what is wrong
        return ""
    text = str(error).lower()
    if any(other in text for other in _OTHERS):
        return ""
    return next((kind for words, kind in _TEXTS if words in text), "")


def _sentence(kind: str, work: str) -> UserError | None:
    match kind:
        case "RAM":
            return OutOfMemory(
                f"There was not enough RAM for {work}.", "Close other programs, then resume."
            )
        case "files":
            return UserError(
                "Too many files are open at once for this system.",
                "Close other programs and try again; on Linux and macOS, type “ulimit -n 4096” in "
                "the terminal first.",
            )
        case "threads":
            return UserError(
                "The system allows no more threads or processes.",
                "Close other programs and try again.",
            )
        case "disk":
            return DiskFull(
                "The disk is full.",
                f"Free some space ({command('clean')} frees caches), then resume.",
            )
    return None
