"""What was learnt: which step and format is handed out, that it is what it says, tidying up."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers import fake_feed

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.events import Loss, Saved, Started, Stopped
from blockskip.core.paths import ASSETS
from blockskip.memory import comfyui_server
from blockskip.models.sources import registry
from blockskip.runs import checkpoints, image_requests
from blockskip.runs.run import Run, create_run, runs_dir
from blockskip.studio import background_jobs, result_actions, run_preferences, strings


def test_a_finished_run_offers_its_file(finished, told):
    parts, _ = told(finished.name)
    assert parts["lora"]["visible"] and parts["lora"]["value"].endswith(
        f"{finished.name}-step300.safetensors"
    )
    assert Path(parts["lora"]["value"]).read_text() == "not a real LoRA"
    assert "Momo is ready" in parts["hero"]["value"] and not parts["resume"]["visible"]
    assert parts["previews"]["value"].count("data-large") == 4 * 5
    assert parts["compare"]["value"].count('type="radio"') == 4, "only steps whose LoRA is kept"
    assert presets.model_row("demo").licence in parts["card"]["value"]
    assert not parts["to_comfyui"]["visible"], "the demo model's LoRA means nothing there"


def test_another_step_is_written_once_and_then_offered(finished, told, begun):
    result_actions.choose_step(finished.name, 150)
    ((key, words),) = begun
    assert (
        key == ("export", finished.name, "comfyui", 150)
        and words[words.index("--step") + 1] == "150"
    )
    parts, _ = told(finished.name)
    assert not parts["lora"]["visible"] and parts["make"]["visible"]
    Path(words[words.index("--out") + 1]).write_text("step 150")
    parts, _ = told(finished.name)
    assert parts["lora"]["visible"] and parts["lora"]["label"] == strings.DOWNLOAD_STEP.format(
        step=150
    )
    assert Path(parts["lora"]["value"]).read_text() == "step 150"
    result_actions.choose_step(finished.name, 300)
    assert Path(told(finished.name)[0]["lora"]["value"]).read_text() == "not a real LoRA"
    assert len(begun) == 1, "what is there is not written again"


def test_what_cannot_be_kept_is_refused(finished, begun):
    for step in (151, "150", None):
        with pytest.raises(UserError):
            result_actions.choose_step(finished.name, step)
    with pytest.raises(UserError):
        result_actions.choose_format(finished.name, "zip")
    assert not begun and result_actions.chosen_step(finished, 300) == 300


def learnt_more(run, steps):
    """The run went on to `steps` steps, and was exported again."""
    run.set_total_steps(steps)
    run.append(Started(steps=steps, resumed_from=300))
    run.append(Loss(step=steps, loss=0.2, seconds=1))
    fake_feed.keep(run, steps)
    run.append(Saved(kind="export", path=f"exports/{run.name}.safetensors", step=steps))


def test_after_learning_more_no_older_file_passes_for_the_newest(finished, told, begun):
    """Files of the last step have no step in their names; then there is a later last step."""
    result_actions.choose_format(finished.name, "diffusers")
    Path(begun[0][1][begun[0][1].index("--out") + 1]).write_text("of step 300")
    assert told(finished.name)[0]["lora"]["visible"]
    learnt_more(finished, 400)
    finished.append(Stopped(reason="stopped", step=400))
    parts, _ = told(finished.name)
    assert not parts["lora"]["visible"] and parts["make"]["visible"]
    result_actions.choose_format(finished.name, "comfyui")
    assert told(finished.name)[0]["lora"]["visible"], "training wrote that one anew"


def test_a_step_learnt_after_the_last_file_can_be_written(finished, told, begun):
    """Paused while it learnt more: the newest step has a checkpoint, but no file yet."""
    finished.append(Started(steps=400, resumed_from=300))
    fake_feed.keep(finished, 350)
    finished.append(Stopped(reason="paused", step=350))
    result_actions.choose_step(finished.name, 350)
    _, words = begun[0]
    assert words[words.index("--step") + 1] == "350"
    Path(words[words.index("--out") + 1]).write_text("of step 350")
    assert Path(told(finished.name)[0]["lora"]["value"]).read_text() == "of step 350"


def test_a_kept_step_stays_kept_when_more_is_learnt(finished, told):
    result_actions.choose_step(finished.name, 150)
    learnt_more(finished, 400)
    finished.append(Stopped(reason="stopped", step=400))
    assert result_actions.chosen_step(finished, 400) == 150
    assert 'data-kept="150"' in told(finished.name)[0]["compare"]["value"]


def test_a_failed_export_is_told(finished, told, monkeypatch):
    error = UserError("The disk is <full>.", "Free some space.")
    monkeypatch.setitem(background_jobs._errors, ("export", finished.name, "kohya", 300), error)
    run_preferences.save(finished, format="kohya")
    parts, _ = told(finished.name)
    assert "The disk is &lt;full&gt;. Free some space." in parts["hero"]["value"]
    assert parts["make"]["visible"] and parts["make"]["interactive"]


def test_only_files_that_the_model_has_are_offered(finished, told, begun, monkeypatch):
    parts, _ = told(finished.name)
    assert [name for _, name in parts["format"]["choices"]] == ["comfyui", "diffusers", "kohya"]
    with pytest.raises(UserError, match="native"):
        result_actions.choose_format(finished.name, "native")
    row = dataclasses.replace(presets.model_row("flux-dev"), family="sana", title="SANA <1.5>")
    settings = finished.settings().changed(model="flux-dev")
    monkeypatch.setattr(presets, "model_row", lambda name: row)
    monkeypatch.setattr(type(finished), "settings", lambda run: settings)
    result_actions.choose_format(finished.name, "native")
    assert begun[0][0] == ("export", finished.name, "native", 300)
    parts, _ = told(finished.name)
    assert [name for _, name in parts["format"]["choices"]] == ["comfyui", "diffusers", "native"]
    assert "ComfyUI does not include SANA &lt;1.5&gt;" in parts["hero"]["value"]
    with pytest.raises(UserError, match="kohya"):
        result_actions.choose_format(finished.name, "kohya")


def test_renaming_changes_the_page_and_not_the_word(finished, told):
    result_actions.rename(finished.name, "  Sir   <Fluff>  ")
    assert run_preferences.pet_name(finished) == "Sir <Fluff>"
    parts, _ = told(finished.name)
    assert (
        "Sir &lt;Fluff&gt;" in parts["status"]["value"] and "<b>momo</b>" in parts["hero"]["value"]
    )
    result_actions.rename(finished.name, "  ")
    assert run_preferences.pet_name(finished) == "Sir <Fluff>", "no name is no new name"


def test_deleting_takes_everything_and_nothing_else(finished, pet, told):
    other = fake_feed.make_run(pet, name="other")
    told(finished.name)
    result_actions.delete(finished.name)
    assert not finished.folder.exists() and other.folder.exists() and all(p.exists() for p in pet)
    assert strings.NO_RUN in told(finished.name)[0]["messages"]["value"]
    fake_feed.seem_alive(other)
    with pytest.raises(UserError, match="running"):
        result_actions.delete(other.name)


def test_the_model_card_tells_the_truth(finished):
    words = result_actions.model_card(finished, 150, 5, {"by_step": {150: {"subject": 0.876}}})
    settings = finished.settings()
    for said in (
        "Momo",
        "cat",
        "momo cat",
        "5 photos",
        "150 steps",
        f"rank {settings.rank}",
        "0.88",
    ):
        assert said in words, said
    assert presets.model_row("demo").licence in words
    assert "0.88" not in result_actions.model_card(
        finished, 75, 5, {"by_step": {150: {"subject": 0.876}}}
    )


def test_a_picture_needs_a_prompt(finished, monkeypatch):
    monkeypatch.setattr(image_requests, "ensure_worker", lambda run: None)
    for prompt in ("", "   ", None):
        with pytest.raises(UserError, match="prompt"):
            result_actions.request_images(finished.name, prompt, None, 1.0)
    result_actions.choose_step(finished.name, 150)
    result_actions.request_images(finished.name, "momo  on a boat", 7.0, 0.5)
    (one,) = image_requests.all_requests(finished)
    assert (one.prompt, one.seed, one.strength, one.step) == ("momo on a boat", 7, 0.5, 150)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real LoRA, made as quickly as can be: two steps, pictures of one sampling step."""
    from blockskip.data.photos import find_photos
    from blockskip.memory.planning.planner import choose_settings
    from blockskip.runs import worker_process

    folder = tmp_path_factory.mktemp("runs ü")
    pet = sorted(p for p in (ASSETS / "demo-photos").glob("*") if p.is_dir())[0]
    settings = choose_settings(steps=2, batch=1, window_steps=2, preview_every=1, preview_steps=1)
    run = create_run(settings, find_photos([pet]), str(folder / "pet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSKIP_DATA", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        worker_process.work(run)
    return run


def test_export_over_the_api_writes_and_checks_the_file(trained, monkeypatch):
    """By children of the studio, which itself never loads torch."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    target = runs_dir() / "pet"
    shutil.copytree(trained.folder, target)
    assert checkpoints.saved_steps(Run(target)) == [1, 2]
    path = Path(result_actions.export("pet", "diffusers", 1))
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert path.parent == target / "exports" and len(header) > 10
    assert any(key.startswith("transformer.") for key in header)
    with pytest.raises(UserError):
        result_actions.export("pet", "comfyui", 3)
    with pytest.raises(UserError):
        result_actions.export("pet", "zip")


def test_the_chosen_step_goes_into_comfyui(finished, told, tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui_server, "USUAL_PORTS", ())
    fake_feed.change_model(finished, "z-image")
    with pytest.raises(UserError, match="No ComfyUI folder was chosen"):
        result_actions.copy_to_comfyui(finished.name)
    assert not told(finished.name)[0]["to_comfyui"]["visible"]
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    registry.save_comfyui_folders([tmp_path / "ComfyUI"])
    assert told(finished.name)[0]["to_comfyui"]["visible"]
    result_actions.choose_step(finished.name, 150)
    with pytest.raises(UserError, match="has not been written yet"):
        result_actions.copy_to_comfyui(finished.name)
    lora = result_actions.lora_path(finished, "comfyui", 150, 300)
    lora.write_text("step 150")
    result_actions.copy_to_comfyui(finished.name)
    there = tmp_path / "ComfyUI" / "models" / "loras" / "Momo z-image step 0150.safetensors"
    assert there.read_text() == "step 150"
    assert f"Copied into ComfyUI: {there}." in told(finished.name)[0]["hero"]["value"]
