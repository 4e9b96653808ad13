"""The rows of the ablation's tables: their titles, settings and baselines.

A row is a change of settings, with a trainer of baselines.py where needed. Everything else is the
demo model's default (presets/training.toml) at the same number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from blockskip.core.errors import BadInput
from blockskip.lab.ablation import baselines
from blockskip.lab.ablation.variants import (
    SANA_SPANS,
    SPLITS,
    WINDOWS,
    Override,
    Table,
    Variant,
    middle_skipped,
    override,
    random_split,
    skip_blocks,
    with_small_patches,
    with_window,
)
from blockskip.training.trainer import Trainer


def _spans() -> list[Variant]:
    rows = [
        Variant("lora", "LoRA on every block", skip_blocks(0, 0), trainer=baselines.WholeTrainer)
    ]
    for percent, ((front, back), _) in SPLITS.items():
        about = f"{percent} % skipped, chosen span {front} + {back}"
        rows.append(
            Variant(f"ours-{percent}", f"{about}, fresh residuals", skip_blocks(front, back))
        )
    for percent, ((front, back), _) in SPLITS.items():
        about = f"{percent} % skipped, chosen span {front} + {back}, residuals once"
        rows.append(Variant(f"once-{percent}", about, skip_blocks(front, back, refresh="once")))
    half, (front, back) = sum(SPLITS[50][0]), SPLITS[50][0]
    return [
        *rows,
        Variant("front-50", "50 % skipped, all at the front", skip_blocks(half, 0)),
        Variant("back-50", "50 % skipped, all at the back", skip_blocks(0, half)),
        Variant(
            "hollow-50",
            "50 % skipped, the centre",
            middle_skipped(50),
            trainer=baselines.HollowTrainer,
        ),
        Variant(
            "none-50",
            f"50 % skipped, chosen span {front} + {back}, no residuals",
            skip_blocks(front, back),
            trainer=baselines.NoResidualTrainer,
        ),
    ]


def _patches() -> list[Variant]:
    front, back = SPLITS[50][0]
    titles = {
        "dynamic": "dynamic: small crops at little noise",
        "reversed": "reversed: small crops at much noise",
        "random": "random sides",
        "resize": "resize: whole pictures, shrunk",
    }
    return [
        Variant(name, title, skip_blocks(front, back, patches=name, s_min_px=32), baseline="resize")
        for name, title in titles.items()
    ]


def _at_32(row: Variant) -> Variant:
    """Return the row with dynamic patches at 32 px instead of whole pictures at 64 px."""
    return replace(
        row,
        key=f"{row.key}@32",
        title=f"{row.title}, 32 px",
        baseline=f"{row.baseline}@32",
        override=with_small_patches(row.override),
    )


def _windows() -> list[Variant]:
    """Return the rows that no other table has. Table B32 has the preset's splits at 10 and 100
    %."""
    rows = []
    for percent, splits in SPLITS.items():
        for split in splits:
            for share in WINDOWS:
                key = window_key(percent, split, share)
                if key.startswith("window"):
                    title = f"{percent} % skipped as {split[0]} + {split[1]}, window {share} %"
                    against = window_key(percent, split, 100)
                    row = Variant(key, title, with_window(*split, share), against)
                    rows.append(replace(row, override=with_small_patches(row.override)))
    return rows


def window_key(percent: int, split: tuple[int, int], share: int) -> str:
    """Return the key of the row at 32 px that skips `percent` of the blocks as `split` (front,
    back), with windows that serve `share` percent of the run."""
    if split == SPLITS[percent][0] and share == 100:
        return f"once-{percent}@32"
    if split == SPLITS[percent][0] and share == 10:
        return "dynamic" if percent == 50 else f"ours-{percent}@32"
    return f"window-{percent}-{split[0]}-{split[1]}-{share}"


def _others() -> list[Variant]:
    once = {"refresh": "once"}
    plain_lora, hollow = baselines.WholeTrainer, baselines.HollowTrainer
    return [
        Variant("random-50", "50 % skipped, split at random", random_split),
        Variant(
            "qlora",
            "QLoRA: every block, NF4",
            skip_blocks(0, 0, precision="nf4"),
            trainer=plain_lora,
        ),
        Variant("lora-fa", "LoRA-FA", skip_blocks(0, 0), trainer=baselines.LoraFATrainer),
        Variant(
            "lisa", "LISA, two blocks at a time", skip_blocks(0, 0), trainer=baselines.LisaTrainer
        ),
        Variant("hollowed-30", "HollowedNet 30 %", middle_skipped(30, **once), trainer=hollow),
        Variant("hollowed-50", "HollowedNet 50 %", middle_skipped(50, **once), trainer=hollow),
    ]


def _causes() -> list[Variant]:
    """Return rows that separate the causes of skipping's loss against LoRA on every block: fewer
    trained blocks (nothing skipped, all gradients exact), fewer parameters, stale residuals."""
    front, back = SPLITS[50][0]

    def within(percent: int) -> Variant:
        words = f"LoRA on the middle of {percent} % skipped, but nothing skipped"
        middle = skip_blocks(*SPLITS[percent][0])
        return Variant(f"middle-{percent}", words, middle, trainer=baselines.WholeTrainer)

    about = f"50 % skipped, chosen span {front} + {back}"
    return [
        within(30),
        within(50),
        Variant("ours-50-rank-32", f"{about}, fresh, rank 32", skip_blocks(front, back, rank=32)),
        Variant("ours-50-window-2", f"{about}, window 2 %", with_window(front, back, 2)),
    ]


def _choice(
    key: str, title: str, trainer: type[Trainer] = Trainer, framed: bool = False, **fields: object
) -> Variant:
    change = with_small_patches(skip_blocks(*SPLITS[50][0], **fields))
    return Variant(key, title, change, "dynamic", trainer, framed)


def _plain(key: str, title: str, **fields: object) -> Variant:
    return _at_32(Variant(key, title, skip_blocks(0, 0, **fields), trainer=baselines.WholeTrainer))


def _choices() -> list[Variant]:
    """Return rows that change one setting at a time at 50 %, then plain LoRA's learning rates."""
    return [
        _choice("dynamic", "the defaults at 50 %"),
        _choice("rank-4", "rank 4", rank=4),
        _choice("rank-8", "rank 8", rank=8),
        _choice("rank-32", "rank 32", rank=32),
        _choice("attention", "LoRA on attention only", targets="attention"),
        _choice("t-uniform", "timesteps uniform", timesteps="uniform"),
        _choice("t-shifted", "timesteps towards noise", timesteps="shifted_sigmoid"),
        _choice("framed", "crops keep to a box around the pet", framed=True),
        _choice("lr-1", "rate 1e-3", lr=1e-3),
        _choice("lr-2", "rate 2e-3", lr=2e-3),
        _choice("lr-5", "rate 5e-3", lr=5e-3),
        _choice("prior-0", "no draws of the bare class word", prior=0.0),
        _choice("prior-15", "15 % draws of the bare class word", prior=0.15),
        _choice("prior-45", "45 % draws of the bare class word", prior=0.45),
        _choice("class-images", "these draws show class images", baselines.ClassImagesTrainer),
        _choice("reuse-2", "each draw used twice", reuse=2),
        _choice("reuse-4", "each draw used four times", reuse=4),
        _choice("reuse-8", "each draw used eight times", reuse=8),
        _choice("rounded", "the residual in 8 bits", baselines.RoundedTrainer),
        _choice("blocks-int8", "frozen blocks in 8 bits", precision="int8"),
        _choice("blocks-nf4", "frozen blocks in 4 bits (NF4)", precision="nf4"),
        _choice("text-16", "16 text tokens instead of 22", text_tokens=16),
        _choice("text-32", "32 text tokens instead of 22", text_tokens=32),
        _plain("lora", "plain LoRA"),
        _plain("lora-lr-1", "plain LoRA, rate 1e-3", lr=1e-3),
        _plain("lora-lr-2", "plain LoRA, rate 2e-3", lr=2e-3),
        _plain("lora-lr-5", "plain LoRA, rate 5e-3", lr=5e-3),
    ]


