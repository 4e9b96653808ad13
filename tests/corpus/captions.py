"""Captions beside photos: encodings, triggers, other trainers' files; in the terminal and the page.

What is judged is the caption that a run trains on, as the worker records it in run.toml.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus.cases import Case, demand, numbered, replaced
from corpus.house import command, opened, page, words_of
from helpers import fake_feed

from blockskip.cli import progress
from blockskip.runs.run import Run, list_runs
from blockskip.studio import actions, draft, run_state

DEFAULT = "a photo of {trigger} cat"
WAYS = ("terminal", "studio")
TEXTS = {
    "english": "lying on the green sofa at noon",
    "german": "liegt auf dem grünen Sofa, süß und müde",
    "french": "couchée près d'une fenêtre à Orléans",
    "polish": "leży na zielonej kanapie, śpi żółty",
    "greek": "στον καναπέ το μεσημέρι",
    "russian": "лежит на зелёном диване",
    "chinese": "一只躺在绿色沙发上",
    "japanese": "緑のソファで寝ています",
    "korean": "초록색 소파에 누워 있는",
    "arabic": "مستلقية على الأريكة الخضراء",
    "emoji": "on the sofa 🐈‍⬛ at noon",
}
CODES = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
LEGACY = {
    "german": ("cp1252", "mac_roman", "cp850"),
    "french": ("cp1252", "cp850"),
    "polish": ("cp1250", "iso8859-2"),
    "greek": ("cp1253",),
    "russian": ("cp1251", "koi8-r", "cp866"),
    "chinese": ("gbk", "big5hkscs", "gb18030"),
    "japanese": ("shift_jis", "euc-jp"),
    "korean": ("euc-kr",),
}
CERTAIN = ("utf-8", "utf-8-sig", "utf-16", "utf-32")


@dataclass(frozen=True)
class Given:
    """What a user has. files: name → content, beside a photo “a.png”. text: the right caption's
    words, "" = none. sure: whether the text must be read. trigger: as typed in the terminal."""

    files: dict[str, bytes] = field(default_factory=dict)
    text: str = ""
    sure: bool = True
    trigger: str = "Luna"
    photos: tuple[str, ...] = ("a.png",)
    texts: dict[str, str] = field(default_factory=dict)  # of further photos

    @property
    def rights(self) -> dict[str, str]:
        """Stem of a photo → its words, in order of the photos."""
        return {Path(self.photos[0]).stem: self.text} | self.texts


def cases(seed: int) -> list[Case]:
    """Return all captions, each in both ways."""
    groups = {
        "encodings": _encodings(),
        "odd text": _odd(),
        "triggers": _triggers(),
        "companions": _companions(),
    }
    return [
        case
        for kind, given in groups.items()
        for way in WAYS
        for case in numbered(
            f"captions-{kind.replace(' ', '-')}-{way}",
            f"captions: {kind}",
            (_caption_case(one, way) for one in given if way == "terminal" or kind != "triggers"),
        )
    ] + numbered("captions-twins", "captions: photos of one name", map(_twins_case, WAYS))


def _encodings() -> list[Given]:
    sure = [
        Given({"a.txt": text.encode(code)}, text, code in CERTAIN)
        for text in TEXTS.values()
        for code in CODES
    ]
    return sure + [
        Given({"a.txt": TEXTS[name].encode(code, "replace")}, TEXTS[name], False)
        for name, codes in LEGACY.items()
        for code in codes
    ]


def _odd() -> list[Given]:
    text = TEXTS["english"]
    blank = [b"", b"\n\n", b"   ", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", "\u3000".encode()]
    same = [text.replace(" ", "\r\n"), f"\ufeff{text}\n", f"  {text}\t\n\n", f"{text}\r\n\r\n"]
    junk = [bytes(range(256)), bytes(1000), b"\x89PNG\r\n\x1a\n" + bytes(99), b"\xff" * 400]
    return [
        *(Given({"a.txt": data}) for data in blank),
        *(Given({"a.txt": data.encode("utf-8")}, text) for data in same),
        *(Given({"a.txt": data}, "", False) for data in junk),
        Given({"a.txt": f"{text}\x00\x00".encode()}, text),
        Given({"a.TXT": text.encode()}, text, False),
        Given({"a.txt/inside": b"a folder"}),
        Given({"a.txt": f"{text}\x1b[31m".encode()}, text, False),
    ]


def _triggers() -> list[Given]:
    pairs = [
        ("Luna", "Luna on the sofa at noon"),
        ("luna", "Luna on the sofa at noon"),
        ("Luna", "LUNA on the sofa at noon"),
        ("Luna", "on the sofa at noon with luna"),
        ("sks", "a photo of sks cat on the sofa at noon"),
        ("luna", "lunatic on the sofa at noon"),
        ("Größe", "größe on the sofa at noon"),
        ("Луна", "луна on the sofa at noon"),
        ("o'hara", "o'hara on the sofa at noon"),
        ("o'hara", "on the sofa at noon"),
        ("luna!", "luna! on the sofa at noon"),
        ("luna!", "on the sofa at noon"),
        ("a.b", "axb on the sofa at noon"),
        ("[x]", "on the sofa at noon"),
        ("C++", "c++ on the sofa at noon"),
        ("luna 2", "luna 2 on the sofa at noon"),
        ("$1", "on the sofa at noon"),
        ("\\1", "on the sofa at noon"),
        ("{trigger}", "on the sofa at noon"),
    ]
    marks = (
        "[trigger] on the sofa at noon",
        "[Trigger], on the sofa at noon",
        "on [trigger]'s sofa",
    )
    pairs += [(trigger, mark) for trigger in ("Luna", "sks", "o'hara", "\\1") for mark in marks]
    return [Given({"a.txt": text.encode()}, text, trigger=trigger) for trigger, text in pairs]


def _companions() -> list[Given]:
    """Files as other trainers' folders have them."""
    text, other = TEXTS["english"], TEXTS["german"]

    def lines(*rows: Any) -> bytes:
        texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        return "\n".join(texts).encode("utf-8")

    good = {"file_name": "a.png", "text": text}
    second = {"file_name": "b.png", "text": other}
    bad_rows: list[Any] = ["no json", [], 5, None, {}, {"file_name": 5, "text": "x"}]
    bad_rows += [{"file_name": "../a.png", "text": "x"}, {"file_name": "gone.png", "text": "x"}]
    bad_rows += [{"file_name": "b.png", "text": value} for value in (5, None, ["x"], {}, "")]
    bad_rows += ["[" * 20_000, '{"file_name": "a.png"', {"file_name": "\0", "text": "x"}]
    two: dict[str, Any] = {"photos": ("a.png", "b.png"), "texts": {"b": ""}}
    both = two | {"texts": {"b": other}}
    return [
        Given({"a.caption": text.encode()}, text),
        Given({"a.caption": b"\xef\xbb\xbf" + text.encode()}, text),
        Given({"a.caption": "süß auf dem Sofa".encode("utf-16")}, "süß auf dem Sofa"),
        Given({"a.caption": b""}),
        Given({"metadata.jsonl": lines(good)}, text),
        Given({"metadata.jsonl": lines(good, second)}, text, **both),
        Given({"metadata.jsonl": b"\xef\xbb\xbf" + lines(good)}, text),
        Given({"metadata.jsonl": lines(good).replace(b"\n", b"\r\n") + b"\r\n"}, text),
        Given({"metadata.jsonl": lines("", good, "")}, text),
        Given({"metadata.jsonl": lines(good), "b.txt": other.encode()}, text, **both),
        *(Given({"metadata.jsonl": lines(row, good)}, text, **two) for row in bad_rows),
        *(Given({"metadata.jsonl": data}) for data in (b"", b"\xff\xfe", b"[]", bytes(500))),
        Given({"a.json": b"{}", "a.xmp": b"<x/>", "a.npz": b"PK"}),
        Given(
            {"a.txt": text.encode(), "a.npz": b"PK", "notes.md": b"# x", ".DS_Store": b"x"}, text
        ),
    ]


