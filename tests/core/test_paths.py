"""The data folder: chosen, kept where it is until the next start, counted."""

import os
import subprocess
import sys

import pytest

from blockskip.core import files, paths
from blockskip.core.errors import UserError
from blockskip.core.paths import QUANTISED_CACHE, ROOT, data_dir, set_data_dir
from blockskip.core.settings import Settings
from blockskip.runs import storage
from blockskip.runs.run import create_run, list_runs


@pytest.fixture
def default(tmp_path, monkeypatch):
    """The place where data lives when nothing was chosen."""
    folder = tmp_path / "hömé" / "BlockSkip Studio"
    monkeypatch.delenv("BLOCKSKIP_DATA")
    monkeypatch.setattr(paths, "default_dir", lambda: folder)
    paths._saved_location.cache_clear()
    yield folder
    paths._saved_location.cache_clear()


def test_another_folder_holds_from_the_next_start_on(default, tmp_path, monkeypatch):
    other = tmp_path / "big drive ü" / "BlockSkip"
    assert data_dir() == default
    assert set_data_dir(other) == other and other.is_dir()
    assert data_dir() == default, "a running studio stays where its runs are"
    paths._saved_location.cache_clear()  # the next start
    assert data_dir() == other
    monkeypatch.setenv("BLOCKSKIP_DATA", str(tmp_path / "wins"))
    assert data_dir() == tmp_path / "wins"
    with pytest.raises(UserError, match="BLOCKSKIP_DATA"):
        set_data_dir(default)
    monkeypatch.delenv("BLOCKSKIP_DATA")
    set_data_dir(default)
    assert not paths.location_file().exists() and list(other.iterdir()) == []
    paths.location_file().write_text("{}", encoding="utf-8")
    paths._saved_location.cache_clear()
    with pytest.raises(UserError, match="place.json cannot be read"):
        data_dir()


def test_a_folder_that_cannot_hold_data_is_refused_and_nothing_changes(
    default, tmp_path, monkeypatch
):
    (tmp_path / "a file").write_bytes(b"")
    for folder, why in (
        ("runs here", "not an absolute path"),
        (ROOT / "data", "program's own folder"),
        (tmp_path / "a file" / "data", "could not be written"),
    ):
        with pytest.raises(UserError, match=why):
            set_data_dir(folder)
    monkeypatch.setattr(files, "free_bytes", lambda folder: 1 << 30)
    with pytest.raises(UserError, match=r"only 1\.0 GiB free"):
        set_data_dir(tmp_path / "full")
    assert not paths.location_file().exists() and not (ROOT / "data").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the default is told by the environment")
def test_a_process_started_now_uses_the_folder_of_its_starter(default, tmp_path, monkeypatch):
    from blockskip.core import processes

    monkeypatch.setenv("XDG_DATA_HOME", str(default.parent))
    monkeypatch.setenv("HOME", str(default.parent))
    assert data_dir() == default
    set_data_dir(tmp_path / "other")
    script = "from blockskip.core import paths; print(paths.data_dir(), paths.default_dir())"
    mine = processes.child_environment(online=False)
    of_its_own = {k: v for k, v in mine.items() if k != "BLOCKSKIP_DATA"}
    for environment, expected in ((mine, default), (of_its_own, tmp_path / "other")):
        words = [sys.executable, "-c", script]
        said = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8")
        if sys.platform == "linux" or environment is mine:
            assert said.stdout.startswith(f"{expected} ")


def test_usage_is_what_lies_there_and_what_cleaning_frees(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"p" * 1000)
    for name in ("one", "two"):
        run = create_run(Settings(), [photo], name)
        files.write_bytes(run.cache_dir / "deep" / "x.safetensors", b"c" * 50_000)
    files.write_bytes(data_dir() / QUANTISED_CACHE / "a" / "b", b"q" * 7000)
    files.write_bytes(data_dir() / "models" / "m" / "w.safetensors", b"m" * 9000)
    said = storage.usage()
    assert os.path.ismount(said.drive) and 0 < said.free_gib < said.total_gib
    assert said.models_gib * 2**30 == 9000
    assert said.runs_gib * 2**30 == sum(run.size_bytes() for run in list_runs())
    assert said.caches_gib * 2**30 == storage.clean_all() == 107_000
    assert storage.usage().caches_gib == 0 and storage.usage().models_gib > 0
