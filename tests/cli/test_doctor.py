"""The doctor never falls ill itself, names what is wrong with a remedy, and gives nothing private
away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from blockskip.cli import doctor, nvidia_cards
from blockskip.core.privacy import redact
from blockskip.memory import monitor

FILE = Path(doctor.__file__)


@pytest.fixture(scope="module")
def found():
    return doctor.doctor()


@pytest.fixture
def quick(monkeypatch):
    """Torch is tried in another process, which takes seconds: once is enough."""
    monkeypatch.setattr(
        doctor, "_try_torch", lambda: (True, "cpu", "2.13.0 computes on cpu", "build")
    )


def line(name):
    return next(x for x in doctor.doctor().lines if x.name == name)


def test_torch_is_really_asked_to_multiply(found):
    torch = next(x for x in found.lines if x.name == "torch")
    assert "computes on" in torch.text and "WRONGLY" not in torch.text


def test_all_that_matters_is_looked_at_and_every_trouble_has_a_remedy(found):
    names = [x.name for x in found.lines if x.name not in ("graphics card", "launcher", "proxy")]
    assert names == [
        *("system", "folder", "packages", "environment"),
        *("torch", "memory", "data folder", "demo model"),
    ]
    assert all(bool(x.remedy) == (x.state != doctor.OK) for x in found.lines)
    assert all(f"{x.state:8} {x.name}" in found.text() for x in found.lines)


def test_json_is_one_object_and_the_report_is_one_file(quick, capsys, tmp_path):
    code = doctor.run_doctor(tmp_path / "report.txt", as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert (data["state"] == "problem") == bool(code)
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert all(x["name"] in text for x in data["lines"])
    assert doctor.run_doctor(tmp_path / "none" / "report.txt") == 2
    assert "could not be written" in capsys.readouterr().err


def test_a_further_check_that_fails_leaves_the_other_findings(quick, capsys):
    def measured_lines():
        raise OSError("no such device")

    doctor.run_doctor(as_json=True, more=measured_lines)
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [x["name"] for x in lines[-2:]] == ["demo model", "measured_lines"]
    assert "no such device" in lines[-1]["text"] and lines[-1]["state"] == doctor.WARNING


def test_nothing_private_is_told(quick, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    monkeypatch.setenv("BLOCKSKIP_DATA", str(Path.home() / "cats"))
    text = doctor.doctor().text()
    assert "secret" not in text and str(Path.home()) not in text.replace(str(doctor.ROOT), "")
    assert f"~{os.sep}cats" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{Path.home()}/cats", "~/cats"),
        (f"'{Path.home()}'", "'~'"),
        (f"{Path.home()}zone/x", f"{Path.home()}zone/x"),
        ("a hf_AbC123 b", "a (token) b"),
        ("https://anna:pass@host/x", "https://host/x"),
    ],
)
def test_redact(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize("page_file_gib, state", [(8.0, doctor.WARNING), (30.0, doctor.OK)])
def test_a_page_file_smaller_than_the_card_is_told(monkeypatch, page_file_gib, state):
    usage = monitor.Usage(1, 8, 16, 2.0, 12.0)
    monkeypatch.setattr(monitor, "usage", lambda: usage)
    monkeypatch.setattr(
        monitor, "commit", lambda: monitor.Commit(16 + page_file_gib, 7.0, page_file_gib)
    )
    found = doctor._memory()[-1]
    assert (found.name, found.state) == ("page file", state)
    assert f"{page_file_gib} GiB, the card has 12.0" in found.text


def test_one_look_that_fails_does_not_end_the_visit(quick, monkeypatch):
    def _memory():
        raise RuntimeError("no such counter")

    monkeypatch.setattr(doctor, "_memory", _memory)
    assert line("memory").state == doctor.WARNING and "no such counter" in line("memory").text
    assert line("demo model")


def test_a_wrong_or_missing_package_is_named(quick, monkeypatch):
    wanted = {"torch": "2.13.0", "pytest": "0.1", "no-such-package": "1.0"}
    monkeypatch.setattr(doctor, "pins", lambda extra="": wanted)
    text = line("packages").text
    assert line("packages").state == doctor.PROBLEM
    assert "no-such-package 1.0 wanted, none found" in text and "pytest 0.1 wanted" in text
    assert "torch" not in text, "2.13.0+cpu is a build of 2.13.0"


def test_a_card_that_torch_does_not_use_is_told_with_the_way_out(quick, monkeypatch):
    monkeypatch.setattr(
        nvidia_cards, "describe", lambda: ["RTX 3060, driver 555, 11.0 of 12.0 GiB free"]
    )
    assert line("graphics card").text.startswith("RTX 3060")
    assert line("torch").state == doctor.WARNING and "although there is a" in line("torch").text
    monkeypatch.setattr(nvidia_cards, "describe", list)
    assert "need a graphics card" in line("torch").remedy


@pytest.mark.parametrize(
    ("capability", "remedy"),
    [
        (12.0, "Update the card's driver"),
        (6.1, "BLOCKSKIP_TORCH=cu126"),
        (8.6, "Or choose the build"),
    ],
)
@pytest.mark.parametrize(
    "tried", [(False, "", "no kernel image"), (True, "cpu", "computes on cpu")]
)
def test_a_card_without_kernels_is_told_which_build_to_take(monkeypatch, capability, remedy, tried):
    monkeypatch.setattr(nvidia_cards, "describe", lambda: ["a card"])
    monkeypatch.setattr(nvidia_cards, "capability", lambda: capability)
    monkeypatch.setattr(doctor, "_try_torch", lambda: (*tried, doctor.BUILD))
    found = doctor._graphics_card()[-1]
    assert found.state != doctor.OK and remedy in found.remedy
    assert ("cu126" in found.remedy) == (capability < 10)


@pytest.mark.parametrize("device", ["cuda", "xpu", "mps"])
def test_a_card_that_is_not_nvidias_is_called_untried(monkeypatch, device):
    """With AMD's build of torch the device is called cuda, and there is no NVIDIA driver."""
    monkeypatch.setattr(nvidia_cards, "describe", list)
    monkeypatch.setattr(doctor, "_try_torch", lambda: (True, device, "computes", doctor.BUILD))
    (found,) = doctor._graphics_card()
    assert found.state == doctor.WARNING and found.remedy == doctor.UNTRIED


