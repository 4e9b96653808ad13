"""A sample of the corpus, some of every kind: each input gives its right result.

The whole of it takes half an hour: `./launch.sh test tests/corpus --long`.
"""

import pytest
from corpus import (
    captions,
    cases,
    fuzz_seeds,
    fuzz_targets,
    photos,
    report,
    runs,
    tensors,
    values,
    weights,
)
from corpus.long_run import SEED

# inputs of each module in the sample: all together less than half a minute
SAMPLES = {runs: 18, tensors: 40, weights: 12, photos: 39, captions: 15, values: 12}


@pytest.mark.parametrize("module", SAMPLES, ids=lambda module: module.__name__.split(".")[-1])
def test_every_input_gives_its_right_result(module):
    tried = cases.sampled(quick(module.cases(SEED)), SAMPLES[module], SEED)
    assert len(tried) >= SAMPLES[module] // 2
    verdicts = [cases.judge(case) for case in tried]
    wrong = [verdict for verdict in verdicts if verdict.verdict != cases.HELD]
    assert not wrong, "\n".join(f"{v.id}: {v.verdict}: {v.detail}" for v in wrong)


def quick(found):
    """Without what needs a studio of its own or opens one; the long run has it."""
    slow = ("api-", "route-", "photos-suffix", "value-lab", "runs-many")
    return [case for case in found if not case.id.startswith(slow)]


def test_thirty_broken_runs_harm_no_good_one():
    (case,) = [case for case in runs.cases(SEED) if case.id == "runs-many-000"]
    verdict = cases.judge(case)
    assert verdict.verdict == cases.HELD, verdict.detail


@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_parsers_let_nothing_out(target, tmp_path):
    """What every parser begins with, whole, cut and flipped; and the inputs that once did harm."""
    for data in fuzz_seeds.seeds(target):
        for torn in (data, data[: len(data) // 2], data[:-1], b"", b"[" * 5000, _flipped(data)):
            assert fuzz_targets.TARGETS[target](torn, tmp_path) is None, "or it raised"


def _flipped(data):
    copy = bytearray(data)
    for at in range(7, len(copy), 29):
        copy[at] ^= 1 << at % 8
    return bytes(copy)


def test_the_same_seed_gives_the_same_corpus():
    for module in (tensors, weights, captions):
        ids = [case.id for case in module.cases(SEED)]
        assert ids == [case.id for case in module.cases(SEED)] and len(set(ids)) == len(ids)


def test_a_case_is_judged_by_what_leaves_the_program(tmp_path):
    """The judge itself: each way to go wrong is counted as what it is."""
    from blockskip.core.errors import BadFile, Unexpected

    def verdict(error):
        def check(_):
            if error is not None:
                raise error

        return cases.judge(cases.Case("a-000", "a", lambda folder: folder, check)).verdict

    assert verdict(None) == cases.HELD
    assert verdict(KeyError("steps")) == cases.TRACEBACK
    assert verdict(Unexpected("It stopped.")) == cases.UNEXPECTED
    assert verdict(BadFile("a.png cannot be read.")) == cases.SILENT
    assert verdict(cases.Wrong(cases.LOST, "gone")) == cases.LOST
    with pytest.raises(cases.Wrong, match="instead of refused"):
        cases.demand_refusal(lambda: 5, "a.png")


def test_the_page_counts_what_did_not_hold_and_shows_it():
    held = {"id": "a-1", "kind": "a kind", "verdict": cases.HELD, "detail": "", "seconds": 1.0}
    lost = held | {"id": "kill-train-01", "verdict": cases.LOST, "detail": "gone | [x](y) <b>"}
    fuzz = {"id": "fuzz-x", "target": "run_toml", "seconds": 25.0, "executions": 9000}
    fuzz |= {"coverage": 214, "problems": {"run.py info KeyError": "KeyError: 'settings'"}}
    page = report.page([held, lost, fuzz])
    assert report.num_wrong([held, lost, fuzz]) == 2 and report.num_wrong([held]) == 0
    assert "| a kind | 2 | 0 | 0 | 0 | 1 | 0 | 0 |" in page and "Of 2 inputs, 1 gave" in page
    assert "| run toml | 9,000 | 214 | 25 | 1 |" in page and "1 kills" in page
    assert "| kill-train-01 | run lost | gone / (x)(y) ‹b› |" in page