def _splits() -> list[Variant]:
    """Return rows for the splits between all skipped at the front and half at the back, also with
    the paper's residuals where the back has blocks. Then table E's better settings on whole
    pictures."""
    rows = []
    for percent, backs in {50: (0, 3, 6, 9), 40: (0, 3, 5, 7), 30: (0, 1, 3, 5)}.items():
        for back in backs:
            front = sum(SPLITS[percent][0]) - back
            key, about = f"split-{front}-{back}", f"{percent} % skipped as {front} + {back}"
            rows.append(Variant(key, f"{about}, fresh", skip_blocks(front, back)))
            if back:
                once = skip_blocks(front, back, refresh="once")
                rows.append(Variant(f"{key}-once", f"{about}, residuals once", once))
    front, back = SPLITS[50][0]
    better = (
        ("reuse-2", "each draw used twice", {"reuse": 2}),
        ("rank-32", "rank 32", {"rank": 32}),
        ("lr-5", "rate 5e-3", {"lr": 5e-3}),
    )
    for key, words, fields in better:
        title, change = (
            f"50 % skipped as {front} + {back}, {words}",
            skip_blocks(front, back, **fields),
        )
        rows.append(Variant(f"whole-{key}", title, change, baseline=f"split-{front}-{back}"))
    return [
        Variant("lora", "LoRA on every block", skip_blocks(0, 0), trainer=baselines.WholeTrainer),
        *rows,
    ]


