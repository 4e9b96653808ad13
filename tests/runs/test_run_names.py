"""Words of the user beside a run: its folder, its photos and its files have names that every system
can hold, and every listed run is found by its name."""

import threading
import unicodedata

import pytest
from PIL import Image
from safetensors import safe_open

from blockskip.core import names, presets
from blockskip.core.errors import BadInput, NotFound
from blockskip.core.settings import Settings
from blockskip.runs import into_comfyui, results, storage
from blockskip.runs.run import Run, create_run, find_run, list_runs, runs_dir

WORDS = [
    "o'hara",
    "luna!",
    'Lu/na:"x',
    "../x",
    "/etc/x",
    "~nobody",
    "con",
    "猫" * 60,
    "a\u202eb",
    "…",
]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(path)
    return path


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("kind", ["cat", "../x"])
def test_any_trigger_gets_a_folder_in_the_data_folder(photo, word, kind):
    run = create_run(Settings(trigger=word, class_name=kind), [photo])
    assert run.folder.parent == runs_dir() and list_runs() == [run] and find_run(run.name) == run
    assert names.is_safe_name(run.name) and len(run.name.encode()) <= 80
    assert run.settings().subject_caption == f"a photo of {word} {kind}", "as it was typed"
    assert names.is_safe_name(run.export_path("-diffusers").stem)
    assert len(run.export_path("-diffusers-step1000000").name.encode()) < 140


def test_an_explicit_path_is_a_path(photo, tmp_path):
    run = create_run(Settings(), [photo], str(tmp_path / "else" / "mine"))
    assert run.folder == tmp_path / "else" / "mine" and find_run(str(run.folder)) == run
    for name in (
        "~nobody",
        "~",
        "~no-such-user/x",
        "a\0b",
        "/a\0b",
        "a/\0",
        "nul",
        "a" * 300,
        "\udcff",
        " ",
    ):
        with pytest.raises(BadInput):
            create_run(Settings(), [photo], name)
        with pytest.raises((BadInput, NotFound)):
            find_run(name)