def _folder(given: Given, folder: Path) -> list[Path]:
    photos = fake_feed.make_photos(folder / "drawn", len(given.photos))
    home = folder / "pet photos"
    home.mkdir()
    for photo, name in zip(photos, given.photos, strict=True):
        photo.rename(home / name)
    for name, data in given.files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(data)
    return sorted(path for path in home.iterdir() if path.is_file())


def _caption_case(given: Given, way: str) -> tuple[Callable, Callable]:
    def build(folder: Path) -> tuple[Path, list[Path]]:
        return folder, _folder(given, folder)

    def check(subject: tuple[Path, list[Path]]) -> None:
        folder, paths = subject
        trigger = given.trigger if way == "terminal" else "luna"
        with opened(folder / "data"):
            captions, said = trained_captions(way, paths, trigger)
        demand(len(captions) == len(given.photos), f"{len(captions)} photos are trained on: {said}")
        demand("not a photo" not in said, said)
        for got, (stem, words) in zip(captions, given.rights.items(), strict=True):
            _check_caption(got, words, trigger, given.sure, stem, said)

    return build, check


def _check_caption(got: str, words: str, trigger: str, sure: bool, stem: str, said: str) -> None:
    default = DEFAULT.format(trigger=trigger)
    if not words and sure:
        demand(got == default, f"{got!r} instead of {default!r}")
        return
    shown = f"{got[:90]!r} of {words[:60]!r}"
    if got == default and not sure:
        demand(f"{stem}." in said, f"a caption of {stem} is left out and not named: {said}")
        return
    right = re.sub(r"\[trigger\]", lambda _: trigger, words, flags=re.I)
    kept = right.casefold().strip(" .,") in got.casefold()
    demand(kept or not words, f"other words: {shown}")
    demand(words or got == default, f"guessed: {shown}")
    found = re.findall(rf"(?<!\w){re.escape(trigger.casefold())}(?!\w)", got.casefold())
    demand(len(found) == 1, f"the trigger is in it {len(found)} times: {shown}")
    clean = all(sign not in got for sign in ("\ufffd", "\0", "\ufeff")) and "\n" not in got
    demand(clean, f"signs that are no text: {shown}")