def _sana() -> list[Variant]:
    """Return the paper's rows for SANA and the rows that isolate residuals, on the demo SANA."""
    plain_lora = baselines.WholeTrainer
    percents = {percent: skip_blocks(*span) for percent, span in SANA_SPANS.items()}
    about = {p: f"{p} % skipped, span {n} + {m}" for p, (n, m) in SANA_SPANS.items()}
    front, back = SANA_SPANS[50]
    once = skip_blocks(front, back, refresh="once")
    nothing = baselines.NoResidualTrainer
    middle = "Partial-LoRA on the middle of 50 %, none skipped"

    def row(
        key: str, title: str, change: Override, trainer: type[Trainer] | None = Trainer
    ) -> Variant:
        return Variant(f"sana-{key}", title, change, "sana-lora", trainer, model="demo-sana")

    return [
        row("untrained", "the demo SANA as it comes", override(), None),
        row("lora", "LoRA on every block", skip_blocks(0, 0), plain_lora),
        row("ours-30", f"{about[30]}, fresh residuals", percents[30]),
        row("ours-50", f"{about[50]}, fresh residuals", percents[50]),
        row("once-50", f"{about[50]}, residuals once", once),
        row("front-50", "50 % skipped, all at the front", skip_blocks(front + back, 0)),
        row("back-50", "50 % skipped, all at the back", skip_blocks(0, front + back)),
        row("none-50", f"{about[50]}, no residuals", percents[50], nothing),
        row("middle-50", middle, percents[50], plain_lora),
        row(
            "lora-rate-10", "LoRA on every block, rate 1e-2", skip_blocks(0, 0, lr=1e-2), plain_lora
        ),
        row("lisa", "LISA, two blocks at a time", skip_blocks(0, 0), baselines.LisaTrainer),
        row("lora-fa", "LoRA-FA", skip_blocks(0, 0), baselines.LoraFATrainer),
    ]


def _sana_rates() -> list[Variant]:
    """Return rows that find the demo SANA's learning rate, for plain LoRA and for 50 % skipped."""
    rows, model = [], "demo-sana"
    for key, title, span, trainer in (
        ("rate", "plain LoRA", (0, 0), baselines.WholeTrainer),
        ("ours-rate", "50 % skipped", SANA_SPANS[50], Trainer),
    ):
        for rate in (1, 3, 10):
            words, change = f"{title}, rate {rate / 1000:g}", skip_blocks(*span, lr=rate / 1000)
            against = f"sana-{key}-3"
            rows.append(Variant(f"sana-{key}-{rate}", words, change, against, trainer, model=model))
    return rows


