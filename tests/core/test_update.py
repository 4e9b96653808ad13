"""The program's files are replaced whole, or not at all, and can be brought back."""

import hashlib
import os
import zipfile

import pytest

from blockskip.core import update
from blockskip.core.errors import UserError

OLD = {
    "pyproject.toml": '[project]\nversion = "1.0"\n',
    "app.py": "old",
    "blockskip/a.py": "old a",
    "blockskip/gone.py": "only old",
}
NEW = {
    "pyproject.toml": '[project]\nversion = "2.0"\n',
    "app.py": "new",
    "blockskip/a.py": "new a",
    "blockskip/deep/er/b.py": "only new",
    "launch.sh": "#!/bin/sh\n",
}


def manifest(content):
    lines = (f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in content)
    return "".join(lines)


def release(path, content, listed=None, top="Blöck Skip-2/"):
    with zipfile.ZipFile(path, "w") as file:
        for name, text in content.items():
            info = zipfile.ZipInfo(top + name)
            info.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
            file.writestr(info, text)
        file.writestr(f"{top}{update.MANIFEST}", manifest((listed or content).items()))
    return path


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "The prögram"
    for name, text in OLD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / update.MANIFEST).write_text(manifest(OLD.items()), encoding="utf-8")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "mine").write_text("the environment", encoding="utf-8")
    (folder / "notes of mine.txt").write_text("kept", encoding="utf-8")
    return folder


@pytest.fixture
def newer(tmp_path):
    return release(tmp_path / "new.zip", NEW)


def content(folder):
    """The program's own files, without what an update keeps of others."""
    kept = {update.MANIFEST, "notes of mine.txt"}
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file() and path.name not in kept and path.parts[len(folder.parts)][0] != "."
    }


def test_there_and_back_and_there_again(root, newer):
    assert update.update(newer, root) == ("1.0", "2.0")
    assert content(root) == NEW
    assert update.undo(root) == ("2.0", "1.0")
    assert content(root) == OLD
    assert update.undo(root) == ("1.0", "2.0")
    assert content(root) == NEW
    assert (root / "notes of mine.txt").read_text("utf-8") == "kept"
    assert (root / ".venv" / "mine").exists() and not (root / update.NEW).exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such mode")
def test_what_is_started_stays_executable(root, newer):
    update.update(newer, root)
    assert os.access(root / "launch.sh", os.X_OK) and not os.access(root / "app.py", os.X_OK)
    update.undo(root)
    update.undo(root)
    assert os.access(root / "launch.sh", os.X_OK)


def cut_off(patch, after):
    """A power cut after so many files were moved."""
    calls, replace = [], os.replace

    def replaced(source, target):
        calls.append(target)
        if len(calls) > after:
            raise KeyboardInterrupt
        replace(source, target)

    patch.setattr(update.os, "replace", replaced)


@pytest.mark.parametrize("after", range(6))
def test_a_power_cut_is_mended_by_the_same_again(root, newer, monkeypatch, after):
    """And what was here before the first one can still be brought back, through other cuts."""
    for do, result in (
        (lambda: update.update(newer, root), NEW),
        (lambda: update.undo(root), OLD),
    ):
        with monkeypatch.context() as patch:
            cut_off(patch, after)
            with pytest.raises(KeyboardInterrupt):
                do()
        do()
        assert content(root) == result
    update.undo(root)
    assert content(root) == NEW


@pytest.mark.parametrize(
    "name",
    [
        "../outside.py",
        "a/../../outside.py",
        "/outside.py",
        "a\\..\\..\\outside.py",
        ".git/hooks/post-checkout",
        "CON",
        "a:b",
        "x\0y",
    ],
)
def test_no_file_lands_elsewhere(root, tmp_path, name):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as file:
        file.writestr(f"top/{name}", "x")
        file.writestr(f"top/{update.MANIFEST}", manifest({name: "x"}.items()))
    with pytest.raises(UserError):
        update.update(bad, root)
    assert content(root) == OLD and not list(tmp_path.rglob("outside*"))


@pytest.mark.parametrize(
    "fault", ["changed", "missing", "extra", "no list", "cut", "torn", "text", "bomb"]
)
def test_what_is_not_whole_changes_nothing(root, tmp_path, monkeypatch, fault):
    path = tmp_path / "bad.zip"
    if fault == "changed":
        release(path, NEW | {"app.py": "evil"}, listed=NEW)
    elif fault == "missing":
        release(path, {name: text for name, text in NEW.items() if name != "app.py"}, listed=NEW)
    elif fault == "extra":
        release(path, NEW | {"evil.py": "x"}, listed=NEW)
    elif fault == "no list":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("top/app.py", "x")
    elif fault == "text":
        path.write_text("<html>not found</html>", encoding="utf-8")
    else:
        release(path, NEW)
    if fault == "torn":  # in the middle of what is packed
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("top/app.py", "".join(map(str, range(5000))))
        data = bytearray(path.read_bytes())
        data[200:240] = b"\xff" * 40
        path.write_bytes(data)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if fault == "bomb":
        monkeypatch.setattr(update, "MOST_BYTES", 10)
    with pytest.raises(UserError, match=r"bad\.zip is no release"):
        update.update(path, root)
    assert content(root) == OLD and not (root / update.PREVIOUS).exists()


def test_a_file_that_is_not_there_is_named(root, tmp_path):
    with pytest.raises(UserError, match=r"no file .*gone\.zip"):
        update.update(tmp_path / "gone.zip", root)
    assert content(root) == OLD


def test_a_file_that_cannot_be_replaced_is_said(root, newer, monkeypatch):
    """And the same update goes on once it can."""
    with monkeypatch.context() as patch:
        patch.setattr(
            update.os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no"))
        )
        with pytest.raises(UserError):
            update.update(newer, root)
    update.update(newer, root)
    assert content(root) == NEW


def test_a_checkout_is_left_to_git(root, newer):
    (root / ".git").mkdir()
    with pytest.raises(UserError, match="no unpacked release"):
        update.update(newer, root)
    assert content(root) == OLD


def test_without_an_earlier_version_there_is_no_way_back(root):
    with pytest.raises(UserError, match="no earlier files"):
        update.undo(root)