def test_two_starts_in_a_second_make_two_runs(photo):
    made = []
    starts = [
        threading.Thread(target=lambda: made.append(create_run(Settings(), [photo])))
        for _ in range(4)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert len({run.folder for run in made}) == 4 == len(list_runs())
    assert all(len(list(run.photos_dir.iterdir())) == 1 for run in made)


def test_one_name_makes_one_run_at_once(photo):
    """The slower one of two starts leaves the folder of the other alone."""
    ended = []

    def start():
        try:
            ended.append(create_run(Settings(), [photo], "one"))
        except BadInput as error:
            ended.append(error)

    starts = [threading.Thread(target=start) for _ in range(4)]
    for one in starts:
        one.start()
    for one in starts:
        one.join()
    (run,) = (end for end in ended if isinstance(end, Run))
    assert run.settings() == Settings() and len(list(run.photos_dir.iterdir())) == 1
    assert sum(isinstance(end, BadInput) for end in ended) == 3


def test_names_differ_in_more_than_case(photo):
    create_run(Settings(), [photo], "Zoë")
    for other in ("zoë", unicodedata.normalize("NFC", "ZOË")):
        with pytest.raises(BadInput, match="already a run"):
            create_run(Settings(), [photo], other)
    create_run(Settings(), [photo], "Luna")
    with pytest.raises(BadInput, match="already a run"):
        storage.rename("Luna", "zoë")
    assert storage.rename("Luna", "LUNA").name == "LUNA"
    assert find_run(unicodedata.normalize("NFD", "Zoë")).name == "Zoë"


def test_a_run_is_renamed_where_it_is(photo):
    create_run(Settings(), [photo], "a")
    for name in ("../b", "/tmp/b", "b/c", "con", "", "~"):
        with pytest.raises(BadInput, match="cannot be the name"):
            storage.rename("a", name)
    assert [run.name for run in list_runs()] == ["a"]


ODD = ["good (copy)", "good - Kopie [2]", "o'hara", "a:b", "~x", "\udcff.", "x" * 150, "ends."]


@pytest.mark.parametrize("name", ODD)
def test_what_the_list_shows_can_be_used(photo, name):
    run = create_run(Settings(), [photo], "good")
    run.folder.rename(runs_dir() / name)
    (listed,) = list_runs()
    assert find_run(listed.name) == listed and listed.name.encode() and listed.settings()
    assert names.is_safe_name(listed.export_path().stem)
    renamed = storage.rename(listed.name, "plain")
    assert [r.name for r in list_runs()] == ["plain"]
    renamed.folder.rename(runs_dir() / name)
    assert storage.delete(listed.name) > 0 and not list_runs()


def test_the_export_of_an_odd_run_has_a_plain_name(opened_run, tmp_path):
    run = Run(opened_run.folder.rename(runs_dir() / "good: (copy)?"))
    made = results.export_run(run, "diffusers")
    assert made.path == run.exports_dir / "good_ _copy__-diffusers.safetensors"
    folder = tmp_path / "out"
    folder.mkdir()
    made = results.export_run(run, "comfyui", folder)
    assert made.path.parent == folder and names.is_safe_name(made.path.name)
    with safe_open(made.path, "pt") as file:
        assert file.metadata()["modelspec.trigger_phrase"].endswith("cat")


@pytest.fixture
def opened_run(tmp_path):
    import shutil

    from runs.test_old_runs import DATA, FIRST

    from blockskip.core.paths import ASSETS

    folder = runs_dir() / "done"
    shutil.copytree(DATA / FIRST / "done", folder)
    (folder / "photos").mkdir()
    photo = next((ASSETS / "demo-photos" / "violet-cat").glob("*.jpg"))
    shutil.copyfile(photo, folder / "photos" / f"000-{photo.name}")
    return Run(folder)


def test_photos_keep_what_is_beside_them(tmp_path):
    """Whatever their names: dots, devices, no ending, the same name in two folders."""
    odd = ["a.b.png", "con.png", "v1.5", "猫" * 80 + ".png", "x?*.png", "A.PNG", "no ending"]
    paths = [tmp_path / str(k) / name for k, name in enumerate([*odd, "IMG_1.png", "IMG_1.png"])]
    for k, path in enumerate(paths):
        path.parent.mkdir()
        Image.new("RGB", (64, 64), (k, k, k)).save(path, "PNG")
        path.with_suffix(".txt").write_text(f"caption {k}", encoding="utf-8")
    run = create_run(Settings(), paths)
    copies = sorted(p for p in run.photos_dir.iterdir() if p.suffix != ".txt")
    assert len(copies) == len(paths) and len(list(run.photos_dir.iterdir())) == 2 * len(paths)
    for k, copy in enumerate(copies):
        assert names.is_safe_name(copy.stem[4:]) and len(copy.name.encode()) < 140
        assert copy.with_suffix(".txt").read_text("utf-8") == f"a photo of sks cat, caption {k}\n"
        assert Image.open(copy).getpixel((0, 0)) == (k, k, k)
    assert [p.name for p in copies][:3] == ["000-a.b.png", "001-_con.png", "002-v1.5"]


@pytest.mark.parametrize(
    "pet", [*WORDS, "Luna", "a b." * 30, "x" * 200, "\U0001f431", "", "ÄÖ" * 40]
)
def test_a_copy_in_comfyui_tells_pet_model_and_step(pet):
    rows = list(presets.model_rows().values())
    stems = [into_comfyui.file_stem(pet, row, 600, "run") for row in rows]
    assert all(map(names.is_safe_name, stems)) and len(set(stems)) == len(rows)
    for row, stem in zip(rows, stems, strict=True):
        assert stem.endswith(f" {row.name} step 0600")
        assert stem < into_comfyui.file_stem(pet, row, 1200, "run")
