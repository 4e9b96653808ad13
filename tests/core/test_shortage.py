"""A shortage is named whatever disguise it comes in, and nothing else is taken for one."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from blockskip.core import files
from blockskip.core.errors import BadFile, DiskFull, OutOfMemory, UserError
from blockskip.core.shortage import as_user_error, of_exit_code, shortage


def windows(code, number=errno.EINVAL):
    """An OSError as Windows raises it."""
    error = OSError(number, "in the system's language")
    error.winerror = code
    return error


def caused(error):
    """An error of a library because of another one."""
    outer = RuntimeError("could not load the model")
    outer.__cause__ = error
    return outer


RAM = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    windows(8, errno.ENOMEM),
    windows(14),
    windows(1450),
    windows(1455),
    RuntimeError("could not create a primitive"),
    RuntimeError("could not execute a primitive"),
    RuntimeError("could not create a primitive descriptor for a matmul primitive"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    RuntimeError("unable to mmap 9 bytes from file </x>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("bad allocation"),
    ImportError("libtorch_cpu.so: cannot allocate memory"),
    ImportError("libx.so: failed to map segment from shared object: Cannot allocate memory"),
    ImportError("DLL load failed while importing _C: The paging file is too small for this"),
    OSError("[WinError 1455] The paging file is too small. Error loading “c10.dll”"),
    caused(MemoryError()),
    caused(caused(OSError(errno.ENOMEM, "x"))),
]
DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    windows(112, errno.ENOSPC),
    windows(39),
    windows(1295),
    RuntimeError("database or disk is full"),
    RuntimeError(
        'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No '
        'space left on device" }'
    ),
    RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file data/0: file write failed"),
    OSError("10000 requested and 4096 written"),
    caused(OSError(errno.ENOSPC, "x")),
]  # fmt: skip
FILES = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "x"),
    windows(4, errno.EMFILE),
    RuntimeError("unable to open shared memory object </x>: Too many open files (24)"),
]
THREADS = [RuntimeError("can't start new thread")]
NONE = [
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),  # has its own way out
    ImportError("libgomp.so: cannot allocate memory in static TLS block"),
    PermissionError(errno.EACCES, "Permission denied"),
    ValueError("x"),
    UserError("Run “no space left on device” is running."),
]


@pytest.mark.parametrize(
    "errors, kind, words",
    [
        (RAM, OutOfMemory, "not enough RAM for a test"),
        (DISK, DiskFull, "disk is full"),
        (FILES, UserError, "Too many files are open"),
        (THREADS, UserError, "no more threads"),
    ],
)
def test_every_disguise_is_known(errors, kind, words):
    for error in errors:
        short = shortage(error, "a test")
        assert type(short) is kind and words in short.title and short.remedy, error
        assert as_user_error(error, "log").kind == kind.__name__


def test_nothing_else_is_a_shortage():
    assert [shortage(error) for error in NONE] == [None] * len(NONE)
    assert as_user_error(ValueError("x"), "worker.log").kind == "Unexpected"


def test_files_name_the_shortage_too(tmp_path):
    path = tmp_path / "x"
    for tell in (lambda e: files.disk_error(path, e), lambda e: files.read_error(e, path)):
        assert type(tell(OSError(errno.EMFILE, "Too many open files"))) is UserError
        assert type(tell(OSError(errno.ENOMEM, "x"))) is OutOfMemory
        assert type(tell(windows(39))) is DiskFull and "x" in tell(windows(112)).title
        assert type(tell(PermissionError(errno.EACCES, "x"))) is BadFile


def test_a_process_ended_by_the_system_ran_out_of_ram():
    for code in (-9, 137, 0xC0000017, 0xC000012D, 0xC0000017 - 2**32, 0xC000012D - 2**32):
        assert type(of_exit_code(code)) is OutOfMemory and "RAM" in of_exit_code(code).title
    for code in (None, 0, 1, 130, -15, 0xC0000005):
        assert of_exit_code(code) is None


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_real_shortages():
    """What this system says, not what we remember of it."""
    code = (
        "import resource, sys, threading, mmap, os\n"
        "from blockskip.core.shortage import shortage\n"
        "try:\n"
        "    if sys.argv[1] == 'files':\n"
        "        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "        kept = [open(os.devnull) for _ in range(30)]\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))\n"
        "    if sys.argv[1] == 'mmap': mmap.mmap(-1, 1 << 34)\n"
        "    if sys.argv[1] == 'bytes': bytearray(1 << 34)\n"
        "    import torch\n"
        "except Exception as error: print(type(shortage(error)).__name__)\n"
    )
    said = {
        what: subprocess.run(
            [sys.executable, "-c", code, what], cwd=files.__file__.split("blockskip/core")[0],
            capture_output=True, encoding="utf-8", env=os.environ,
        ).stdout.strip()
        for what in ("files", "mmap", "bytes", "torch")
    }  # fmt: skip
    assert said == dict.fromkeys(("mmap", "bytes", "torch"), "OutOfMemory") | {"files": "UserError"}


def test_kill_is_the_number_we_know():
    assert os.name == "nt" or signal.SIGKILL == 9
