"""Downloads as real processes, from a server shaped like the hub: killed, started twice, refused."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from helpers.environments import proxy
from helpers.hub_server import COMMIT, Hub, instead
from helpers.waiting import until
from huggingface_hub import constants

from blockskip.core import environment, presets, processes
from blockskip.core.errors import BadInput, ModelMissing, Unreachable
from blockskip.core.paths import ASSETS, PRESETS, ROOT, data_dir
from blockskip.models import sources
from blockskip.models.sources import download_process
from blockskip.models.sources import hub as ours

DEMO = ASSETS / "demo-model"
REPOSITORY = "some-lab/Tiny-FLUX"
BIG = "transformer/diffusion_pytorch_model.safetensors"
ROW = dataclasses.replace(
    presets.model_row("demo"), name="tiny", title="Tiny FLUX", source=REPOSITORY
)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the program that knows one model more."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(
        ROOT / "blockskip", folder / "blockskip", ignore=shutil.ignore_patterns("*.pyc")
    )
    shutil.copytree(PRESETS, folder / "presets")
    models = folder / "presets" / "models.toml"
    text = models.read_text(encoding="utf-8")
    own = text[text.index("[demo]") : text.index("[flux2-klein-4b]")].replace("[demo", "[tiny")
    own = own.replace("assets/demo-model", REPOSITORY).replace("Demo pets (drawn)", ROW.title)
    models.write_text(f"{text}\n{own}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def files():
    """The demo model's parts."""
    found = [DEMO / "model_index.json", *DEMO.glob("*/*.*")]
    return {p.relative_to(DEMO).as_posix(): p.read_bytes() for p in found}


@pytest.fixture
def hub(house, files, monkeypatch, tmp_path):
    """A hub that the processes ask; this process stays offline, as the studio is."""
    monkeypatch.setattr(processes, "ROOT", house)
    with instead(Hub(REPOSITORY, files), monkeypatch, tmp_path / "hf") as hub:
        yield hub
        download_process.stop(ROW)


def ended():
    return until(lambda: (now := download_process.progress(ROW)) and now.state != "running" and now)


def part():
    """The unfinished big file."""
    return next(ours.download_folder(ROW).glob(f"{BIG}.*.part"), None)


def half(hub):
    """A download that has come to the middle of the big file and waits for more."""
    hub.hold_after = 5_000_000
    download_process.start(ROW)
    until(lambda: part() and part().stat().st_size >= 4 << 20)


def test_a_killed_download_goes_on_and_its_bytes_are_right(hub, files):
    assert download_process.progress(ROW) is None
    half(hub)
    now = download_process.progress(ROW)
    assert (now.state, now.file, now.bytes_total) == (
        "running",
        BIG,
        sum(map(len, files.values())),
    )
    download_process._process(ROW).kill()
    assert ended().state == "stopped" and ended().bytes_per_s == 0
    came, before = part().stat().st_size, len(hub.asked)
    hub.hold_after = -1
    download_process.start(ROW)
    now = ended()
    assert (now.state, now.bytes_done, now.eta_s) == ("done", now.bytes_total, 0)
    assert [r for _, p, r in hub.asked[before:] if p.endswith(BIG) and r] == [f"bytes={came}-"]
    folder = sources.find_model(ROW).folder
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert not [p for p in folder.rglob("*") if p.suffix in (".part", ".tmp")]


def test_one_model_is_downloaded_once_at_a_time_and_stop_keeps_what_came(hub):
    hub.hold_after = 5_000_000
    starts = [threading.Thread(target=download_process.start, args=(ROW,)) for _ in range(4)]
    for thread in starts:
        thread.start()
    for thread in starts:
        thread.join()
    until(lambda: part() and part().stat().st_size >= 4 << 20)
    download_process.start(ROW)
    asked = [path for method, path, _ in hub.asked if method == "GET"]
    assert len(asked) == len(set(asked)), "each file once"
    download_process.stop(ROW)
    assert download_process.progress(ROW).state == "stopped" and part().stat().st_size >= 4 << 20
    download_process.stop(ROW)  # nothing to stop


def test_why_it_failed_is_said_in_words(hub, monkeypatch):
    hub.damaged = True
    download_process.start(ROW)
    now = ended()
    assert now.state == "failed" and "arrived damaged" in now.title and now.remedy
    hub.damaged, hub.token = False, "hf_good"
    download_process.start(ROW)
    assert "is gated" in ended().title
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    download_process.start(ROW)
    assert "cannot be reached" in ended().title


