"""The benchmark's contenders: for each a name, a description and settings of the one training loop.

Sizes are FLUX's block layout at several widths, so that the paper's spans apply to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blockskip.core.errors import BadInput
from blockskip.core.settings import ALL_BLOCKS, MAX_GIB, Settings
from blockskip.lab.full_size.random_model import FLUX_DEV
from blockskip.memory.placement import pick_device
from blockskip.memory.planning.planner import make_plan

SIZES = {  # all with FLUX's 19 + 38 blocks; heads: width / 128
    "tiny": {"num_attention_heads": 1, "joint_attention_dim": 128, "pooled_projection_dim": 64},
    "small": {"num_attention_heads": 6},
    "full": {},
}
REFERENCE = "lora"
SWAPPED = {"swap-28": 28, "swap-28-products": 28}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. side_px: plain LoRA's; BlockSkip uses half. draws: per window.
    baseline_draws: for contenders without windows, the first untimed. cap_gib: 0 for none."""

    work: Path
    folder: Path | None = None  # of the weights; None: below `work`
    size: str = "small"
    contenders: tuple[str, ...] = ()  # () = all of CONTENDERS
    rungs: tuple[float, ...] = ()  # budgets in GiB, as planned for FLUX's full size
    side_px: int = 512
    text_tokens: int = 128
    skip: tuple[int, int] = (19, 10)
    draws: int = 16
    baseline_draws: int = 3
    rounds: int = 3
    rows: int = 16  # draws at a time through a block while a window is computed
    dtype: str = "auto"  # float32 on the CPU, bfloat16 elsewhere
    device: str = "auto"
    threads: int = 0
    cap_gib: float = 0.0
    timeline: str = ""

    @property
    def shape(self) -> dict:
        return FLUX_DEV | SIZES[self.size]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to train. windows: whether it uses residual windows (BlockSkip). swapped: blocks
    loaded for every pass, without windows. planned: planned GPU memory by stage in GiB, if there is
    a plan."""

    name: str
    about: str
    settings: Settings
    windows: bool = False
    cap_gib: float = 0.0
    swapped: int = 0
    planned: dict[str, float] | None = None


# name → description, whether it uses windows, changed settings. Compiled blocks belong here too: a
# row for each contender to be compiled, and its name in RIVALS and CAPPED of lab/gpu/commands.py
CONTENDERS = {
    REFERENCE: ("LoRA (peft), full resolution", False, {"patches": "full"}),
    "lora-checkpointed": (
        "the same, activations checkpointed",
        False,
        {"patches": "full", "recomputed": ALL_BLOCKS},
    ),
    "lora-half": ("LoRA (peft), half resolution", False, {}),
    "qlora": ("QLoRA (NF4), full resolution", False, {"patches": "full", "precision": "nf4"}),
    "qlora-checkpointed": (
        "the same, activations checkpointed",
        False,
        {"patches": "full", "precision": "nf4", "recomputed": ALL_BLOCKS},
    ),
    # frozen blocks come from RAM (pinned, the next one while this one computes) and are not copied
    # back, as in musubi-tuner, OneTrainer and Fizgig
    "swap": (
        "LoRA with every block swapped in, forward and backward",
        False,
        {"patches": "full", "middle": "streamed", "recomputed": ALL_BLOCKS},
    ),
    "swap-together": (
        "LoRA with every block swapped in, the 4 draws of a step together",
        False,
        {"patches": "full", "middle": "streamed", "recomputed": ALL_BLOCKS, "batch": 4},
    ),
    "swap-products": (
        "LoRA in 8 bits, products too (W8A8), with every block swapped in",
        False,
        {
            "patches": "full",
            "middle": "streamed",
            "precision": "int8",
            "arithmetic": "int8",
            "recomputed": ALL_BLOCKS,
        },
    ),
    "swap-28": (  # half of the blocks, in 8 bits, as is usual with 8 GB
        "LoRA in 8 bits with 28 blocks swapped in, forward and backward",
        False,
        {"patches": "full", "precision": "int8", "recomputed": ALL_BLOCKS},
    ),
    "swap-28-products": (
        "LoRA in 8 bits, products too (W8A8), with 28 blocks swapped in",
        False,
        {
            "patches": "full",
            "precision": "int8",
            "arithmetic": "int8",
            "recomputed": ALL_BLOCKS,
        },
    ),
    "ours": ("BlockSkip, half resolution", True, {}),
    "ours-together": ("BlockSkip, the 4 draws of a step together", True, {"batch": 4}),
    "ours-int8": ("BlockSkip in 8 bits", True, {"precision": "int8"}),
    "ours-int8-products": (
        "BlockSkip, products in 8 bits too",
        True,
        {"precision": "int8", "arithmetic": "int8"},
    ),
    "ours-reuse-2": ("BlockSkip, each draw used twice", True, {"reuse": 2}),
}


def contenders(plan: Plan) -> list[Contender]:
    """Return the requested contenders, then one per rung. Raises UserError for unknown names."""
    unknown = [name for name in plan.contenders if name not in CONTENDERS]
    if unknown:
        raise BadInput(f"There is no contender “{unknown[0]}”.", f"Known: {', '.join(CONTENDERS)}.")
    names = [name for name in CONTENDERS if not plan.contenders or name in plan.contenders]
    return [_contender(plan, name) for name in names] + [
        _budget_contender(plan, gib) for gib in plan.rungs
    ]


def _common(plan: Plan) -> Settings:
    cpu = pick_device(plan.device).type == "cpu"
    return Settings.of(
        model="flux-dev",
        s_min_px=plan.side_px // 2,
        s_max_px=plan.side_px,
        text_tokens=plan.text_tokens,
        micro_batch=plan.rows,
        window_on_card=plan.draws,
        ram_weights_gib=0 if cpu else MAX_GIB,
        device=plan.device,
        threads=plan.threads,
    )


def _contender(plan: Plan, name: str) -> Contender:
    about, windows, changes = CONTENDERS[name]
    steps = plan.draws * changes.get("reuse", 1) if windows else plan.baseline_draws
    # without a window, the first step is not timed
    steps = max(1 if windows else 2, steps // changes.get("batch", 1))
    if windows:
        changes = changes | {"front": plan.skip[0], "back": plan.skip[1]}
        about += f", {plan.skip[0]} + {plan.skip[1]} blocks skipped"
    settings = _common(plan).changed(steps=steps, window_steps=steps, **changes)
    return Contender(
        name=name,
        about=about,
        settings=settings,
        windows=windows,
        cap_gib=plan.cap_gib,
        swapped=SWAPPED.get(name, 0),
    )


def _budget_contender(plan: Plan, gib: float) -> Contender:
    """Return BlockSkip as planned for a budget in GiB: one window and every step it serves."""
    if plan.size != "full":
        raise BadInput("Rungs are planned for FLUX's full size.", "Add --size full.")
    budget_plan = make_plan(model="flux-dev", budget_gib=gib, patches="dynamic", prior=0.0)
    planned = budget_plan.settings
    settings = planned.changed(
        steps=planned.plan.window_steps,
        device=plan.device,
        threads=plan.threads,
        preview_prompts=(),
    )
    execution = planned.plan
    about = f"BlockSkip, planned for {gib:g} GB: {execution.front} + {execution.back} skipped, "
    about += f"{execution.precision}, {execution.s_min_px} px, {execution.text_tokens} text tokens"
    return Contender(
        name=f"ours-{gib:g}gb",
        about=about,
        settings=settings,
        windows=True,
        cap_gib=gib,
        planned={name: budget_plan.stages[name].vram_gib for name in ("residuals", "train")},
    )
