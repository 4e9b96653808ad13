"""A server of the user's: every fault is a sentence, and no photo leaves this computer unasked."""

import base64
import io
import socket

import pytest
from helpers import tiny_captioner
from helpers.fake_model_server import ModelServer, saying
from PIL import Image

from blockskip.core.errors import BadInput, ModelMissing, Unreachable, UserError
from blockskip.models.captioners import Answer
from blockskip.models.captioners import server as ours
from blockskip.models.captioners.jobs import ServerChoice
from blockskip.models.captioners.server import OtherComputer, Server, data_uri, url_of

PHOTO = tiny_captioner.photo()
AWAY = "93.184.215.14"


@pytest.fixture
def running():
    with ModelServer() as server:
        yield server


@pytest.fixture
def names(monkeypatch):
    """Names of computers → addresses, one after the other at each look; only these are known."""
    known, look_up = {}, socket.getaddrinfo

    def found(host, port, *rest, **more):
        if host in known:
            places = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in places]
        return look_up(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return known


@pytest.fixture
def connected(monkeypatch):
    """What is connected to; nothing beyond this computer is."""
    places, connect = [], socket.socket.connect

    def only_here(self, address):
        places.append(address[0])
        if address[0] not in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    return places


def ask(address, model="qwen3-vl:2b", elsewhere=False):
    return Server(ServerChoice(address, model, elsewhere)).ready().describe(PHOTO, "Say it.")


@pytest.mark.parametrize(
    "content, text",
    [
        ("The cat on a rug.", "The cat on a rug."),
        (
            [{"type": "text", "text": "The cat"}, {"type": "text", "text": "sits."}, 7],
            "The cat sits.",
        ),
        ("<think>Hm.</think>The cat.", "<think>Hm.</think>The cat."),
    ],
)
def test_a_photo_is_described(running, content, text):
    running.reply = saying(content)
    assert ask(running.address) == Answer(text)
    (body,) = running.photos
    said, picture = body["messages"][0]["content"]
    assert (body["model"], said["text"], body["temperature"]) == ("qwen3-vl:2b", "Say it.", 0)
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")
    told = running.asked[-1][2]
    assert told["Host"] == running.address.split("/")[2] and "Authorization" not in told


def test_an_answer_that_was_cut_off_is_known(running):
    running.reply = (
        200,
        {"choices": [{"message": {"content": "The cat"}, "finish_reason": "length"}]},
    )
    assert ask(running.address).cut


FAULTS = {
    "no eyes": ((400, {"error": "Model does not support images. Please use a model that does."}), "can see photos"),
    "an object": ((400, {"error": {"message": "context is too small", "code": 1}}), "context is too small"),
    "with 200": ((200, {"error": {"message": "Vision model is not loaded"}}), "Vision model is not loaded"),
    "unloaded": ((200, {"error": "Model is unloaded."}), "Model is unloaded"),
    "no model": ((404, {"error": {"message": "model 'x' not found"}}), "Check the model's name"),
    "no page": ((404, b"404 page not found"), "HTTP 404"),
    "a key": ((401, {"error": "token?"}), "asks for a key"),
    "broken": ((500, b"<html>oops"), "HTTP 500"),
    "a web page": ((200, b"<html>hello"), "no server of language models"),
    "another API": ((200, {"answer": 42}), "no server of language models"),
    "no choices": ((200, {"choices": []}), "no server of language models"),
    "odd choices": ((200, {"choices": [7]}), "no server of language models"),
    "deep": ((200, b"[" * 100_000), "no server of language models"),
    "silence": (saying(""), "gave no description."),
    "null": (saying(None), "gave no description."),
    "thoughts": (saying("", reasoning="A cat? A cat."), "spent its answer on thinking"),
    "thoughts inside": (saying("<think>A cat? A c"), "spent its answer on thinking"),
    "redirect": ((307, b""), "points to another address"),
    "moved": ((301, b""), "points to another address"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_sentence(running, fault):
    reply, told = FAULTS[fault]
    with ModelServer() as other:
        running.headers = {"Location": f"{other.address}/chat/completions"}
        running.reply = reply
        with pytest.raises(UserError, match=told) as failed:
            ask(running.address)
        assert failed.value.remedy and not other.asked, "nothing is redirected"
    assert len(failed.value.title) < 400


def test_a_server_that_is_not_there_is_slow_or_breaks_off(running, monkeypatch):
    monkeypatch.setattr(ours, "ANSWER_S", 0.2)
    running.drop = True
    with pytest.raises(Unreachable, match="broke off"):
        Server(ServerChoice(running.address, "m")).describe(PHOTO, "")
    running.drop, running.hold = False, True
    with pytest.raises(Unreachable, match="did not answer within"):
        ask(running.address)
    running.go.set()
    monkeypatch.setattr(ours, "_MAX_BYTES", 10)
    with pytest.raises(Unreachable, match="broke off"):
        Server(ServerChoice(running.address, "m")).describe(PHOTO, "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match="No server answers"):
        ask(f"127.0.0.1:{port}")
    with pytest.raises(Unreachable, match="There is no computer called"):
        ask("http://no.such.computer.invalid:1")


@pytest.mark.parametrize(
    "model", ["qwen3-vl:235b-cloud", "minimax-m3:cloud", "X-CLOUD ", "mine", "mine:latest"]
)
def test_a_model_of_a_cloud_gets_no_photo(running, model):
    running.models = [model, "here"]
    running.tags = [
        {"name": "mine:latest", "remote_host": "https://ollama.com:443"},
        {"name": "here"},
        7,
    ]
    assert Server(ServerChoice(running.address)).models() == ["here"]
    with pytest.raises(BadInput, match="runs in a cloud"):
        ask(running.address, model)
    with pytest.raises(BadInput, match="runs in a cloud"):
        ask(running.address, "x-cloud", elsewhere=True)
    assert ask(running.address, "").text and running.photos[0]["model"] == "here"


def test_without_a_choice_the_only_model_is_taken(running):
    for models, told in (
        ([], "has no models"),
        (["a", "b"], "Choose one that can see photos: a, b"),
    ):
        running.models = models
        with pytest.raises(ModelMissing, match=told):
            ask(running.address, "")
    assert not running.photos
    running.models = ["a"]
    assert ask(running.address, "").text and running.photos[0]["model"] == "a"


@pytest.mark.parametrize(
    "places", [[AWAY], ["127.0.0.1", AWAY], ["0.0.0.0"], ["192.168.1.7"], ["169.254.169.254"]]
)
def test_another_computer_must_be_allowed(names, connected, places):
    names["pc.lan"] = [places]
    for address in ("http://pc.lan:1234/v1", f"{places[-1]}:1234", "https://pc.lan"):
        with pytest.raises(OtherComputer, match="your photos would leave"):
            ask(address)
    assert not connected
    with pytest.raises(Unreachable):
        ask("http://pc.lan:1234/v1", elsewhere=True)
    assert connected and set(connected) <= set(places)


def test_the_address_is_looked_up_at_each_request_and_is_what_is_connected_to(
    running, names, connected
):
    port = running.address.split(":")[2]
    names["my.pc"] = [["127.0.0.1"], ["127.0.0.1"], [AWAY]]
    server = Server(ServerChoice(f"http://my.pc:{port}", "m")).ready()
    assert server.describe(PHOTO, "").text
    assert running.asked[-1][2]["Host"].startswith("my.pc:"), "known by its name"
    with pytest.raises(OtherComputer):
        server.describe(PHOTO, "")
    assert set(connected) == {"127.0.0.1"} and len(running.photos) == 1


def test_proxies_are_not_asked(running, connected, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert ask(running.address).text and ask(running.address.replace("127.0.0.1", "localhost")).text


def test_a_photo_is_sent_as_its_pixels_alone(running):
    exif = Image.Exif()
    exif[0x010E] = "SECRET place"
    exif.get_ifd(0x8825)[1] = "N"
    file = io.BytesIO()
    Image.new("RGB", (3000, 1500), "red").save(
        file, "JPEG", exif=exif, comment=b"SECRET", icc_profile=b"SECRET profile"
    )
    photo = Image.open(file)
    for given in (photo, Image.new("RGBA", (5, 4)), Image.new("L", (4000, 16))):
        data = base64.b64decode(data_uri(given).partition(",")[2])
        sent = Image.open(io.BytesIO(data))
        assert (sent.format, sent.mode) == ("JPEG", "RGB") and b"SECRET" not in data
        assert sent.width * sent.height <= 1_000_000 and not sent.getexif()
        assert abs(sent.width / sent.height - given.width / given.height) < 0.02 * sent.width
        assert not {"icc_profile", "comment", "exif"} & sent.info.keys()


@pytest.mark.parametrize(
    "address, url",
    [
        ("127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        (" localhost:11434/ ", "http://localhost:11434/v1"),
        ("http://[::1]:1234", "http://[::1]:1234/v1"),
        ("https://x.lan/api/v1", "https://x.lan/api/v1"),
    ],
)
def test_addresses_as_users_write_them(address, url):
    assert str(url_of(address)) == url


@pytest.mark.parametrize(
    "address", ["", "http://", "ftp://x", "http://a:b@x", "http://x:99999", "http://x/?k=1", "file:///x", "http://x:0", "http://x\n.y", "http://[::1"]
)  # fmt: skip
def test_what_is_no_address_is_said(address):
    with pytest.raises(BadInput, match="not the address of a server"):
        url_of(address)


def test_ipv6(names, connected):
    """A server that listens on one of localhost's addresses only is found."""
    with ModelServer() as server:
        port = server.address.split(":")[2]
        names["localhost"] = [["::1", "127.0.0.1"]]
        assert ask(f"localhost:{port}").text
