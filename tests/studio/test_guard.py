"""Who may talk to the studio, and what it gives away: its own page and local programs, nothing else."""

import json

import pytest
from helpers.studio_server import free_port, serve
from starlette.datastructures import Headers

from blockskip.core.paths import ASSETS
from blockskip.studio import app, guard


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("studio") / "Dätä") as running:
        yield running


@pytest.mark.parametrize(
    "headers, passes",
    [
        ({"host": "127.0.0.1:7860"}, True),  # a program
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}, True),
        (
            {
                "host": "localhost:7860",
                "origin": "http://localhost:7860",
                "sec-fetch-site": "same-origin",
            },
            True,
        ),
        ({"host": "127.0.0.1:7860", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:7860", "origin": "null"}, False),
        (
            {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:9999"},
            False,
        ),  # another local page
        ({"host": "127.0.0.1:7860", "origin": "https://127.0.0.1:7860"}, False),
        (
            {"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
            False,
        ),
        (
            {
                "host": "127.0.0.1:7860",
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "iframe",
            },
            False,
        ),
        (
            {
                "host": "127.0.0.1:7860",
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "document",
            },
            True,
        ),  # a link to the studio
    ],
)
def test_only_its_own_page_may_drive_it(headers, passes):
    assert guard.allowed(Headers(headers)) is passes
    navigates = headers.get("sec-fetch-dest") == "document"  # a link may lead here, a form may not
    assert guard.allowed(Headers(headers), "HEAD") is passes
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert guard.allowed(Headers(headers), method) is (passes and not navigates)


@pytest.mark.parametrize(
    "path, headers, status",
    [
        ("/", {}, 200),
        ("/", {"Host": "evil.example"}, 400),
        ("/config", {"Origin": "http://evil.example"}, 403),
        ("/gradio_api/file=/etc/passwd", {}, 403),
        ("/gradio_api/file=pyproject.toml", {}, 403),
        ("/gradio_api/file=https://example.org/", {}, 403),
        ("/gradio_api/proxy=https://example.org/", {}, 403),
        ("/blockskip/picture/draft/-/..%2Fdraft.json?size=320", {}, 404),
        ("/blockskip/picture/photos/..%2F..%2Fx/run.toml?size=320", {}, 404),
        ("/blockskip/picture/draft/-/nothing.png?size=320", {}, 404),
        (
            "/blockskip/crops/..%2Fdraft.json?low=32&high=64&seed=0&patches=dynamic&model=demo",
            {},
            404,
        ),
        ("/blockskip/crops/nothing.png?low=32&high=64&seed=0&patches=dynamic&model=demo", {}, 404),
        ("/blockskip/crops/nothing.png", {}, 404),
        ("/docs", {}, 404),
        ("/openapi.json", {}, 404),
        ("/redoc", {}, 404),
        ("/assets/" + "x" * 300, {}, 404),
        ("/gradio_api/file=%00", {}, 404),
    ],
)
def test_what_the_server_answers(server, path, headers, status):
    assert server.get(path, **headers)[0] == status


def test_a_foreign_page_cannot_press_stop(server):
    body = json.dumps({"data": ["x"]}).encode()
    for origin in ("http://evil.example", "null"):
        assert server.get("/gradio_api/call/stop", body, Origin=origin)[0] == 403
        assert server.get("/gradio_api/upload", b"", Origin=origin)[0] == 403


def test_files_of_this_computer_are_no_uploads(server):
    photo = {"path": str(ASSETS / "icon.png"), "meta": {"_type": "gradio.FileData"}}
    data = [[photo], "cat", "Momo", "demo", 8, 5, 0, 16, True]
    body = json.dumps({"data": data}).encode()
    status, answer = server.get("/gradio_api/call/train", body, Content_Type="application/json")
    assert status == 200
    said = server.get(f"/gradio_api/call/train/{json.loads(answer)['event_id']}")[1]
    assert "event: error" in said and not list(server.data.glob("runs/*"))


def test_no_tab_holds_a_connection_and_what_is_public_is_few(server):
    config = server.config()
    assert config["connect_heartbeat"] is False
    public = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public"}
    assert public == set("train status pause stop resume plan export".split())
    assert not [c for c in config["components"] if c["type"] == "state"]


def test_nothing_outside_is_asked_for(server):
    server.get("/")
    assert server.contacted_hosts <= {"127.0.0.1", "localhost", "::1", "None"}, (
        server.contacted_hosts
    )


def test_a_second_start_opens_the_first(server, monkeypatch):
    opened = []
    monkeypatch.setattr(app, "_open_browser", opened.append)
    assert app.main(port=free_port(), browser=True, data_dir=server.data) == 0
    assert opened == [server.address]


def test_a_taken_port_is_not_used(server):
    assert app.free_port(server.port) != server.port
