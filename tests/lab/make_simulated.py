"""Makes simulated.json anew: every rung's plan, all stages, and training steps beside them.

python tests/lab/make_simulated.py    (minutes; run it when a stage or a table changes)
"""

import itertools
import json
from dataclasses import asdict
from pathlib import Path

from blockskip.lab.simulate import simulate
from blockskip.memory.planner import make_plan
from blockskip.memory.tables import STAGES, Choice

BUDGETS = (4, 6, 8, 10, 12, 16, 24)
DEFAULT = asdict(Choice())


def cases():
    """(choice, stages) to simulate; a choice twice is simulated once."""
    free = float("inf")
    plans = {
        make_plan(model="flux-dev", budget_gib=b, system=s, free_gib=free).choice: None
        for s, b in itertools.product(("Linux", "Windows"), BUDGETS)
    }
    yield from ((choice, STAGES) for choice in plans)
    spans, flags = ((7, 10), (13, 10), (19, 10)), (False, True)
    for (front, back), checkpointing in itertools.product(spans, flags):
        for precision, targets in itertools.product(
            ("bf16", "int8", "nf4"), ("attention", "attention+ff")
        ):
            yield (
                Choice(
                    front=front,
                    back=back,
                    checkpointing=checkpointing,
                    precision=precision,
                    targets=targets,
                ),
                ("train",),
            )


def main() -> None:
    out = []
    for choice, stages in cases():
        unusual = {k: v for k, v in asdict(choice).items() if v != DEFAULT[k]}
        for stage, peak in simulate(choice, stages).items():
            out.append({"stage": stage, "choice": unusual, "vram_gib": round(peak.vram_gib, 4)})
    lines = ",\n".join(json.dumps(case) for case in out)
    Path(__file__).with_name("simulated.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
