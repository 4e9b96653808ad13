"""Downloads from a server shaped like the hub: gated, cut off, too big for the disk, offline
after."""

import dataclasses
import json
import shutil

import pytest
from helpers.hub_server import Hub, serve
from huggingface_hub import constants, file_download

from blockskip.core import presets
from blockskip.core.errors import BadFile, DiskFull, ModelMissing, Unreachable, UserError
from blockskip.core.paths import ASSETS
from blockskip.models import sources
from blockskip.models.sources import hub as ours
from blockskip.models.sources import hub_api

DEMO = ASSETS / "demo-model"
REPOSITORY = "some-lab/Tiny-FLUX"
# names that would leave the download's folder, or be something else on Windows
OUTSIDE = ("../out/x.json", "/elsewhere/x.json", "C:/x.json", "vae//x.json", "vae/..\\x.json")
OUTSIDE += ("vae/CON.json", "vae/x:y.json")
BIG = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def files():
    """The demo model as a repository, with what must not be fetched beside it."""
    found = {p.relative_to(DEMO).as_posix(): p.read_bytes() for p in DEMO.rglob("*.*")}
    unwanted = {
        "flux1-tiny.safetensors": b"w" * 2000,
        "text_encoders/t5xxl_fp16.safetensors": b"w" * 2000,
        "text_encoder/model.fp16.safetensors": b"w" * 2000,
        "text_encoder/model.fp16-00001-of-00002.safetensors": b"w" * 2000,
        "README.md": b"about",
        **dict.fromkeys(OUTSIDE, b"{}"),
    }
    return {**found, **unwanted}


@pytest.fixture
def row(monkeypatch):
    """A model that is nowhere but on the hub."""
    row = dataclasses.replace(
        presets.model_row("demo"),
        name="tiny",
        title="Tiny FLUX",
        source=REPOSITORY,
        comfyui=presets.model_row("flux-dev").comfyui,
    )
    monkeypatch.setattr("blockskip.models.sources.hub.RESERVED_BYTES", 0)
    return row


@pytest.fixture
def online(monkeypatch, tmp_path):
    """huggingface_hub reads its settings when it is imported: changed where it keeps them."""

    def turn(endpoint="", token=""):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
        monkeypatch.setenv("HF_TOKEN", token)

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    return turn


def test_a_gated_model_wants_a_token_and_then_stays(files, row, online):
    hub = Hub(REPOSITORY, files, token="hf_good", guest="hf_other")
    with serve(hub) as endpoint:
        online(endpoint)
        with pytest.raises(UserError) as refused:
            sources.fetch(row)
        assert (
            "is gated" in refused.value.title and f"{endpoint}/{REPOSITORY}" in refused.value.remedy
        )
        assert row.licence in refused.value.remedy and "HF_TOKEN" in refused.value.remedy
        online(endpoint, token="hf_other")
        with pytest.raises(ModelMissing, match="not let in yet"):
            sources.fetch(row)
        online(endpoint, token="hf_withdrawn")
        with pytest.raises(ModelMissing, match="does not know your token"):
            sources.fetch(row)
        online(endpoint, token="hf_good")
        source = sources.fetch(row)
        got = {p.relative_to(source.folder).as_posix() for p in source.folder.rglob("*.*")}
        assert got == wanted_of(files) | {"fetched.json"}
        assert all((source.folder / n).read_bytes() == files[n] for n in got - {"fetched.json"})
        hub.files = {**files, "scheduler/scheduler_config.json": b"{}"}  # another version
        asked = len(hub.asked)
        sources.fetch(row)
        (again,) = [a[1] for a in hub.asked[asked:] if a[0] == "GET" and "resolve" in a[1]]
        assert again.endswith("scheduler_config.json")
    online()
    assert sources.find_model(row) == source, "offline ever after"
    assert set(sources.check_model(source)) == {
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
    }
    with pytest.raises(Unreachable, match="offline mode is on"):
        sources.fetch(row)


def test_an_interrupted_download_goes_on_where_it_stopped(files, row, online, monkeypatch):
    hub, chunk = Hub(REPOSITORY, files), 1 << 20
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)  # 10 MiB, all of which are lost
    hub.cut_after = 5_000_000
    with serve(hub) as endpoint:
        online(endpoint)
        with pytest.raises(Unreachable, match="interrupted"):
            sources.fetch(row)
        with pytest.raises(ModelMissing, match="not finished.*fetch tiny"):
            sources.find_model(row)
        (part,) = ours.download_folder(row).rglob("*.part")
        assert part.stat().st_size == 4 * chunk
        part.with_name("old.safetensors.aaaa.part").write_bytes(b"of another version")
        hub.cut_after, before = -1, len(hub.asked)
        source = sources.fetch(row)
        ranges = [r for m, p, r in hub.asked[before:] if m == "GET" and p.endswith(BIG)]
        assert ranges == [f"bytes={4 * chunk}-"]
        assert (source.folder / BIG).read_bytes() == files[BIG]
        assert not list(source.folder.rglob("*.part"))
        note = json.loads((source.folder / "fetched.json").read_text(encoding="utf-8"))
        del note["files"][BIG]  # ended after the file had its name, before that was noted
        (source.folder / "fetched.json").write_text(json.dumps(note), encoding="utf-8")
        part.write_bytes(files[BIG] + b"more than there is")
        asked = len(hub.asked)
        sources.fetch(row)
        assert not part.exists() and not [
            p for m, p, _ in hub.asked[asked:] if m == "GET" and p.endswith(BIG)
        ]


