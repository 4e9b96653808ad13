"""The ablation's page on cells whose right answers are known."""

import json
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.lab.ablation import report as ablation_report
from blockskip.lab.ablation import statistics
from blockskip.lab.ablation.statistics import Finding, by_variant, difference, verdict
from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.ablation.tables import tables
from blockskip.lab.bench import report as bench_report
from blockskip.lab.measuring.json_lines import append_line
from blockskip.lab.measuring.sheets import contact_sheet

PETS = [one.key for one in subjects(6)]
# how likely each row is made to be, beside how hard the pet is
TRUE = {"lora": 0.9, "ours-30": 0.9, "ours-50": 0.88, "once-50": 0.7, "none-50": 0.2}
TRUE |= {"dynamic": 0.7, "resize": 0.75, "front-50": 0.8, "untrained": 0.1}


def made(rows=tuple(TRUE), pets=PETS) -> list[dict]:
    found = []
    for k, pet in enumerate(pets):
        for seed in (0, 1):
            for j, row in enumerate(rows):
                wobble = 0.004 * ((7 * k + 3 * j + 5 * seed) % 5 - 2)
                hard = 0.3 * k / len(pets)  # far more than rows differ by
                told = {"row": row, "subject": pet, "seed": seed, "steps": 300, "front": 6}
                told |= {
                    "identity": TRUE.get(row, 0.5) - hard + wobble,
                    "attributes": 0.8,
                    "back": 3,
                }
                told |= {"places_obeyed": 1.0, "class_word": 0.1, "seconds_per_draw": 0.05}
                told |= {"peak_bytes": 90_000_000, "photos_identity": 0.95, "each": {}}
                found.append(told)
    return found


def test_pets_that_are_hard_cancel_out():
    cells = by_variant(made())
    apart = difference(cells, "lora", "ours-50")
    assert apart.num == 12 and apart.value == pytest.approx(0.02, abs=0.006)
    assert apart.high - apart.low < 0.02, "although pets differ by .25"
    mixed = by_variant(made(("lora",)) + made(("ours-50",), PETS[:2]))
    assert difference(mixed, "lora", "ours-50").num == 4, "only pets that both have"


def test_a_second_seed_that_says_the_same_makes_nothing_surer():
    twice = made()
    for line in twice:
        first = next(
            one for one in twice if (one["row"], one["subject"]) == (line["row"], line["subject"])
        )
        line["identity"] = first["identity"]
    once = [line for line in twice if line["seed"] == 0]
    apart, alone = (difference(by_variant(lines), "lora", "ours-50") for lines in (twice, once))
    assert (apart.low, apart.high) == (alone.low, alone.high) and apart.num == 2 * alone.num
    assert apart.low < apart.value < apart.high


def test_findings_are_told_as_they_are():
    cells = by_variant(made())

    def told(**words):
        finding = Finding("", **words)
        better = statistics.estimate(cells, finding.better, "identity")
        return verdict(finding, difference(cells, finding.better, finding.worse), better)

    assert told(better="once-50", worse="none-50") == "reproduces"
    assert "opposite" in told(better="dynamic", worse="resize")
    assert told(better="lora", worse="ours-30", same=True).startswith("holds")
    assert told(better="lora", worse="once-50", same=True).startswith("does not hold")
    assert told(better="lora", worse="once-50", within=0.02).startswith("does not hold")
    assert told(better="lora", worse="ours-30", within=0.02) == "holds"
    assert told(better="back-50", worse="hollow-50") == "not measured yet"
    assert "not decided" in told(better="lora", worse="ours-30")


def test_the_page_is_written_from_whatever_is_there(tmp_path):
    with pytest.raises(UserError, match="no cells"):
        ablation_report.write([tmp_path], tmp_path / "out")
    for line in [*made(pets=PETS[:2]), {**made(("lora",))[0], "steps": 2, "identity": -1.0}]:
        append_line(tmp_path / "cells.jsonl", line)
    append_line(
        tmp_path / "cells.jsonl",
        {"row": "lr-5", "subject": "pink-rabbit", "seed": 0, "steps": 300, "failed": "astray"},
    )
    written = ablation_report.write([tmp_path], tmp_path / "out")
    page = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    figures = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))
    assert len(figures) == 2 * 2 * len(TRUE) + 1, "not the short one"
    assert (
        "| LoRA on every block | 4 |" in page
        and page.startswith("# The ablation")
        and "not measured yet" in page
    )
    assert "each" not in figures[0] and "## C." not in page
    assert {path.name for path in written if path.suffix == ".svg"} == {
        "ablation-A.svg",
        "ablation-B.svg",
        "ablation-B32.svg",  # its row at 50 % is table A's
    }
    for path in written:
        if path.suffix == ".svg":
            ET.fromstring(path.read_text(encoding="utf-8"))
            assert path.name in page


def test_pictures_of_one_pet_are_shown_where_they_were_kept(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in (f"lora {PETS[0]}-0 300", f"lora {PETS[1]}-0 300", f"dynamic {PETS[0]}-1 300"):
        Image.new("RGB", (4 * 64, 64), "red").save(tmp_path / "pictures" / f"{name}.png")
    append_line(tmp_path / "cells.jsonl", made(("lora",), PETS[:1])[0])
    written = ablation_report.write([tmp_path], tmp_path / "out")
    assert written[-1].suffix == ".webp" and "What that looks like" in written[-2].read_text(
        "utf-8"
    )
    with Image.open(written[-1]) as sheet:
        assert sheet.size == contact_sheet([("", [sheet] * 4)] * 2, 64).size, "photos and one row"


def test_seconds_are_those_of_the_run_for_costs_in_tables_that_it_has_whole(tmp_path):
    rows = [row.key for row in tables()["A"].variants]
    for name, seconds in (("cells", 0.5), ("costs", 0.0625)):
        for line in made(rows, PETS[:1]):
            append_line(tmp_path / name / "cells.jsonl", line | {"seconds_per_draw": seconds})
    files.write_json(tmp_path / "costs" / "machine.json", bench_report.machine())
    ablation_report.write([tmp_path / "cells"], tmp_path / "out", tmp_path / "costs")
    page = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    assert "0.0625 | 90 |" in page and "0.5000" not in page.split("## B32")[0]
    assert "A: of runs of 300 steps, one after another in one process" in page


def test_every_finding_names_rows_that_are_made():
    known = {row.key for table in tables().values() for row in table.variants}
    assert {r for f in statistics.FINDINGS for r in (f.better, f.worse)} <= known
