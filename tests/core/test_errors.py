"""The kinds of errors: what a program can tell apart, and that it stays the same across processes."""

import errno
import pickle
import re
from pathlib import Path

import pytest

from blockskip.core import errors, events, files
from blockskip.core.errors import (
    BadFile,
    BadPhoto,
    DiskFull,
    OutOfMemory,
    Unreachable,
    UserError,
    from_kind,
)
from blockskip.data.photos import UnusablePhoto
from blockskip.memory.planning.planner import make_plan
from blockskip.memory.planning.refusal import DoesNotFit
from blockskip.models.sources.hub import IncompleteDownload

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and value.__module__ == errors.__name__
]


def test_the_tree_at_the_head_shows_every_class_under_its_parent():
    drawn = re.findall(r"^ +[├└]── (\w+) {2,}\w", errors.__doc__, re.M)
    assert drawn == [cls.__name__ for cls in CLASSES[1:]] and CLASSES[0] is UserError
    assert re.search(r"^    UserError$", errors.__doc__, re.M)
    assert {cls.__base__ for cls in CLASSES[1:]} == {UserError}
    assert all(cls.__doc__ for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_is_the_same_on_the_other_side_of_a_process(cls):
    error = cls("Grün is not there.", "Look.")
    said = error.to_dict()
    for again in (
        from_kind(said["kind"], said["error"], said["remedy"]),
        pickle.loads(pickle.dumps(error)),
    ):
        assert type(again) is cls and again.kind == cls.__name__
        assert (again.title, again.remedy) == ("Grün is not there.", "Look.")
        assert str(again) == "Grün is not there. Look."


def test_a_kind_of_another_version_is_a_user_error():
    for kind in ("TooHot", "", "Exception", "command"):
        again = from_kind(kind, "It is too hot.")
        assert type(again) is UserError and again.kind == "UserError" and again.remedy == ""


def test_a_narrower_class_tells_the_kind_of_its_parent():
    photo = UnusablePhoto(Path("a.jpg"), "is empty", "Leave it out.")
    assert photo.kind == "BadPhoto" and IncompleteDownload("x").kind == "ModelMissing"
    with pytest.raises(DiskFull) as refused:
        make_plan(model="flux-dev", budget_gib=12, disk_gib=0.2, free_gib=12)
    assert refused.value.kind == "DiskFull" and isinstance(refused.value, DoesNotFit)
    with pytest.raises(OutOfMemory) as refused:
        make_plan(model="flux-dev", budget_gib=1, free_gib=12)
    assert refused.value.kind == "OutOfMemory" and isinstance(refused.value, DoesNotFit)
    again = pickle.loads(pickle.dumps(photo))
    assert isinstance(again, BadPhoto) and again.title == "a.jpg is empty."
    assert again.reason == "it is empty"


def test_the_systems_errors_are_told_apart():
    path = Path("folder/file")
    full, denied = OSError(errno.ENOSPC, "No space left"), PermissionError(errno.EACCES, "Denied")
    assert type(files.disk_error(path, full)) is type(files.read_error(full, path)) is DiskFull
    assert type(files.disk_error(path, denied)) is type(files.read_error(denied)) is BadFile
    assert type(files.read_error(ConnectionResetError(errno.ECONNRESET, "Reset"))) is Unreachable


def test_a_failure_keeps_its_kind_in_the_log_and_one_of_old_has_none():
    failed = events.Failed(title="The disk is full.", remedy="Free some.", kind="DiskFull")
    assert events.from_json(events.to_json(failed)) == failed
    old = events.from_json('{"event": "failed", "time": 1.0, "title": "x", "remedy": "y"}')
    assert old.kind == "UserError" and from_kind(old.kind, old.title).title == "x"