def test_a_power_cut_in_a_download_costs_the_end_of_one_file(files, row, online, monkeypatch):
    """The size of a partial file was on the disk, its last bytes were not."""
    hub, chunk = Hub(REPOSITORY, files), 1 << 20
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)
    monkeypatch.setattr(ours, "SYNC_BYTES", chunk)
    hub.cut_after = 5_000_000
    with serve(hub) as endpoint:
        online(endpoint)
        with pytest.raises(Unreachable):
            sources.fetch(row)
        (part,) = ours.download_folder(row).rglob("*.part")
        part.write_bytes(part.read_bytes()[: 3 * chunk] + bytes(chunk))
        hub.cut_after, before = -1, len(hub.asked)
        source = sources.fetch(row)
        ranges = [r for m, p, r in hub.asked[before:] if m == "GET" and p.endswith(BIG)]
        assert ranges == [f"bytes={4 * chunk}-", f"bytes={3 * chunk}-"]
        assert (source.folder / BIG).read_bytes() == files[BIG]


def test_an_offer_says_what_must_still_come(files, row, online, monkeypatch):
    row = dataclasses.replace(row, download_gib=31.4, gated=True)
    wanted = sum(len(data) for name, data in files.items() if name in wanted_of(files))

    def said():
        online()  # an offer asks no network
        return {k: sources.status_dict(row)[k] for k in ("state", "download_gib", "fits")}

    monkeypatch.setattr(ours.files, "free_bytes", lambda folder: 32 * 2**30)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 20)
    monkeypatch.setattr("blockskip.models.sources.availability.hub.RESERVED_BYTES", 2**30)
    assert said() == {"state": "missing", "download_gib": 31.4, "fits": False}
    hub = Hub(REPOSITORY, files)
    hub.cut_after = 5_000_000
    with serve(hub) as endpoint:
        online(endpoint)
        with pytest.raises(Unreachable, match="interrupted"):
            sources.fetch(row)
        here = sum(
            p.stat().st_size for p in ours.download_folder(row).rglob("*") if p.suffix != ".json"
        )
        assert said()["state"] == "partial" and said()["fits"]
        texts = sum(len(data) for name, data in files.items() if name.endswith(".json"))
        assert abs(ours.missing_bytes(row) + here - wanted) <= texts
        hub.cut_after, seen = -1, []
        online(endpoint)
        folder = sources.fetch(row, lambda *told: seen.append(told)).folder
    assert said() == {"state": "ready", "download_gib": 0, "fits": True}
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert {total for _, total, _ in seen} == {wanted} and seen[-1][0] == wanted
    (folder / BIG).write_bytes(files[BIG][:-1])
    assert (
        said()["state"] == "broken"
        and f"{BIG}, of Tiny FLUX" in sources.status_dict(row)["problem"]
    )
    assert ours.missing_bytes(row) == len(files[BIG])


def wanted_of(files):
    """The names that a download takes."""
    unwanted = (*OUTSIDE, "text_encoders/", "text_encoder/model.fp16")
    return {n for n in files if "/" in n and not n.startswith(unwanted)} | {"model_index.json"}


def test_a_damaged_file_is_thrown_away_and_a_small_disk_is_told_first(
    files, row, online, monkeypatch
):
    hub = Hub(REPOSITORY, files)
    with serve(hub) as endpoint:
        online(endpoint)
        with monkeypatch.context() as small:
            small.setattr(ours.files, "free_bytes", lambda folder: 1_000_000)
            with pytest.raises(DiskFull, match="needs 0.0 GiB, and the drive of"):
                sources.fetch(row)
        assert not [a for a in hub.asked if a[0] == "GET" and "resolve" in a[1]]
        assert not ours.download_folder(row).exists()
        hub.damaged = True
        with pytest.raises(BadFile, match="arrived damaged"):
            sources.fetch(row)
        hub.damaged = False
        assert (sources.fetch(row).folder / BIG).read_bytes() == files[BIG]


def test_another_model_under_that_name_is_never_taken_for_it(files, row, online):
    """All of it arrives, sound, and is a FLUX of another size."""
    row = dataclasses.replace(presets.model_row("flux-dev"), source=REPOSITORY)
    with serve(Hub(REPOSITORY, files)) as endpoint:
        online(endpoint)
        with pytest.raises(BadFile, match="does not hold FLUX.1-dev: this is Demo pets"):
            sources.fetch(row)
    online()
    said = sources.status_dict(row)
    assert not said["ready"] and "does not hold FLUX.1-dev: this is" in said["problem"]


def test_no_connection_is_one_plain_sentence(row, online):
    online("http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="cannot be reached"):
        sources.fetch(row)


def test_a_model_in_the_hubs_own_cache_is_used(files, row, online, tmp_path):
    online()
    with pytest.raises(ModelMissing, match="use-comfyui"):
        sources.find_model(row)
    from helpers.hub_server import COMMIT

    cache = tmp_path / "hub cache" / "models--some-lab--Tiny-FLUX"
    shutil.copytree(DEMO, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    assert sources.find_model(row).folder == cache / "snapshots" / COMMIT
    (cache / "snapshots" / COMMIT / BIG).unlink()
    with pytest.raises(ModelMissing, match="is not on this machine"):
        sources.find_model(row)
    assert json.loads(json.dumps(sources.status_dict(row)))["ready"] is False


def test_weights_of_parts_that_a_model_has_not_are_left_out():
    row = presets.model_row("flux3-klein")
    assert row.parts and hub_api.is_needed(row, "text_encoder/model-00001-of-00002.safetensors")
    assert hub_api.is_needed(row, "prompt_upsampler/config.json"), "small"
    assert not hub_api.is_needed(row, "prompt_upsampler/model.safetensors")
    assert hub_api.is_needed(presets.model_row("flux-dev"), "vae/model.safetensors"), "no parts"
