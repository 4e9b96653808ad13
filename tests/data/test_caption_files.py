"""Captions beside photos: every encoding is right or named, other trainers' files are read, and what
cannot be used never becomes a caption."""

import json
import os

import pytest

from blockskip.data.caption_files import Captions, captions_beside, decode, is_caption_file

CAT = "ein Kätzchen – süß, auf dem Sofa"
HAN = "一只猫"
OTHERS = ("лежит на диване", "кот", "στον καναπέ", "مستلقية على الأريكة", "मोमो सोया", "แมวนอน")
UNCERTAIN = "its text encoding is not certain; save it as UTF-8 with BOM"


@pytest.mark.parametrize(
    "data, text",
    [
        (CAT.encode(), CAT),
        (CAT.encode("utf-8-sig"), CAT),
        *((("\ufeff" + CAT).encode(name), CAT) for name in ("utf-16-le", "utf-16-be")),
        *((("\ufeff" + CAT).encode(name), CAT) for name in ("utf-32-le", "utf-32-be")),
        *((CAT.encode(name), CAT) for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
        *(
            (f"{HAN} sks".encode(name), f"{HAN} sks")
            for name in ("utf-16-le", "utf-16-be", "utf-8")
        ),
        *((word.encode(name), word) for word in OTHERS for name in ("utf-16-le", "utf-16-be")),
        *((blank, blank.decode()) for blank in (b"\n\n", b"\t\t\t\t\n\n\n\n", b"a\n\n")),
        (b"a photo", "a photo"),
        (b"a\x00 photo", "a\x00 photo"),  # one zero is no UTF-16; it becomes a blank later
        ("猫 sks".encode("iso2022_jp"), "猫 sks"),
        # the same letters in every Western code page of Windows
        *((word.encode("cp1252"), word) for word in (CAT, "Größe", "Öfen", "chat né", "cat’s bed")),
        # valid UTF-8 that is short or has few letters beyond ASCII
        *(
            (t.encode(), t)
            for t in ("né", "momo è sul divano", "üç kedi uyanış", "kot śpi", "20 °C")
        ),
        *((t.encode(), t) for t in ("кот спит", "γάτα", "חתול", "قطة", "猫", "고양이")),
        # none of these is certain
        (HAN.encode("gbk"), None),
        ("猫".encode("gbk"), None),  # valid UTF-8: “è”
        ("sks 小猫".encode("gbk"), None),
        (f"sks {HAN}".encode("gbk"), None),
        (f"sks{HAN}".encode("gb18030"), None),
        ("ネコが寝ている".encode("shift_jis"), None),
        ("sks 猫".encode("shift_jis"), None),
        ("고양이 sks".encode("euc_kr"), None),
        ("貓 sks".encode("big5"), None),
        ("кот на диване".encode("cp1251"), None),
        ("кот sks".encode("koi8_r"), None),
        ("γάτα sks".encode("cp1253"), None),
        ("kot śpi na łóżku".encode("cp1250"), None),
        ("macskám őrzi".encode("cp1250"), None),
        ("uyuyan kedi, ağaç".encode("cp1254"), None),
        ("süße Straße".encode("cp850"), None),
        ("Größe".encode("mac_roman"), None),
        (HAN.encode("utf-16-le"), None),  # no zeros, and no mark
        (b"\xff\xfea", None),  # half a character
        (b"\x00\xd8\x00\x00", None),
        (bytes(range(256)), None),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", None),
    ],
)
def test_an_encoding_is_certain_or_named(tmp_path, data, text):
    assert decode(data) == text
    (tmp_path / "a.txt").write_bytes(data)
    found = captions_beside([tmp_path / "a.jpg"])
    assert found.of(tmp_path / "a.jpg") == " ".join((text or "").replace("\x00", " ").split())
    assert found.problems == ([("a.txt", UNCERTAIN)] if text is None else [])


def test_no_text_of_another_encoding_is_ever_read_as_something_else():
    """Characters of East Asian, Cyrillic and Greek code pages, alone and beside Latin words."""
    wrong = []
    for encoding in (
        "gb2312",
        "euc_jp",
        "shift_jis",
        "big5",
        "euc_kr",
        "koi8_r",
        "cp1251",
        "cp1253",
        "cp866",
    ):
        for code in [*range(0x370, 0x500), *range(0x3041, 0x30FF), *range(0x4E00, 0x9FA0, 7)]:
            for pattern in ("{0}", "{0}{0}", "sks {0}", "{0} asleep", "a {0}{0} cat"):
                text = pattern.format(chr(code))
                try:
                    data = text.encode(encoding)
                except UnicodeEncodeError:
                    continue
                if decode(data) not in (text, None):
                    wrong.append((encoding, text, decode(data)))
    assert not wrong, wrong[:20]


@pytest.mark.parametrize(
    "data, text, reason",
    [
        (b"two\r\n lines\t of\x0b it\x00\x1b \xc2\x85", "two lines of it", None),
        ("a\u2028b\u2029c".encode(), "a b c", None),
        (b"", "", None),
        (b"\xef\xbb\xbf \r\n", "", None),
        (b"x" * 2000, "x" * 2000, None),
        (b"x" * 2001, "", "it is longer than 2000 characters"),
        (b"meow " * 20_000, "", "it is too long for a caption"),
    ],
)
def test_one_line_of_a_sensible_length(tmp_path, data, text, reason):
    (tmp_path / "a.txt").write_bytes(data)
    found = captions_beside([tmp_path / "a.jpg"])
    assert found.of(tmp_path / "a.jpg") == text
    assert found.problems == ([("a.txt", reason)] if reason else [])


def test_a_folder_or_a_locked_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "b.txt").write_text("b")
    found = captions_beside([tmp_path / "a.jpg"])
    assert (found.of(tmp_path / "a.jpg"), found.problems) == ("", [("a.txt", "it is not a file")])

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refused)
    found = captions_beside([tmp_path / "b.jpg"])
    assert found.problems == [("b.txt", "it cannot be read (Permission denied)")]


