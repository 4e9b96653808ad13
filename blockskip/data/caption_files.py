"""Read the captions that stand beside photos, as this and other trainers write them.

In order of precedence: `x.txt`, `x.caption` (or `x.jpg.txt`, …) beside `x.jpg`; `metadata.jsonl`
and `metadata.csv` (Hugging Face's imagefolder: `file_name` with `text`, `caption` or `prompt`);
`metadata.json`, `captions.json` and `meta_*.json` (kohya's {photo: {caption, tags}}). A blank
caption is none.

A caption is one line: line ends and control characters become blanks. Its encoding is never
guessed. Whatever cannot be used is named, and the photo gets its default caption.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAX_CHARS = 2000  # of a caption; longer than any text encoder reads
SUFFIXES = (".txt", ".caption")
METADATA_SUFFIXES = (".jsonl", ".csv", ".json")
_METADATA = re.compile(r"(metadata\.(jsonl|csv|json)|captions\.json|meta_\w+\.json)", re.IGNORECASE)
_MAX_PROBLEMS = 5  # named for each file
_MAX_BYTES = {True: 1 << 26, False: 4 * MAX_CHARS + 4}  # of metadata, of a single caption
_FILE_KEYS = ("file_name", "image_path", "image", "file", "path")
_TEXT_KEYS = ("text", "caption", "prompt")
_UNCERTAIN = "its text encoding is not certain; save it as UTF-8 with BOM"
# letters and signs that are the same in all Western and Central European code pages of Windows,
# where a word of Latin letters has them; the same bytes elsewhere may be Chinese, Greek, DOS …
_WESTERN = re.compile(
    r"(?<=[A-Za-z])(?:[äöü]ß|[äöüßâçéëíîóôú])(?![^\x00-\x7f])"
    r"|(?<![^\s\"'(])[ÄÖÜÉÇÎäöüéçî](?=[a-z]{2})"
    r"|(?<=[A-Za-z])’(?=[A-Za-z])|(?<= )[–—](?= )"
)
# letters in words of other Latin letters, or one alone between such words
_IN_LATIN_WORDS = re.compile(
    r"(?<=[A-Za-z0-9])[\u00a1-\u024f]{1,3}|[\u00a1-\u024f]{1,3}(?=[A-Za-z0-9])"
    r"|(?<=[A-Za-z0-9,\u00c0-\u024f] )[\u00e0-\u00ff](?= [A-Za-z])"
)


class Problem(NamedTuple):
    """A file, or a line of it, that cannot be used. reason: a clause such as “it is empty”."""

    name: str
    reason: str


class _Unusable(Exception):
    """A caption file cannot be used, for the reason given."""


class Captions:
    """The captions in some files, by photo. problems: what cannot be used, in order."""

    def __init__(self, files: Iterable[Path], same_folder: bool = True) -> None:
        """Read the files. same_folder: a caption is only for a photo in the folder of its file."""
        self.problems: list[Problem] = []
        self._same_folder = same_folder
        self._texts: dict[tuple[Path | None, str], tuple[int, str]] = {}
        for rank, file in sorted((_rank(file), file) for file in files):
            try:
                self._read(rank, file)
            except _Unusable as reason:
                self.problems.append(Problem(file.name, str(reason)))
            except OSError as error:
                self.problems.append(Problem(file.name, f"it cannot be read ({error.strerror})"))

    def of(self, photo: Path) -> str:
        """Return the caption of a photo, "" if there is none."""
        found = [
            self._texts[place]
            for name in (photo.name, photo.stem)
            if (place := self._place(photo, name)) in self._texts
        ]
        return min(found)[1] if found else ""

    def _place(self, file: Path, name: str) -> tuple[Path | None, str]:
        return (file.parent if self._same_folder else None), caption_key(name)

    def _read(self, rank: int, file: Path) -> None:
        if file.suffix.lower() in SUFFIXES:
            self._add(rank, file, file.stem, _one_line(_read_text(file)))
            return
        captions: dict[str, dict[str, set[str]]] = {}  # photo → its path as written → captions
        problems = []
        for where, row in _rows(file):
            try:
                path, text = _photo_and_text(row)
            except _Unusable as reason:
                problems.append(Problem(f"{file.name}, {where}", str(reason)))
            else:
                captions.setdefault(_name_of(path), {}).setdefault(path, set()).add(text)
        for name, by_path in captions.items():
            # a photo beside this file comes before one of the same name in another folder
            texts = by_path[name] if name in by_path else set.union(*by_path.values())
            if len(texts) == 1:
                self._add(rank, file, name, *texts)
            else:
                problems.append(Problem(file.name, f"it has {len(texts)} captions for {name}"))
        self.problems += problems[:_MAX_PROBLEMS]
        if more := problems[_MAX_PROBLEMS:]:
            self.problems.append(Problem(file.name, f"it has {len(more)} more such lines"))

    def _add(self, rank: int, file: Path, photo: str, text: str) -> None:
        if text:
            self._texts.setdefault(self._place(file, photo), (rank, text))


def is_caption_file(path: Path) -> bool:
    """Return whether a file has captions, by its name."""
    return path.suffix.lower() in SUFFIXES or bool(_METADATA.fullmatch(path.name))


def captions_beside(photos: Sequence[Path]) -> Captions:
    """Read the captions beside photos. A folder that cannot be listed has none."""
    names: dict[Path, set[str]] = {}
    for photo in map(Path, photos):
        names.setdefault(photo.parent, set()).update(
            (caption_key(photo.name), caption_key(photo.stem))
        )
    return Captions(file for folder, keys in names.items() for file in _caption_files(folder, keys))


def _caption_files(folder: Path, keys: set[str]) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for file in inside:
        own = file.suffix.lower() in SUFFIXES and caption_key(file.stem) in keys
        if not file.name.startswith(".") and (own or _METADATA.fullmatch(file.name)):
            yield file


def decode(data: bytes) -> str | None:
    """Return a text whose encoding is certain, else None.

    It is certain with a byte order mark, by UTF-16's or UTF-32's pattern of zeros, as valid UTF-8
    (but see `_may_be_chinese`), and for Latin words with letters that are the same in all Western
    code pages of Windows.
    """
    for mark, encoding in (
        (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
        (codecs.BOM_UTF8, "utf-8-sig"),
    ):
        if data.startswith(mark):
            return _decoded(data, encoding)
    narrow = _decoded(data, "utf-8")
    if narrow is not None and not narrow.strip():
        return narrow
    if (narrow is None and 0 in data) or _looks_wide(data):
        return _decoded_wide(data)
    if re.search(rb"\x1b[$(]", data):
        return _decoded(data, "iso2022_jp_2")
    if narrow is not None:
        return None if _may_be_chinese(narrow) else narrow
    western = _decoded(data, "cp1252")
    return western if western and _WESTERN.sub("", western).isascii() else None


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _may_be_chinese(text: str) -> bool:
    """Return whether valid UTF-8 may as well be GBK, EUC-KR or Big5, as “һֻè” is “一只猫”.

    Their common characters are two bytes, the second from 0xA1. In UTF-8 nearly every text beyond
    Latin words has other bytes too.
    """
    others = [ord(char) for char in text if not char.isascii()]
    if any(0x80 <= code < 0xA0 and code != 0x85 for code in others):  # no text has these controls
        return True
    if not others or any(code >= 0x800 or code & 0x3F < 0x21 for code in others):
        return False
    return not _IN_LATIN_WORDS.sub("", text).isascii()


def _looks_wide(data: bytes) -> bool:
    """Return whether bytes are UTF-16 or UTF-32 rather than UTF-8: a quarter of them control
    characters, or every second one (the upper byte of letters up to U+1FFF)."""
    controls = sum(byte < 0x20 and byte not in b"\t\n\v\f\r" for byte in data)
    return 4 * controls >= len(data) or max(_small(data)) * 2 == len(data) >= 4


def _small(data: bytes) -> tuple[int, int]:
    """Return how many bytes are below 0x20 in even and in odd places."""
    return sum(byte < 0x20 for byte in data[::2]), sum(byte < 0x20 for byte in data[1::2])


def _decoded_wide(data: bytes) -> str | None:
    """Decode UTF-32 or UTF-16 without a mark, if zeros and characters say which it is."""
    zeros = [data[start::4].count(0) for start in range(4)]
    quarter = len(data) / 4
    if zeros[2] == zeros[3] == quarter or zeros[0] == zeros[1] == quarter:
        return _plausible(data, "utf-32-le" if zeros[3] == quarter else "utf-32-be")
    even, odd = _small(data)
    if max(even, odd) > max(2 * min(even, odd), len(data) // 4):
        return _plausible(data, "utf-16-le" if odd > even else "utf-16-be")
    return None


def _plausible(data: bytes, encoding: str) -> str | None:
    text = _decoded(data, encoding)
    kinds = {unicodedata.category(char) for char in text or "" if not char.isspace()}
    return None if text is None or kinds & {"Cc", "Cn", "Co", "Cs"} else text


def _read_text(file: Path) -> str:
    """Return the text of a file. Raises _Unusable, OSError."""
    if not file.is_file():
        raise _Unusable("it is not a file")
    limit = _MAX_BYTES[file.suffix.lower() in METADATA_SUFFIXES]
    with open(file, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise _Unusable("it is too long for a caption" if limit < 1 << 20 else "it is too big")
    text = decode(data)
    if text is None:
        raise _Unusable(_UNCERTAIN)
    return text.removeprefix("\ufeff")


def _one_line(text: str) -> str:
    """Return a caption on one line. Raises _Unusable if it is too long."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    text = " ".join(text.split())
    if len(text) > MAX_CHARS:
        raise _Unusable(f"it is longer than {MAX_CHARS} characters")
    return text