def test_a_token_is_kept_only_if_it_opens_the_door(hub, monkeypatch, tmp_path, capfd):
    hub.token = "hf_right"
    for token, kind, why in (
        ("two words", BadInput, "is no token"),
        ("hf_wrong", ModelMissing, "does not know your token"),
        (hub.guest, ModelMissing, "not let in to Tiny FLUX yet"),
    ):
        with pytest.raises(kind, match=why) as refused:
            sources.hub.try_token(ROW, token)
        assert token not in str(refused.value) and sources.hub.token_state() == "none"
    assert f"{REPOSITORY}, then try again" in refused.value.remedy
    with monkeypatch.context() as other:
        other.setenv("HF_TOKEN", "hf_other")
        with pytest.raises(BadInput, match="HF_TOKEN holds another token"):
            sources.hub.try_token(ROW, hub.token)
    with monkeypatch.context() as away:
        away.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(Unreachable, match="cannot be reached"):
            sources.hub.try_token(ROW, hub.token)
    assert sources.hub.token_state() == "none"
    sources.hub.try_token(ROW, f" {hub.token}\n")
    assert sources.hub.token_state() == "kept"
    assert os.name == "nt" or os.stat(constants.HF_TOKEN_PATH).st_mode & 0o777 == 0o600
    assert not [p for m, p, _ in hub.asked if m == "GET" and COMMIT in p], "nothing was downloaded"
    download_process.start(ROW)
    assert ended().state == "done"
    ours_ = [p for p in data_dir().rglob("*") if p.is_file()]
    assert ours_ and not [p for p in ours_ if b"hf_right" in p.read_bytes()]
    assert "hf_right" not in "".join(capfd.readouterr())


@pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C as POSIX does")
def test_ctrl_c_ends_the_command_and_keeps_the_part(hub, house):
    command = [sys.executable, "-m", "blockskip", "models", "fetch", "tiny", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipes["env"] = {**os.environ, "PYTHONPATH": str(house)}  # the launcher's names another
    hub.hold_after = 5_000_000

    def as_in_a_terminal():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background is deaf to it

    process = subprocess.Popen(command, cwd=house, preexec_fn=as_in_a_terminal, **pipes)
    until(lambda: part() and part().stat().st_size >= 4 << 20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not err
    said = json.loads(out)
    assert "partial files are kept" in said["error"] and said["kind"] == "ModelMissing"
    assert download_process.progress(ROW).state == "stopped" and part().stat().st_size >= 4 << 20
    hub.hold_after = -1
    done = subprocess.run(command, cwd=house, **pipes, timeout=100)
    assert done.returncode == 0 and json.loads(done.stdout)["model"] == "tiny"


def test_a_download_of_the_studio_goes_through_the_proxy(hub, monkeypatch):
    """The studio itself has no proxy any more."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with proxy() as (address, asked):
        monkeypatch.setattr(environment, "_set_aside", {"http_proxy": address})
        download_process.start(ROW)
        assert ended().kind == "Unreachable"
        assert f"GET http://hub.invalid/api/models/{REPOSITORY}?blobs=true" in asked


def test_speed_is_of_the_last_seconds_and_never_of_what_was_here_before(monkeypatch):
    now = [100.0]
    clock = SimpleNamespace(time=time.time, monotonic=lambda: now[0], sleep=time.sleep)
    monkeypatch.setattr(download_process, "time", clock)
    monkeypatch.setattr(download_process, "_process", lambda row: psutil.Process())
    report, total, done = download_process._StatusWriter(ROW), 10**9, 500_000_000
    report.update(done, total, "")  # half of it was here
    for second in range(60):
        for _ in range(10):
            done += 100_000 if second < 40 else 200_000
            now[0] += 0.1
            report.update(done, total, BIG)
        if second == 20:
            middle = download_process.progress(ROW)
    last = download_process.progress(ROW)
    assert middle.state == last.state == "running" and last.bytes_done <= done
    assert middle.bytes_per_s == pytest.approx(1e6, rel=0.01)
    assert last.bytes_per_s == pytest.approx(2e6, rel=0.01)
    assert last.eta_s == pytest.approx((total - last.bytes_done) / 2e6, rel=0.01)
