"""The ZIP that people download. With `--long`: from an empty folder to a newer one and back."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile

import pytest
from helpers.studio_server import free_port
from helpers.waiting import until
from safetensors.torch import load_file

from blockskip import __version__
from blockskip.core import update
from blockskip.core.errors import BadInput
from blockskip.core.paths import ROOT
from blockskip.lab import release

FILES = {
    "pyproject.toml": f'[project]\nversion = "{__version__}"\n',
    "docs/changelog.md": f"# Changelog\n\n## {__version__}\n\n- It begins.\n",
    "launch.sh": "#!/bin/sh\necho starts\n",
    "blockskip/Übung.py": "print('ü')\n",
    "tests/test_it.py": "assert True\n",
    ".gitattributes": "/tests export-ignore\n/.gitattributes export-ignore\n",
}


def git(folder, *words):
    who = ["-c", "user.name=Ä", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / "checköut"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    (folder / "launch.sh").chmod(0o755)
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all of it")
    monkeypatch.setattr(release, "ROOT", folder)
    return folder


def test_a_commit_gives_the_same_bytes_and_no_tests(checkout, tmp_path):
    made = release.make(tmp_path / "one")
    again = release.make(tmp_path / "two")
    assert made.path.read_bytes() == again.path.read_bytes() and made.size == again.size
    assert (tmp_path / "one" / f"{made.path.name}.sha256").read_text().split()[0] == made.sha256
    with zipfile.ZipFile(made.path) as zipped:
        names = {name.partition("/")[2] for name in zipped.namelist() if name[-1] != "/"}
        top = {name.partition("/")[0] for name in zipped.namelist()}
    ours = {name for name in FILES if not name.startswith(("tests", ".git"))}
    assert names == ours | {update.MANIFEST} and top == {release.NAME}
    assert made.num_files == len(ours)


def test_update_takes_what_release_makes(checkout, tmp_path):
    home = unpacked(release.make(tmp_path).path, tmp_path / "home")
    (checkout / "blockskip" / "new.py").write_text("more = True\n", "utf-8")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "more")
    update.update(release.make(tmp_path / "newer").path, home)
    assert (home / "blockskip" / "new.py").exists() and os.access(home / "launch.sh", os.X_OK)
    update.undo(home)
    assert not (home / "blockskip" / "new.py").exists() and os.access(home / "launch.sh", os.X_OK)


@pytest.mark.parametrize("fault", ["changed", "no entry", "no checkout"])
def test_what_nobody_can_get_back_to_is_no_release(checkout, tmp_path, fault):
    if fault == "changed":
        (checkout / "launch.sh").write_text("#!/bin/sh\n", "utf-8")
    elif fault == "no entry":
        (checkout / "docs" / "changelog.md").write_text("## 0.0.1\n", "utf-8")
        git(checkout, "commit", "-q", "-a", "-m", "no entry")
    else:
        shutil.rmtree(checkout / ".git")
    with pytest.raises(BadInput) as told:
        release.make(tmp_path / "out")
    assert told.value.remedy and not (tmp_path / "out").exists()


def test_people_download_what_they_need():
    """And no more: tests and evidence stay in the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    asked = ["tests", ".ci", "assets/evidence", "blockskip", "launch.bat", "assets/demo-photos"]
    said = subprocess.run(
        ["git", "check-attr", "export-ignore", *asked], cwd=ROOT, capture_output=True, text=True
    )
    assert [line.endswith(": set") for line in said.stdout.splitlines()] == [True] * 3 + [False] * 3


def unpacked(archive, folder):
    """Unpack a release with the files' modes, as people's programs do. Return its folder."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            path = zipped.extract(member, folder)
            os.chmod(path, member.external_attr >> 16 or 0o755)
    (home,) = folder.iterdir()
    return home


def launch(home, data, *words):
    """Return what `launch.sh WORDS` prints."""
    done = subprocess.run(
        [str(home / "launch.sh"), *words],
        env={**os.environ, "BLOCKSKIP_DATA": str(data)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    print(f"$ launch.sh {' '.join(words)}\n{done.stdout}{done.stderr[-2000:]}")
    assert done.returncode == 0
    return done.stdout


def assert_opens(home, data):
    """The studio starts as by a double-click, and its page comes."""
    address = data / "studio.json"
    address.unlink(missing_ok=True)
    words = [str(home / "launch.sh"), "studio", "--no-browser", "--port", str(free_port())]
    process = subprocess.Popen(words, env={**os.environ, "BLOCKSKIP_DATA": str(data)})
    try:
        until(lambda: address.exists() or process.poll() is not None, 900)
        url, _, key = json.loads(address.read_text("utf-8"))["url"].partition("?key=")
        request = urllib.request.Request(url, headers={"x-blockskip-key": key})
        with urllib.request.urlopen(request) as page:
            assert "BlockSkip Studio" in page.read().decode("utf-8")
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(os.name == "nt", reason="launch.sh is for Linux and macOS")
@pytest.mark.long
def test_from_an_empty_folder_to_a_newer_one_and_back(tmp_path):
    """Takes minutes: installs all packages, trains the demo twice."""
    versions = __version__, "99.0.0"
    archives = []
    for version in versions:
        clone = tmp_path / f"checkout {version}"
        git(tmp_path, "clone", "-q", str(ROOT), str(clone))
        for name in ("pyproject.toml", "blockskip/__init__.py", "docs/changelog.md"):
            text = (clone / name).read_text("utf-8")
            (clone / name).write_text(text.replace(__version__, version), "utf-8")
        if version != __version__:
            git(clone, "commit", "-q", "-a", "-m", version)
        out = tmp_path / "zips"
        words = [sys.executable, "-m", "blockskip", "lab", "release", "--out", str(out)]
        print(subprocess.run(words, cwd=clone, check=True, capture_output=True, text=True).stdout)
        archives.append(out / f"BlockSkip-Studio-{version}.zip")
    home, data = unpacked(archives[0], tmp_path / "Dätä folder"), tmp_path / "runs"
    assert_opens(home, data)
    launch(home, data, "train", "--demo", "--steps", "20", "--out", "Momo one")
    (first,) = data.rglob("exports/*.safetensors")
    before = load_file(first)
    assert f"{versions[1]} is here" in launch(home, data, "update", str(archives[1]))
    assert_opens(home, data)
    assert "Momo one" in launch(home, data, "runs")
    launch(home, data, "export", "Momo one")
    launch(home, data, "train", "--demo", "--steps", "20", "--out", "Momo two")
    assert f"{versions[0]} is here" in launch(home, data, "update", "--undo")
    assert_opens(home, data)
    assert re.search("(?s)Momo two.*Momo one|Momo one.*Momo two", launch(home, data, "runs"))
    launch(home, data, "export", "Momo two")
    after = load_file(first)
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
