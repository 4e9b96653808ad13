"""Pictures kept as one: which are on it, never a photo, and what is not there is not found."""

import io
from pathlib import Path

import pytest
from PIL import Image

from blockskip.core import files
from blockskip.core.errors import NotFound, UserError
from blockskip.core.validation import validated
from blockskip.studio import contact_sheets, downloads
from blockskip.studio.contact_sheets import CELL_PX, Query


def test_a_pair_and_all_steps(finished):
    pair = contact_sheets.sheet(finished, Query(kind="pair", step=150))
    assert len(pair.columns) == 2 and len(pair.rows) == 1 and pair.name == "Momo step 150"
    steps = contact_sheets.sheet(finished, Query(kind="steps"))
    assert len(steps.rows) > 1 and len(steps.columns) > 2
    paths = [path for made in (pair, steps) for _, row in made.rows for path in row if path]
    assert paths and all("previews" in path.parts for path in paths), "no photo of the user's"
    image = Image.open(io.BytesIO(contact_sheets.draw(steps)))
    assert image.width > len(steps.columns) * CELL_PX and image.format == "PNG"


def test_what_is_not_there_is_not_found(finished):
    with pytest.raises(NotFound):
        contact_sheets.sheet(finished, Query(kind="own"))
    with pytest.raises(NotFound):
        contact_sheets.sheet(finished, Query(kind="pair", step=150, prompt=99))


@pytest.mark.parametrize(
    "sent", [{}, {"kind": "photos"}, {"kind": "pair", "step": "x"}, {"kind": "pair", "step": -1}]
)
def test_a_wrong_request_is_refused(sent):
    with pytest.raises(UserError):
        validated(Query, sent, "The picture")


def test_a_picture_that_is_gone_is_a_blank(finished, tmp_path):
    lost = contact_sheets.Sheet("Momo", "", ["a"], [("<b>long " * 40, [tmp_path / "no.png"])], "x")
    assert Image.open(io.BytesIO(contact_sheets.draw(lost))).height > CELL_PX


def test_the_names_of_downloads_tell_the_step(tmp_path):
    name = downloads.file_name
    assert name(tmp_path / "momo.safetensors", 300) == "momo-step300.safetensors"
    assert name(tmp_path / "momo-step75.safetensors", 75) == "momo-step75.safetensors"
    assert name(tmp_path / "momo-kohya.safetensors", 300) == "momo-kohya-step300.safetensors"


def test_a_workflow_loads_the_file_as_it_is_downloaded(finished, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = finished.export_path("")
    path.parent.mkdir(exist_ok=True)
    node = {"type": "LoraLoaderModelOnly", "widgets_values": [path.name, 1.0]}
    source = path.with_name(f"{path.stem}.workflow.json")
    files.write_json(source, {"nodes": [node]})
    served = files.read_json(Path(downloads.workflow(finished, path, 300)))
    assert served["nodes"][0]["widgets_values"] == [f"{path.stem}-step300.safetensors", 1.0]
    assert files.read_json(source)["nodes"] == [node], "the run's own is as it was"