@pytest.mark.parametrize("name", ["a.txt", "A.TXT", "a.jpg.txt", "a.caption", "a.jpg.caption"])
def test_names_of_a_caption(tmp_path, name):
    (tmp_path / name).write_text("asleep")
    (tmp_path / "other.txt").write_bytes(HAN.encode("gbk"))  # no photo's, so of no interest
    found = captions_beside([tmp_path / "a.jpg"])
    assert found.of(tmp_path / "a.jpg") == "asleep" and not found.problems
    assert is_caption_file(tmp_path / name)


def test_composed_and_decomposed_names_are_one(tmp_path):
    (tmp_path / "Ka\u0308tzchen 1.2.txt").write_text("asleep")
    assert captions_beside([tmp_path / "Kätzchen 1.2.jpg"]).of(tmp_path / "Kätzchen 1.2.jpg")


def test_precedence_and_folders(tmp_path):
    """.txt, .caption, metadata.jsonl, metadata.csv, kohya's JSON; a blank one is none."""
    (tmp_path / "b").mkdir()
    for photo in "12345":
        (tmp_path / f"{photo}.jpg").touch()
    (tmp_path / "1.txt").write_text("one")
    (tmp_path / "2.txt").write_text(" \n")
    for photo in "12":
        (tmp_path / f"{photo}.caption").write_text(f"{photo} by caption")
    rows = [{"file_name": f"{photo}.jpg", "text": f"{photo} by jsonl"} for photo in "123"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "metadata.csv").write_text("file_name,text\n3.jpg,no\n4.jpg,4 by csv\n")
    (tmp_path / "meta_cap.json").write_text('{"4": {"caption": "no"}, "5": {"caption": "5"}}')
    found = captions_beside([tmp_path / f"{photo}.jpg" for photo in "12345"])
    said = [found.of(tmp_path / f"{photo}.jpg") for photo in "12345"]
    assert said == ["one", "2 by caption", "3 by jsonl", "4 by csv", "5"] and not found.problems
    assert found.of(tmp_path / "b" / "1.jpg") == "", "of another folder"
    uploads = Captions([tmp_path / "1.txt", tmp_path / "metadata.jsonl"], same_folder=False)
    assert [uploads.of(tmp_path / "b" / f"{photo}.jpg") for photo in "13"] == ["one", "3 by jsonl"]


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("metadata.jsonl", '{"file_name": "a.jpg", "text": "asleep"}', "asleep"),
        ("metadata.jsonl", '{"file_name": "train/a.jpg", "caption": "asleep"}', "asleep"),
        ("metadata.jsonl", '{"image_path": "C:\\\\pets\\\\A.JPG", "caption": "asleep"}', "asleep"),
        ("metadata.jsonl", '{"image": "a.jpg", "prompt": "asleep"}\r\n\r\n', "asleep"),
        ("METADATA.JSONL", '\ufeff{"file_name": "a.jpg", "text": "asleep"}', "asleep"),
        ("metadata.csv", 'file_name,text\r\na.jpg,"asleep, on\r\na sofa"\r\n', "asleep, on a sofa"),
        ("metadata.csv", "file_name;text\na.jpg;asleep\n", "asleep"),
        ("meta_cap.json", '{"/home/me/pets/a.jpg": {"caption": "asleep"}}', "asleep"),
        (
            "meta_clean.json",
            '{"a": {"caption": "asleep", "tags": "1cat, sofa"}}',
            "asleep, 1cat, sofa",
        ),
        ("meta_lat.json", '{"a": {"tags": "1cat", "train_resolution": [512, 512]}}', "1cat"),
        ("captions.json", '{"a.jpg": "asleep"}', "asleep"),
        ("captions.json", '{"../a.jpg": "x", "a.jpg": "asleep"}', "asleep"),
        ("metadata.json", '[{"file_name": "a.jpg", "text": "asleep"}]', "asleep"),
    ],
)
def test_metadata_of_other_trainers(tmp_path, name, text, expected):
    (tmp_path / name).write_bytes(text.encode())
    found = captions_beside([tmp_path / "a.jpg"])
    assert found.of(tmp_path / "a.jpg") == expected and not found.problems
    assert is_caption_file(tmp_path / name) and not is_caption_file(tmp_path / "a.box.json")


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("metadata.jsonl", '{"file_name": "a.jpg", "te', (", line 2", "it is not a JSON object")),
        ("metadata.jsonl", "[" * 100_000, (", line 2", "it is not a JSON object")),
        ("metadata.jsonl", "5", (", line 2", "it is not a JSON object")),
        ("metadata.jsonl", '{"text": "x"}', (", line 2", "it names no photo (file_name)")),
        (
            "metadata.jsonl",
            '{"file_name": 5, "text": "x"}',
            (", line 2", "it names no photo (file_name)"),
        ),
        ("metadata.jsonl", '{"file_name": "a.jpg"}', (", line 2", "it has no caption (text)")),
        (
            "metadata.jsonl",
            '{"file_name": "a.jpg", "text": ["x"]}',
            (", line 2", "it has no caption (text)"),
        ),
        (
            "metadata.jsonl",
            '{"file_name": "b.jpg", "text": "x"}',
            ("", "it has 2 captions for b.jpg"),
        ),
        ("metadata.csv", "b.jpg", (", line 3", "it has no caption (text)")),
        ("captions.json", "", None),
    ],
)
def test_a_broken_line_is_named_and_the_others_are_read(tmp_path, name, text, problem):
    first = {
        "metadata.jsonl": '{"file_name": "good.jpg", "text": "asleep"}\n'
        '{"file_name": "b.jpg", "text": "y"}\n'.replace("\n", "\n", 1),
        "metadata.csv": "file_name,text\ngood.jpg,asleep\n",
        "captions.json": '{"good.jpg": "asleep", "n": 5}',
    }[name]
    if name == "metadata.jsonl" and "b.jpg" not in text:
        first = first.partition("\n")[0] + "\n"
    (tmp_path / name).write_text(first + text)
    found = captions_beside([tmp_path / "good.jpg"])
    assert found.of(tmp_path / "good.jpg") == "asleep"
    if problem is not None:
        assert found.problems == [(name + problem[0], problem[1])]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "captions.json"])
def test_a_broken_metadata_file_is_a_few_sentences(tmp_path, name):
    for data in (
        os.urandom(64),
        HAN.encode("gbk"),
        b"\n" * 3 + b"nonsense\n" * 500,
        b"[[[",
        b"null",
    ):
        (tmp_path / name).write_bytes(data)
        found = captions_beside([tmp_path / "a.jpg"])
        assert found.of(tmp_path / "a.jpg") == ""
        assert 1 <= len(found.problems) <= 6 or name == "metadata.csv"
        assert len(found.problems) <= 6
        assert all(problem.name.startswith(name) for problem in found.problems)
