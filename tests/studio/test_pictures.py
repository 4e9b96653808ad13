"""The routes of pictures and crops: a picture, or 404, whatever the address says."""

import io

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from blockskip.studio import draft, pictures

CROPS = {"low": "32", "high": "64", "seed": "0", "patches": "dynamic", "model": "demo"}
NAMES = [
    "%00",
    "a%00.png",
    "%ff%fe",
    "%ED%A0%80",
    "x" * 5000,
    "NUL",
    "COM1.png",
    "con",
    ".",
    "..%2f",
]
NAMES += ["%F0%9F%90%B1.png", "a%0Ab.png", "a:b.png", "%5C%5Cserver%5Cx", "%2Fetc%2Fpasswd", "%25"]
NUMBERS = [
    "abc",
    "",
    "-1",
    "1e9",
    "nan",
    "9" * 5000,
    "0",
    "2.5",
    "٣٢",
    "%00",
    "99999999999999999999",
]
BOXES = [
    "nan,0,1,1",
    "inf,0,1,1",
    "1,1,0,0",
    "0,0,1",
    "0,0,1,1,1",
    "a",
    ",,,",
    "0,0,1e400,1",
    "%00",
]


@pytest.fixture(scope="module")
def client():
    return TestClient(Starlette(routes=pictures.routes()), raise_server_exceptions=False)


@pytest.fixture
def photo(pet):
    return draft.add(pet).photos[0].file


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_odd_names_are_not_found(client, finished, name):
    for kind in ("draft", "photos", "previews", "pictures", name):
        for run in (finished.name, "-", name):
            answer = client.get(f"/blockskip/picture/{kind}/{run}/{name}?size=320")
            assert answer.status_code == 404, (kind, run)
    crops = "&".join(f"{key}={value}" for key, value in CROPS.items())
    assert client.get(f"/blockskip/crops/{name}?{crops}").status_code == 404


def test_odd_numbers_are_not_found(client, photo):
    for size in NUMBERS:
        assert client.get(f"/blockskip/picture/draft/-/{photo}?size={size}").status_code == 404
    wrong = [{key: value} for key in ("low", "high") for value in NUMBERS]
    wrong += [{"seed": value} for value in NUMBERS if value not in ("0", "٣٢")]
    wrong += [{"box": value} for value in BOXES] + [{"patches": "x"}, {"model": "%00"}]
    for change in wrong:
        query = "&".join(f"{key}={value}" for key, value in {**CROPS, **change}.items())
        answer = client.get(f"/blockskip/crops/{photo}?{query}")
        assert answer.status_code == 404, change
    for left_out in CROPS:
        query = "&".join(f"{key}={value}" for key, value in CROPS.items() if key != left_out)
        assert client.get(f"/blockskip/crops/{photo}?{query}").status_code == 404, left_out


def test_what_the_page_asks_for_is_shown(client, photo):
    answer = client.get(pictures.url("draft", "", photo, escape=False))
    assert answer.status_code == 200 and Image.open(io.BytesIO(answer.content)).size == (64, 64)
    for change in ({}, {"box": ""}, {"box": "0.1,0.1,0.9,0.9"}, {"seed": str(2**63 - 1)}):
        answer = client.get(f"/blockskip/crops/{photo}", params={**CROPS, **change, "v": "x"})
        assert answer.status_code == 200, change
        assert Image.open(io.BytesIO(answer.content)).size == (3 * 192, 192)