@pytest.mark.skipif(os.name == "nt", reason="the pretended Python is a shell script")
@pytest.mark.parametrize("script", ["kill -SEGV $$", "echo Killed", "exit 3"])
def test_a_driver_that_kills_its_caller_kills_only_the_messenger(monkeypatch, tmp_path, script):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    works, _, text, remedy = doctor._try_torch()
    assert not works and "hung or killed" in text and "BLOCKSKIP_TORCH" in remedy


def test_a_card_that_computes_wrongly_or_not_at_all_is_a_problem(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "equal", lambda a, b: False)
    assert not doctor._multiply()[0]

    def no_kernel(*_):
        raise RuntimeError("no kernel image is available\nfor execution")

    monkeypatch.setattr(torch, "equal", no_kernel)
    works, _, text, remedy = doctor._multiply()
    assert not works and text.endswith("no kernel image is available") and remedy == doctor.BUILD


@pytest.mark.parametrize(
    ("root", "state"),
    [
        ("C:\\BlockSkip", doctor.OK),
        ("C:\\" + "x" * 60, doctor.WARNING),
        ("C:\\Users\\Jürgen\\BlockSkip", doctor.WARNING),
        ("C:\\Users\\anna\\OneDrive\\BlockSkip", doctor.WARNING),
        ("C:\\a;b", doctor.PROBLEM),
    ],
)
def test_folders_that_windows_stumbles_over(monkeypatch, root, state):
    monkeypatch.setattr(doctor, "os", SimpleNamespace(name="nt", pathsep=";"))
    monkeypatch.setattr(doctor, "ROOT", root)
    assert doctor._folder()[0].state == state


@pytest.mark.parametrize("harm", ["cut", "pointer", "text", "gone"])
def test_a_damaged_demo_model_is_named(quick, monkeypatch, tmp_path, harm):
    import numpy
    from safetensors.numpy import save_file

    folder = tmp_path / "assets" / "demo-model"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    weights = folder / "vae" / "weights.safetensors"
    save_file({"a": numpy.zeros(1000, dtype="float32")}, weights)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "_packages", list)
    assert doctor._demo()[0].state == doctor.OK
    match harm:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "pointer":
            weights.write_text("version https://git-lfs.github.com/spec/v1\n")
        case "text":
            (folder / "model_index.json").write_text("<html>")
        case "gone":
            weights.unlink()
    found = doctor._demo()[0]
    assert found.state == doctor.PROBLEM
    assert {"text": "model_index.json", "gone": "not complete"}.get(
        harm, weights.name
    ) in found.text


def test_a_full_or_forbidden_data_folder(quick, monkeypatch):
    def free(gib):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gib * doctor.GIB))
        return line("data folder").state

    assert [free(x) for x in (1, 20, 100)] == [doctor.PROBLEM, doctor.WARNING, doctor.OK]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert free(100) == doctor.PROBLEM


def test_a_missing_drive_ends_the_search_for_its_folder(quick, monkeypatch):
    """On Windows Z:\\ is its own parent and may not exist."""
    from blockskip.core import files
    from blockskip.core.errors import UserError

    monkeypatch.setattr(Path, "exists", lambda self: False)
    data = line("data folder")
    assert data.state == doctor.PROBLEM and data.text.endswith("is not there.")
    assert "BLOCKSKIP_DATA" in data.remedy
    with pytest.raises(UserError, match="The drive .* is not there"):
        files.free_bytes(Path("models") / "flux-dev")


def test_it_runs_as_a_plain_file_where_no_package_is_installed(tmp_path):
    command = [sys.executable, "-I", "-S", FILE, "--report", tmp_path / "report.txt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr == ""
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert "torch 2.13.0 wanted, none found" in text and "Overall: problem." in text
    fits = subprocess.run([sys.executable, "-I", "-S", FILE, "fits"], timeout=60)
    assert fits.returncode > 0
