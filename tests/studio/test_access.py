"""An open studio is its user's: the key of a launch, the cookie that outlives it, one studio a
folder."""

import contextlib
import errno
import http.client
import json
import os
import shutil
import subprocess
import sys

import pytest
from helpers.environments import proxy
from helpers.studio_server import START, free_port, serve
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from blockskip.core import processes
from blockskip.core.paths import ROOT
from blockskip.studio import access, app, guard, strings

PATHS = (
    "/",
    "/config",
    "/gradio_api/info",
    "/gradio_api/queue/data?session_hash=x",
    "/gradio_api/startup-events",
    "/gradio_api/heartbeat/x",
    "/gradio_api/file=x",
    "/theme.css",
    "/blockskip/picture/draft/-/x.png?size=320",
    "/blockskip/crops/x.png",
    "/no/such/route",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A studio in an environment that is made for others: proxies, Gradio's variables."""
    with proxy() as (address, asked):
        variables = {
            "http_proxy": address,
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "ALL_PROXY": "socks5://127.0.0.1:9",
            "no_proxy": "localhost,127.0.0.0/8,[::1]",
            "GRADIO_SERVER_PORT": "x",
            "GRADIO_ROOT_PATH": "/elsewhere",
            "SSL_CERT_FILE": "/nowhere.pem",
            "TMPDIR": "/nowhere",
            "OMP_NUM_THREADS": "abc",
        }
        with serve(tmp_path_factory.mktemp("studio") / "Dätä", variables=variables) as running:
            running.proxy_asked = asked
            yield running


def ask(server, method, path, **headers):
    """Return (status, headers, text) without following redirects."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    with contextlib.closing(connection):
        return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")


def test_no_proxy_is_asked_for_the_loopback_address(server):
    assert server.get("/config")[0] == 200 and server.proxy_asked == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_without_the_key_every_route_is_closed(server, method, path):
    old = "blockskip-0123456789abcdef=" + "0" * 64
    for headers in ({}, {"x_blockskip_key": ""}, {"x_blockskip_key": "x"}, {"Cookie": old}):
        status, _, text = ask(server, method, path, **headers)
        assert status == 403 and (text == strings.NO_KEY or method == "HEAD")
    assert ask(server, "GET", "/?key=")[0] == ask(server, "GET", "/?key=x")[0] == 403


def test_hello_is_open_and_helps_nobody(server):
    status, _, text = ask(server, "GET", guard.HELLO)
    assert status == 200 and set(json.loads(text)) == {"app", "data"}
    key = server.address.partition("?key=")[2]
    assert key not in text and str(server.data) not in text and len(key) >= 32


def test_the_address_becomes_a_cookie_and_a_clean_address(server):
    query = server.address.removeprefix(server.url)
    status, headers, _ = ask(server, "GET", query)
    assert (status, headers["location"]) == (303, "/")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert ask(server, "GET", "/", Cookie=cookie)[0] == 200
    assert ask(server, "GET", "/config", Cookie=f"a=b; {cookie}; c=d")[0] == 200
    assert ask(server, "GET", "/?key=of-an-earlier-launch", Cookie=cookie)[0] == 303
    assert ask(server, "GET", "/config", Cookie=cookie[:-1])[0] == 403
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    status, headers, text = ask(server, "GET", query, **link, sec_fetch_dest="document")
    assert status == 200 and "url=/" in text and cookie in headers["set-cookie"]
    key = server.address.partition("?key=")[2]
    assert key not in (server.data / "studio.log").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="a profile is private there")
def test_other_users_read_no_secret(server):
    for name in ("studio.json", "studio.secret"):
        assert (server.data / name).stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0 and shutil.which("runuser"):
        server.data.chmod(0o755)  # also in a folder that is open to others
        words = ["runuser", "-u", "nobody", "--", "cat", str(server.data / "studio.json")]
        assert subprocess.run(words, capture_output=True).returncode != 0


def test_a_second_studio_says_where_the_first_is(server):
    words = [sys.executable, "-c", START, str(server.port), str(server.data), os.devnull]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=processes.child_environment(False),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0 and "GRADIO" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == strings.ALREADY_OPEN % (
        strings.APP,
        server.address,
    )


def test_two_studios_opened_at_once_are_one(tmp_path, monkeypatch):
    """While the first still opens, the second waits for its address."""
    data, answers, opened = tmp_path / "data", ["", "", "http://127.0.0.1:1/?key=x"], []
    monkeypatch.setattr(app, "running_url", lambda _: answers.pop(0))
    monkeypatch.setattr(app, "_open_browser", opened.append)
    monkeypatch.setattr(app.environment, "isolate", lambda: None)
    monkeypatch.setattr(processes, "_PROBE_S", 0)
    data.mkdir()
    with processes.held(data / app.LOCK):
        assert app.main(data_dir=data) == 0
        assert opened == ["http://127.0.0.1:1/?key=x"]
        monkeypatch.setattr(app, "running_url", lambda _: "")
        monkeypatch.setattr(app, "OPENING_S", 0)
        with pytest.raises(app.WrongState, match="being opened by another window"):
            app.main(data_dir=data)
    monkeypatch.setattr(app, "OPENING_S", 60)
    assert app._wait_for_url(data) == "", "the first one has ended meanwhile"


def test_what_a_killed_studio_left_is_not_opened(tmp_path, monkeypatch):
    """Another program may answer there now; it must not be given the key."""
    monkeypatch.setattr(app, "running_url", lambda _: "http://127.0.0.1:1/?key=old")
    monkeypatch.setattr(app.environment, "isolate", lambda: None)
    monkeypatch.setattr(app, "_serve", lambda *words: 7)
    assert app.main(data_dir=tmp_path) == 7


def test_a_port_taken_at_the_last_moment_is_given_up(tmp_path, monkeypatch):
    tried, free = [], free_port()

    def launched(port, data, secrets):
        tried.append(port)
        if len(tried) == 1:
            monkeypatch.setattr(app, "free_port", lambda wanted: free + 1)
            raise OSError("Cannot find empty port; set GRADIO_SERVER_PORT")
        return "page"

    monkeypatch.setattr(app, "_launch_page", launched)
    monkeypatch.setattr(app, "free_port", lambda wanted: wanted)
    page, url = app.launch(free, tmp_path)
    assert page == "page" and url.startswith(f"http://127.0.0.1:{free + 1}/?key=")
    assert tried == [free, free + 1]


def test_cookies_last_keys_do_not(tmp_path):
    first, second = access.create(tmp_path), access.create(tmp_path)
    assert first.key != second.key and first.set_cookie() == second.set_cookie()
    other = access.create(tmp_path / "other")
    assert other.cookie_name != first.cookie_name and other.cookie_value != first.cookie_value
    for damage in (b"", b"zz", b"\xff\xfe", b"00" * 31):
        (tmp_path / "studio.secret").write_bytes(damage)
        made = access.create(tmp_path)
        assert made.cookie_value not in (first.cookie_value, access.Access("", "").cookie_value)
        assert access.create(tmp_path).cookie_value == made.cookie_value


class Full:
    """What the routes answer, with a disk that has so many bytes free."""

    def __init__(self, free, error=None):
        async def route(request):
            await request.body()
            if error:
                raise error
            return PlainTextResponse("kept")

        routes = [Route(guard.UPLOAD, route, methods=["POST"])]
        shortages = guard.Middleware(guard.Shortages, free_bytes=lambda: free)
        self.app = TestClient(Starlette(routes=routes, middleware=[shortages]))

    def upload(self, size=100):
        answer = self.app.post(guard.UPLOAD, content=b"x" * size)
        return answer.status_code, answer.text


def test_an_upload_to_a_full_disk_is_refused_in_a_sentence():
    assert Full(1 << 30).upload() == (200, "kept")
    for full in (
        Full(guard.SPARE_BYTES + 99),
        Full(1 << 30, OSError(errno.ENOSPC, "No space left on device")),
        Full(1 << 30, OSError(errno.EDQUOT, "Disk quota exceeded")),
    ):
        status, text = full.upload()
        assert status == 507 and text.startswith("The disk is full. Free some space")
    assert Full(1 << 30, OSError(errno.EMFILE, "x")).upload()[1].startswith("Too many files")
    with pytest.raises(ValueError, match="a bug"):
        Full(1 << 30, ValueError("a bug")).upload()