def _timesteps() -> list[Variant]:
    """Return rows that train with and without a shift of timesteps, sampled with and without. 1.88
    is FLUX.1's at 512 px, 3 SANA's."""
    rows = []
    for model, span, shift in (("demo", SPLITS[50][0], 1.88), ("demo-sana", SANA_SPANS[50], 3.0)):
        for sampled in (1.0, shift):
            for trained in (1.0, shift):
                key = f"t-{model}-{trained:g}-{sampled:g}"
                title = f"{model}: draws shifted by {trained:g}, pictures by {sampled:g}"
                change = skip_blocks(*span, shift=trained)
                against = f"t-{model}-1-{sampled:g}"
                row = Variant(key, title, change, against, model=model, sampler_shift=sampled)
                rows.append(row)
    return rows


def _eight_bits() -> list[Variant]:
    """Return rows whose frozen blocks are stored in 8 bits, and also multiply in 8 bits. Table B has
    the unquantised row."""
    span, against = SPLITS[50][0], "ours-50"
    int8 = {"precision": "int8"}
    both = skip_blocks(*span, **int8, arithmetic="int8")
    return [
        Variant("w-int8", "frozen blocks in 8 bits", skip_blocks(*span, **int8), against),
        Variant("w-int8-products", "their products in 8 bits too", both, against),
    ]


def _recipes() -> list[Variant]:
    """Return the demo's recipe and that of the other tables."""
    span, quick = SPLITS[50][0], {"steps": 240, "window_steps": 24, "reuse": 2, "lr": 5e-3}
    return [
        Variant("r-300", "300 steps at 3e-3, draws used once", skip_blocks(*span), "r-300"),
        Variant(
            "r-240", "240 steps at 5e-3, draws used twice", skip_blocks(*span, **quick), "r-300"
        ),
    ]


UNTRAINED = Variant("untrained", "the model as it comes", override(), trainer=None)


def tables() -> dict[str, Table]:
    """Return all tables by key."""
    spans = _spans()
    at_32 = [_at_32(row) for row in spans if row.key != "ours-50"]  # it is table A's `dynamic`
    at_32.insert(3, replace(_patches()[0], baseline="lora@32"))
    all_tables = [
        Table("A", "Patches at 32 px, 50 % skipped", tuple(_patches()), 6, 2),
        Table("B", "Spans, whole pictures at 64 px", (UNTRAINED, *spans), 6, 2),
        Table("C", "How long a window serves, 32 px", tuple(_windows()), 4, 1),
        Table("D", "Other methods, 64 px", tuple(_others()), 4, 1),
        Table("F", "Where the loss of skipping comes from, 64 px", tuple(_causes()), 4, 1),
        Table("E", "Choices, 32 px", tuple(_choices()), 4, 1, for_tuning=True),
        Table("S", "Splits and choices, 64 px", tuple(_splits()), 4, 1, for_tuning=True),
        Table("B32", "Spans, dynamic patches at 32 px", tuple(at_32), 4, 1),
        Table("SANA", "The demo SANA, 64 px", tuple(_sana()), 4, 1),
        Table("T", "Timesteps shifted as real models' schedules, 64 px", tuple(_timesteps()), 4, 1),
        Table("W", "Products in 8 bits, 50 % skipped, 64 px", tuple(_eight_bits()), 6, 2),
        Table("R", "The demo's recipe, 64 px", tuple(_recipes()), 2, 3, shipped=True),
        Table("SR", "The demo SANA's learning rate", tuple(_sana_rates()), 2, 1, for_tuning=True),
    ]
    return {table.key: table for table in all_tables}


def select_variants(table: Table, keys: Sequence[str]) -> tuple[Variant, ...]:
    """Return the rows of a table with these keys, or all if there are none. Raises UserError for
    unknown keys."""
    unknown = set(keys) - {row.key for known in tables().values() for row in known.variants}
    if unknown:
        raise BadInput(
            f"There is no row “{sorted(unknown)[0]}”.", "See blockskip/lab/ablation/tables.py."
        )
    return tuple(row for row in table.variants if not keys or row.key in keys)