def _rows(file: Path) -> Iterator[tuple[str, object]]:
    """Yield (place in the file, row) of a metadata file. Raises _Unusable, OSError."""
    text = _read_text(file)
    if file.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _json(line)
    elif file.suffix.lower() == ".csv":
        yield from _csv_rows(text)
    else:
        yield from _json_rows(_json(text))


def _csv_rows(text: str) -> Iterator[tuple[str, object]]:
    first = text.partition("\n")[0]
    lines = csv.DictReader(io.StringIO(text), delimiter=";" if "," not in first else ",")
    try:
        for row in lines:
            yield f"line {lines.line_num}", row
    except csv.Error as error:
        raise _Unusable(f"it is not CSV ({error})") from error


def _json_rows(data: object) -> Iterator[tuple[str, object]]:
    """Yield the entries of a list of rows, or of {photo: caption, or {caption, tags}}."""
    if isinstance(data, list):
        yield from ((f"entry {number}", row) for number, row in enumerate(data, 1))
    elif isinstance(data, dict):
        for name, facts in data.items():
            row = _with_tags(facts) if isinstance(facts, dict) else {"text": facts}
            yield f"“{name}”", {"file_name": name} | row
    else:
        raise _Unusable("it is not JSON")


def _json(text: str) -> object:
    """Return the value of a JSON text, None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _with_tags(facts: dict) -> dict:
    """Return kohya's facts of a photo with its tags behind its caption."""
    parts = [facts.get("caption"), facts.get("tags")]
    texts = [part for part in parts if isinstance(part, str) and part.strip()]
    return {"text": ", ".join(texts)} if texts else {}


def _photo_and_text(row: object) -> tuple[str, str]:
    """Return the photo's path as written, and the caption. Raises _Unusable."""
    if not isinstance(row, dict):
        raise _Unusable("it is not a JSON object")
    names = [row[key] for key in _FILE_KEYS if isinstance(row.get(key), str) and row[key].strip()]
    texts = [row[key] for key in _TEXT_KEYS if isinstance(row.get(key), str)]
    if not names:
        raise _Unusable("it names no photo (file_name)")
    if not texts:
        raise _Unusable("it has no caption (text)")
    return names[0], _one_line(texts[0])


def _name_of(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _rank(file: Path) -> int:
    """Return the precedence of a caption file, 0 first."""
    order = (*SUFFIXES, *METADATA_SUFFIXES)
    return order.index(file.suffix.lower())


def caption_key(name: str) -> str:
    """Return a name for comparisons: case and Unicode composition do not count."""
    return unicodedata.normalize("NFC", name).casefold()
