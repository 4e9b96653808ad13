"""A peer's script beside ours: what is run and what the page says. The script itself is not here."""

import sys

import pytest

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.lab.bench import peer, peer_report
from blockskip.lab.bench.peer import ABOUT, DemoModel, PeerPlan, run_peer

LIKE = "class DreamBoothDataset: pass\nlength = 77\nother = dict(max_length=77)\nsize = 1771\n"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "given" / peer.SCRIPT
    files.write_text(path, LIKE)
    return path


def test_the_script_is_run_with_another_text_length_and_nothing_else(tmp_path, script, monkeypatch):
    given = {"seconds": 10.0, "peak_mib": 700, "training_seconds": 8.0, "processor_seconds": 9.0}
    likeness = {"pet": 0.9, "beach": 0.8, "snow": 0.6, "class_word": 0.2}
    ran = []

    def run(plan, model, name, folder):
        ran.append(name)
        return given | {"likeness": likeness}

    monkeypatch.setattr(peer, "_run", run)
    monkeypatch.setattr(peer, "_versions", lambda python: {"torch": "2", "torchvision": "0"})
    report = run_peer(PeerPlan(script=script, work=tmp_path / "work", rounds=2))
    assert ran == 2 * list(ABOUT) and ran[0] == "script"
    copy = (tmp_path / "work" / peer.SCRIPT).read_text()
    assert copy == LIKE.replace("77\n", "22\n").replace("=77)", "=22)")
    assert script.read_text() == LIKE and report["tokens"]["places"] == 2
    report |= {"command": "c", "machine": {"processor": "p", "system": "s", "date": "d"}}
    page = peer_report.markdown(report)
    assert page.count("| 10 | 9 | 0.0033 | 700 | 0.900 | 0.700 | 0.200 |") == len(ABOUT)
    assert "2 round(s)" in page and report["script"]["sha256"] in page


def test_both_train_the_same_layers_in_the_same_steps(tmp_path, script):
    plan = PeerPlan(script=script, work=tmp_path, python="py", steps=40, seed=3)
    settings, model = plan.settings(skip="0,0", prior=0.0), DemoModel()
    command = peer._script_command(plan, model, settings, tmp_path / "photos", tmp_path / "out")
    assert command[:2] == ["py", str(tmp_path / peer.SCRIPT)]
    given = dict(word.removeprefix("--").split("=", 1) for word in command[2:-1])
    assert {key: given[key] for key in ("rank", "train_batch_size", "max_train_steps", "seed")} == {
        "rank": "16",
        "train_batch_size": "8",
        "max_train_steps": "40",
        "seed": "3",
    }
    assert (given["learning_rate"], given["instance_prompt"]) == ("0.003", "a photo of sks cat")
    layers = given["lora_layers"].split(",")
    assert {name.split(".")[0] for name in layers} == {
        "transformer_blocks",
        "single_transformer_blocks",
    }
    assert not settings.plan.skips and not settings.preview_prompts and settings.threads == 1


@pytest.mark.parametrize("text", ["", "class DreamBoothDataset: pass", "length = 77"])
def test_another_file_is_refused_by_name(tmp_path, script, text):
    script.write_text(text)
    with pytest.raises(UserError, match=peer.SCRIPT):
        run_peer(PeerPlan(script=script, work=tmp_path / "work"))


@pytest.mark.parametrize("python", ["/no/such/python", sys.executable])
def test_an_interpreter_without_the_scripts_packages_is_refused(
    tmp_path, script, python, monkeypatch
):
    monkeypatch.setattr(peer, "PACKAGES", ("a-package-nobody-has",))
    with pytest.raises(UserError, match="cannot run") as refused:
        run_peer(PeerPlan(script=script, work=tmp_path / "work", python=python))
    assert "--python" in refused.value.remedy


def test_a_process_that_fails_is_named_with_its_last_words(tmp_path):
    words = [sys.executable, "-c", "import sys; sys.exit('no memory left')"]
    with pytest.raises(UserError, match="no memory left"):
        peer._timed(words, 1, tmp_path / "script-0.log")
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    done = peer._timed([sys.executable, "-c", busy], 1, tmp_path / "a.log")
    assert done["seconds"] > 0 and done["peak_mib"] > 5


def test_the_scripts_last_progress_tells_its_seconds(tmp_path):
    log = tmp_path / "a.log"
    log.write_text(
        "Steps:  99%|x| 99/100 [02:00<00:01, 1.2s/it]\rSteps: 100%|x| 100/100 [02:01<00:00, 1s/it]"
        "\rSteps: 100%|x| 100/100 [1:02:03<00:00, 1s/it]\n"
    )
    assert peer._progress_bar_seconds(log) == 3723
