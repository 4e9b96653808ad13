"""What the environment says of the network reaches who needs it, and nobody else."""

import os

import pytest

from blockskip.core import environment, paths, processes
from blockskip.core.errors import BadFile, BadInput

NETWORK = {
    "http_proxy": "http://a:1",
    "HTTPS_PROXY": "http://b:2",
    "all_proxy": "socks5://c:3",
    "ALL_PROXY": "socks5h://c:3",
    "no_proxy": "localhost,127.0.0.0/8,[::1]",
    "SSL_CERT_FILE": "/nowhere.pem",
}


@pytest.fixture
def variables(monkeypatch):
    monkeypatch.setattr(environment, "_set_aside", {})
    own = {k: v for k, v in os.environ.items() if k.upper() not in environment._NETWORK}
    monkeypatch.setattr(os, "environ", own)
    return own


def test_the_studio_has_no_proxy_and_its_downloads_have(variables):
    variables |= NETWORK | {"GRADIO_SERVER_PORT": "x", "GRADIO_SHARE": "True", "OTHER": "kept"}
    variables |= {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"}
    environment.isolate()
    environment.isolate()  # nothing is lost by a second call
    left = {name for name in os.environ if name in NETWORK or name.startswith("GRADIO_")}
    assert left == {"GRADIO_ANALYTICS_ENABLED"} <= environment.TELEMETRY_OFF.keys()
    assert environment.TELEMETRY_OFF.items() <= processes.child_environment(True).items()
    online, offline = processes.child_environment(True), processes.child_environment(False)
    assert {name: online[name] for name in NETWORK} == NETWORK
    assert not NETWORK.keys() & offline.keys() and offline["HF_HUB_OFFLINE"] == "1"
    assert not {"PYTHONWARNINGS", "PYTHONOPTIMIZE"} & (online.keys() | offline.keys())
    assert online["OTHER"] == offline["OTHER"] == "kept" and "HF_HUB_OFFLINE" not in online


def test_the_data_folder_is_a_whole_path_whatever_it_is_called(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for text, folder in (("~/bs", tmp_path / "home" / "bs"), ("a/b", tmp_path / "a" / "b")):
        monkeypatch.setenv("BLOCKSKIP_DATA", text)
        assert paths.data_dir() == folder and processes.child_environment(False)[
            "BLOCKSKIP_DATA"
        ] == str(folder)
    monkeypatch.setenv("BLOCKSKIP_DATA", "~no-such-user/x")
    with pytest.raises(BadInput, match="no such home folder"):
        paths.data_dir()
    (tmp_path / "file").write_bytes(b"x")
    for text, words in (("file", "is a file, but"), ("file/x", "could not be written")):
        monkeypatch.setenv("BLOCKSKIP_DATA", text)
        with pytest.raises(BadFile, match=words):
            paths.make_data_dir()
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.skipif(os.name == "nt", reason="a variable of Linux and macOS")
def test_a_relative_xdg_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "somewhere")
    assert paths.default_dir() == tmp_path / ".local" / "share" / "BlockSkip Studio"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_other_users_cannot_open_what_holds_photos(monkeypatch, tmp_path):
    def modes(folder):
        names = ("", *paths.PRIVATE_FOLDERS)
        return {name: (folder / name).stat().st_mode & 0o777 for name in names}

    closed = dict.fromkeys(("", "runs", "draft", "gradio", "describe"), 0o700)
    monkeypatch.setenv("BLOCKSKIP_DATA", str(tmp_path / "new" / "data"))
    assert modes(paths.make_data_dir()) == closed
    shared = tmp_path / "shared"  # made by the user: it may hold other things too
    (shared / "runs").mkdir(parents=True)
    for folder in (shared, shared / "runs"):
        folder.chmod(0o755)
    monkeypatch.setenv("BLOCKSKIP_DATA", str(shared))
    assert modes(paths.make_data_dir()) == closed | {"": 0o755}
    monkeypatch.delenv("BLOCKSKIP_DATA")
    default = tmp_path / "default"  # made by an earlier version
    default.mkdir()
    default.chmod(0o755)
    monkeypatch.setattr(paths, "default_dir", lambda: default)
    monkeypatch.setattr(paths, "_saved_location", lambda: default)
    assert modes(paths.make_data_dir()) == closed
