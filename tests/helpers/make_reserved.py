"""Print the table of assets/evidence/simulated.md of what torch's allocator reserves.

python tests/helpers/make_reserved.py    (a few minutes)
"""

from blockskip.core.settings import Settings
from blockskip.lab.full_size.simulation_report import report
from blockskip.memory.planning.planner import make_plan

FREE = 0.93  # of a card, beside a desktop
CASES = (
    ("flux-dev", 6), ("flux-dev", 8), ("flux-dev", 12), ("flux-dev", 24), ("flux2-klein-4b", 8),
    ("z-image", 12), ("qwen-image", 16), ("sd35-medium", 6), ("sana-0.6b", 6), ("sana-1.6b", 8),
)  # fmt: skip


def settings_for(model: str, budget: float) -> Settings:
    """Return the plan's settings on Windows, where segments do not grow."""
    plan = make_plan(model=model, budget_gib=budget, system="Windows", free_gib=FREE * budget)
    return plan.settings


def main() -> None:
    for model, budget in CASES:
        stages = report(settings_for(model, budget))["stages"].values()
        cells = [
            f"{s['reserved_ratio']:.3f} / {s['growing_ratio']:.3f} / {s['default_ratio']:.3f}"
            for s in stages
        ]
        peak, reserved = (max(s[key] for s in stages) for key in ("vram_gib", "reserved_gib"))
        cells.append(f"{reserved / peak:.3f}")
        print(f"| {model} | {budget} GB | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