class _Enough(Exception):
    """The worker has read the photos."""


def trained_captions(way: str, paths: list[Path], trigger: str) -> tuple[list[str], str]:
    """Make a run of these files in one of the two ways, and let its worker read the photos.

    Returns (captions in order of the photos, all that was said to the user).
    """
    from blockskip.runs import worker

    run, said = _make_run(way, paths, trigger)

    def enough(*_: Any, **__: Any) -> None:
        raise _Enough

    with replaced((worker, "LoadedModel", enough)), contextlib.suppress(_Enough):
        worker.Worker(run).work()
    notes = " ".join(str(getattr(event, "text", "")) for event in run.events()[0])
    return [photo["caption"] for photo in run.info()["photos"]], f"{said} {notes}".strip()


def _make_run(way: str, paths: list[Path], trigger: str) -> tuple[Run, str]:
    if way == "terminal":
        with replaced((progress, "watch_run", lambda *_, **__: 0)):
            folders = [str(path) for path in _given_in_terminal(paths)]
            words = ("train", *folders, "--trigger", trigger, "--class", "cat", "--steps", "4")
            code, out, err = command(*words)
        demand(code == 0 and list_runs(), f"no run: {out} {err}")
        (run,) = list_runs()
        return run, "\n".join(line for line in err.splitlines() if "demo model" not in line)
    draft.clear()
    draft.add(paths)
    said = words_of({"photos": page("")["photos"]})
    with replaced((run_state, "start", lambda run, card="": None)):
        name = actions.train(None, "cat", "Luna", "demo", 8.0, 4, 0, 4, "fast", True)
    return actions.find_run(name), "; ".join(_notes_of(said))


def _given_in_terminal(paths: list[Path]) -> Iterable[Path]:
    return dict.fromkeys(path.parent for path in paths)


def _notes_of(markup: str) -> list[str]:
    """Return what the page says of photos left out or captions not read."""
    text = re.sub(r"<[^>]+>", "\n", re.sub(r"<img[^>]*>", "", markup))
    return [line.strip() for line in text.splitlines() if re.search(r"\.\w{3,7}\b", line)]


def _twins_case(way: str) -> tuple[Callable, Callable]:
    """Two photos of one name from two folders, each with its own caption."""
    texts = {"first": "lying on the green sofa", "second": "running in deep snow"}

    def build(folder: Path) -> tuple[Path, list[Path]]:
        paths = []
        for number, (name, text) in enumerate(texts.items()):
            photo = fake_feed.make_photos(folder / name, 2)[number]
            home = folder / f"pets of {name}"
            home.mkdir()
            photo.rename(home / "IMG_0001.png")
            (home / "IMG_0001.txt").write_text(text, encoding="utf-8")
            paths += sorted(home.iterdir())
        return folder, paths

    def check(subject: tuple[Path, list[Path]]) -> None:
        folder, paths = subject
        with opened(folder / "data"):
            captions, _ = trained_captions(way, paths, "luna")
        pairs = zip(sorted(captions), sorted(texts.values()), strict=True)
        demand(len(captions) == 2, f"{len(captions)} photos")
        demand(all(text in got for got, text in pairs), f"captions {captions}")

    return build, check
