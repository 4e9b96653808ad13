"""Power cuts in short: all works are recorded once, looked at after every cut, and gone on from after
some. `./launch.sh test tests/corpus --power-cuts` goes on after many."""

import dataclasses

import pytest
from corpus import cases, disk, power_cuts, recorder
from corpus.disk import Disk
from corpus.power_cuts import Cut, recorded
from corpus.recorder import Operation

needs_recorder = pytest.mark.skipif(bool(recorder.why_not()), reason=recorder.why_not() or "-")
# states gone on from; each of a life takes two seconds
GOES_ON = {"settings": 5, "prepare": 5, "download": 6, "life": 4}


def written(*, file_synced=False, folder_synced=False):
    """`new` is written and renamed to `file`, which was there and synced."""
    steps = [
        ("create", 1, 0, "file", "", b""),
        ("write", 1, 0, "file", "", b"old"),
        ("fsync", 1, 0, "file", "", b""),
        ("fsync", 9, 0, "", "", b""),
        ("create", 2, 0, "new", "", b""),
        ("write", 2, 0, "new", "", b"newer!"),
        *([("fsync", 2, 0, "new", "", b"")] if file_synced else []),
        ("rename", 0, 0, "new", "file", b""),
        *([("fsync", 9, 0, "", "", b"")] if folder_synced else []),
    ]
    return Disk([Operation(*step) for step in steps])


def left(found, kind):
    return found.state(len(found.operations) - 1, kind)


def test_what_is_not_synced_can_be_lost_in_every_way():
    found = written()
    assert left(found, "dropped") == {"file": b"old"} == left(found, "data")
    assert left(found, "names") == {"file": b""} and left(found, "zeros") == {"file": bytes(6)}
    assert left(found, "kept") == {"file": b"newer!"} == found.whole()
    assert found.state(5, "torn") == {"file": b"old", "new": b"new"}
    mixed = {str(found.state(7, kind, seed)) for kind in disk.KINDS for seed in range(50)}
    assert len(mixed) == 7 and str({"file": b"old", "new": b"newer!"}) in mixed


def test_what_is_synced_stays():
    half, whole = written(file_synced=True), written(file_synced=True, folder_synced=True)
    for kind in disk.KINDS:
        assert left(whole, kind) == {"file": b"newer!"}
        assert left(half, kind).get("file") in (b"old", b"newer!")
    assert left(half, "dropped") == {"file": b"old"}


def test_a_folder_is_lost_with_all_that_is_in_it():
    steps = [("mkdir", 0, 0, "a", "", b""), ("create", 1, 0, "a/b", "", b"")]
    steps += [("write", 1, 0, "a/b", "", b"x"), ("fsync", 1, 0, "a/b", "", b"")]
    steps += [("fsync", 2, 0, "a", "", b"")]
    found = Disk([Operation(*step) for step in steps])
    assert left(found, "dropped") == {} and left(found, "names") == {"a": None, "a/b": b"x"}


@needs_recorder
@pytest.mark.parametrize("work", GOES_ON)
def test_nothing_is_lost_and_no_half_file_is_taken_for_a_whole_one(work):
    """Every cut is looked at; a recording that missed an operation fails by itself."""
    cuts = [
        Cut(work, at, kind) for at in recorded(work).disk.cuts() for kind in ("dropped", "names")
    ]
    wrong = {cut.id: found for cut in cuts if (found := power_cuts.problem(cut))}
    assert not wrong


@needs_recorder
@pytest.mark.parametrize("work", GOES_ON)
def test_going_on_ends_in_the_bytes_of_work_that_was_not_interrupted(work):
    cuts, count = recorded(work).disk.cuts(), GOES_ON[work]
    points = [cuts[(2 * n + 1) * len(cuts) // (2 * count)] for n in range(count)]
    tried = [Cut(work, at, disk.KINDS[n % len(disk.KINDS)]) for n, at in enumerate(points)]
    wrong = [v for v in map(power_cuts.verdict, tried) if v.verdict != cases.HELD]
    assert not wrong


@needs_recorder
@pytest.mark.parametrize(
    ("work", "folders", "verdict"),
    [("life", True, cases.LOST), ("life", False, cases.SILENT), ("prepare", False, cases.SILENT)],
)
def test_the_proof_needs_what_is_synced(work, folders, verdict, monkeypatch):
    """The same recording without the syncs of folders, or without those of files."""
    found = recorded(work)
    kept = [o for o in found.disk.operations if o.kind != "fsync" or is_folder(found, o) != folders]
    assert len(kept) < len(found.disk.operations)
    bare = Disk(kept)
    versions = list(power_cuts.versions(bare))
    monkeypatch.setattr(
        power_cuts, "recorded", lambda _: dataclasses.replace(found, disk=bare, versions=versions)
    )
    problems = (
        power_cuts.problem(Cut(work, at, kind))
        for kind in ("dropped", "names")
        for at in bare.cuts()
    )
    assert verdict in (problem[0] for problem in problems if problem)


def is_folder(found, operation):
    return not operation.path or found.disk.whole().get(operation.path, b"") is None
