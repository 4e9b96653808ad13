"""A model's entry in presets/bytes.toml, measured: weights are counted, activations simulated.

Every stage is run on shapes without memory (simulate.py) at a few sizes, and the numbers a token are
what explains the differences between them (ours). `blockskip lab tabulate --model NAME`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.lab.full_size.meta_models import (
    build_encoders,
    build_transformer,
    build_vae,
    fake_gpu_for,
    family_of,
    weights,
)
from blockskip.lab.full_size.simulate import (
    VaePipe,
    activation_bytes,
    first_joint_block,
    latent_shapes,
    module_outputs,
    simulate,
)
from blockskip.lab.measuring.peak_memory import PeakMeter
from blockskip.memory.block_wrappers import outer_blocks
from blockskip.memory.layerwise import listed_embedders
from blockskip.memory.planning import model_stats, requirements
from blockskip.models.families.base import Family
from blockskip.sampling.sample import TILE_PX

LogFn = Callable[[str], None]
_BLOCK_FIELDS = "kept_image kept_text kept_ff forward_image forward_text wide_image wide_text"
UNMEASURED = dict.fromkeys([*_BLOCK_FIELDS.split(), "forward_unpacked"], 0.0)  # until measured


def tabulate(row: ModelRow, say: LogFn) -> dict:
    """The entry of a row, TOML-ready."""
    with fake_gpu_for(row):
        counted = _count_weights(row)
    # what is counted stands in while activations are measured: planned less measured is theirs
    table = counted | dict.fromkeys(("passing_image", "passing_text", "passing_unpacked"), 0.0)
    return table | _measure_activations(row, table, say)


def _count_weights(row: ModelRow) -> dict:
    family, model = family_of(row), build_transformer(row, "full")
    blocks = family.blocks(model)
    shared = [model.get_submodule(name) for name in family.shared_modulation]
    layers = [layer for every in listed_embedders(model, family).values() for layer in every]
    embedders = sum(_size(model.get_submodule(name)) for name in family.embedders)
    embedders -= sum(_size(layer) for layer in layers)
    in_blocks = sum(_size(block) for _, block in blocks)
    largest = max(_largest_linear(family, block) for _, block in blocks)
    latent, _ = latent_shapes(row.name, row.s_min_px)
    tokens = (row.s_min_px // family.pixel_multiple) ** 2
    asked = row.text_tokens
    length, text_width, _ = family.caption_shape(model, asked)
    settings = _sized(Settings.of(model=row.name), row.s_min_px, asked)
    told = module_outputs(settings, family, model, family.shared_modulation).values()
    return {
        "pixels_a_token": family.pixel_multiple,
        "latent_width": math.prod(latent) // tokens,
        "text_width": text_width,
        "more_tokens": length - asked,
        "around": _size(model) - in_blocks - embedders - sum(_size(m) for m in (*shared, *layers)),
        "embedders": embedders,
        "layers": sum(_size(layer) for layer in layers),
        "layer": max((_size(layer) for layer in layers), default=0),
        "largest": largest,
        "told": sum(math.prod(output.shape[1:]) for output in told),
        "shared": sum(_size(m) for m in shared),
        "stream_text": float(not family.text_cross_attention),
        "joined": float(first_joint_block(family, model) is not None),
        "multiply_adds": 0,
        "kinds": _kinds(family, blocks),
        "text": _count_text(row, family),
        "vae": _count_vae(row),
    }


def _size(module: nn.Module) -> int:
    """Numbers that files hold."""
    saved = {id(tensor): tensor for tensor in module.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() for tensor in saved.values())


def _largest_linear(family: Family, block: nn.Module) -> int:
    """Of the weights that training needs of a block."""
    modulation = {id(block.get_submodule(name)) for name in family.modulation(block)}
    linears = [m for m in block.modules() if type(m) is nn.Linear and id(m) not in modulation]
    return max(m.weight.numel() for m in linears)


def _kinds(family: Family, blocks: Sequence[tuple[str, nn.Module]]) -> list[dict]:
    """Runs of blocks alike."""
    found: list[tuple[object, dict]] = []
    for _, block in blocks:
        shape = (type(block), tuple((n, p.shape) for n, p in block.named_parameters()))
        if found and found[-1][0] == shape:
            found[-1][1]["count"] += 1
        else:
            found.append((shape, _block(family, block)))
    return [told for _, told in found]


def _block(family: Family, block: nn.Module) -> dict:
    names = family.modulation(block)
    modulation = [block.get_submodule(name) for name in names]
    linears = [m for m in block.modules() if type(m) is nn.Linear]
    in_linears = sum(m.weight.numel() for m in linears)
    mod_weights = sum(m.weight.numel() for m in modulation)
    mod_small = sum(_size(m) - m.weight.numel() for m in modulation)

    def widths(targets: str) -> int:
        adapted = [block.get_submodule(n) for n in family.lora_targets(block, targets)]
        return sum(m.in_features + m.out_features for m in adapted)

    return {
        "count": 1,
        "linear": in_linears - mod_weights,
        "modulation": mod_weights,
        "small": _size(block) - in_linears - mod_small,
        "small_modulation": mod_small,
        "told": sum(m.out_features for m in modulation),
        "lora": widths("attention"),
        "lora_ff": widths("attention+ff") - widths("attention"),
        "unpacked": _largest_linear(family, block),
        **UNMEASURED,
    }


def _count_text(row: ModelRow, family: Family) -> dict:
    resident, largest, small = 0, 0, 0
    for name, encoder in build_encoders(row).items():
        streamed = (
            [block for _, block in outer_blocks(encoder)] if name in family.streamed_parts else []
        )
        passing = sum(_size(block) for block in streamed)
        resident += _size(encoder) - passing
        small += 0 if name in family.streamed_parts else _size(encoder)
        largest = max([largest, *(_size(block) for block in streamed)])
    return {"resident": resident, "block": largest, "ram": small} | dict.fromkeys(
        ("scores", "token", "fixed"), 0.0
    )


def _count_vae(row: ModelRow) -> dict:
    return {"weights": _size(build_vae(row, tiled=False)), "encode": 0.0, "decode": 0.0}


class _Unplanned:
    """Measured bytes less what `table` explains, of a stage of some settings."""

    def __init__(self, row: ModelRow, table: dict, say: LogFn) -> None:
        self.row, self.table, self.say = row, table, say

    def gap(self, stage: str, settings: Settings) -> float:
        measured = simulate(settings, [stage])[stage].vram_gib
        with model_stats.override_stats(self.row.name, self.table):
            planned = requirements.stage_memory(self.row, settings)[stage].vram_gib
        self.say(
            f"{stage} {settings.plan.side_px} px, {settings.plan.text_tokens} tokens: {measured:.3f} GiB"
        )
        return (measured - planned) * GIB


def _measure_activations(row: ModelRow, table: dict, say: LogFn) -> dict:
    ruler = _Unplanned(row, table, say)
    sizes = _sizes(row)
    base = Settings.of(model=row.name, micro_batch=4, preview_tiled=True)
    kinds = [told | _forward(ruler, base, first, told) for first, told in _kept(ruler, base, sizes)]
    ruler.table = table | {"kinds": kinds}
    # blocks of every kind: what the kept numbers get wrong adds up over them
    front, back = min(row.spans.values(), key=sum)
    middle = base.changed(front=front, back=back)
    passing = _fit(row, ruler, "train", middle, sizes)
    found = {"kinds": kinds, "passing_image": passing[0], "passing_text": passing[1]}
    packed = middle.changed(precision="int8")
    more = [
        ruler.gap("train", _sized(packed, side, text)) / _unit(row) / _tokens(row, side, text)
        for side, text in sizes
    ]
    found["passing_unpacked"] = round(max(0.0, *more), 3)
    found["multiply_adds"] = _multiply_adds(row, middle.changed(micro_batch=1))
    vae = _vae(row, table["vae"]["weights"])
    return found | {"text": _text(ruler, base), "vae": vae}


def _forward(ruler: _Unplanned, base: Settings, first: int, told: dict) -> dict[str, float]:
    """What passes through a block of a kind, of which `first` is the first, without gradients: at
    most 2 % less than was measured."""
    row, blocks = ruler.row, min(2, told["count"])
    window = base.changed(middle="leaves", micro_batch=1, **_span(row, first, blocks))
    side, text = row.s_min_px, row.text_tokens
    sizes = [(side, text), (2 * side, text // 4), (2 * side, text)]
    sizes += [(row.native_px, text // 4), (row.native_px, text)]

    def most(**other: str) -> np.ndarray:
        tried = [_sized(window.changed(**other), px, n) for px, n in sizes]
        return np.array([max(activation_bytes(one)[first : first + blocks]) for one in tried])

    plain, wide, packed = most(), most(targets="attention+ff"), most(precision="int8")
    more = ruler.table["more_tokens"]
    of = _unit(row) * np.array([[_tokens(row, px, 0), n + more] for px, n in sizes])

    def fit(amounts: np.ndarray) -> tuple[float, float]:
        answer, *_ = np.linalg.lstsq(of / amounts[:, None], np.ones(len(sizes)), rcond=None)
        answer = np.maximum(answer, 0.0)
        answer *= 0.98 * (amounts / (of @ answer)).max()
        return round(float(answer[0]), 2), round(float(answer[1]), 2)

    (image, text), (wide_image, wide_text) = fit(plain), fit(wide)
    unpacked = (packed - row.number_bytes * told["unpacked"]) / of.sum(1)
    ruler.say(f"forward from block {first}: {image} numbers an image token, {text} a text token")
    return {
        "forward_image": image,
        "forward_text": text,
        "wide_image": wide_image,
        "wide_text": wide_text,
        "forward_unpacked": round(max(0.0, 0.0, *unpacked[packed > 1.02 * plain].tolist()), 2),
    }


def _multiply_adds(row: ModelRow, settings: Settings) -> int:
    """A token's in a block's linears: what is counted on a pass, less those of attention."""
    size = row.s_min_px, row.text_tokens
    done = simulate(_sized(settings, *size), ["residuals"])["residuals"].tflop * 1e12 / 2
    count = _tokens(row, *size)
    return round(done / row.num_blocks / count - 2.0 * count * row.width)


def _sizes(row: ModelRow) -> list[tuple[int, int]]:
    """(side, text tokens): one, a larger picture, a longer text."""
    side, text = row.s_min_px, max(64, row.text_tokens // 4)
    return [(side, text), (2 * side, text), (side, 4 * text)]


def _sized(settings: Settings, side_px: int, text_tokens: int) -> Settings:
    return settings.changed(s_min_px=side_px, s_max_px=side_px, text_tokens=text_tokens)


def _unit(row: ModelRow) -> int:
    """Bytes of one number a token for each of the model's width."""
    return row.number_bytes * row.width


def _tokens(row: ModelRow, side_px: int, text_tokens: int) -> int:
    return (side_px // family_of(row).pixel_multiple) ** 2 + text_tokens


def _span(row: ModelRow, first: int, blocks: int) -> dict[str, int]:
    """A middle of so many blocks from `first` on."""
    return {"front": first, "back": row.num_blocks - first - blocks}


def _fit(
    row: ModelRow,
    ruler: _Unplanned,
    stage: str,
    settings: Settings,
    sizes: Sequence[tuple[int, int]],
    rows: int = 1,
) -> tuple[float, float]:
    """(numbers an image token, numbers a text token) that explain what is left of a stage."""
    left = [ruler.gap(stage, _sized(settings, side, text)) for side, text in sizes]
    return _solve(row, ruler, sizes, [amount / rows for amount in left])


def _solve(
    row: ModelRow,
    ruler: _Unplanned,
    sizes: Sequence[tuple[int, int]],
    amounts: Sequence[float],
) -> tuple[float, float]:
    more = ruler.table["more_tokens"]
    of = [[_tokens(row, side, 0), text + more] for side, text in sizes]
    answer, *_ = np.linalg.lstsq(_unit(row) * np.array(of), np.array(amounts), rcond=None)
    return tuple(round(max(0.0, float(x)), 3) for x in answer)


def _kept(
    ruler: _Unplanned, base: Settings, sizes: Sequence[tuple[int, int]]
) -> list[tuple[int, dict]]:
    """(first block, kind) with what a block of the kind keeps: by how much one more adds."""
    row, first, kinds = ruler.row, 0, []
    for told in ruler.table["kinds"]:
        few, many = (2, 4) if told["count"] >= 4 else (1, told["count"])

        def more(few: int, many: int, size: tuple[int, int], targets: str, first: int) -> float:
            settings = _sized(base.changed(targets=targets), *size)
            one, all_ = (settings.changed(**_span(row, first, blocks)) for blocks in (few, many))
            return (ruler.gap("train", all_) - ruler.gap("train", one)) / max(1, many - few)

        amounts = [more(few, many, size, "attention", first) for size in sizes]
        image, text = _solve(row, ruler, sizes, amounts)
        wide = 0.0
        if told["lora_ff"] and told["count"] > 1:
            gained = more(few, many, sizes[0], "attention+ff", first) - amounts[0]
            wide = round(max(0.0, gained / _unit(row) / _tokens(row, *sizes[0])), 3)
        kept = {"kept_image": image, "kept_text": text, "kept_ff": wide}
        kinds.append((first, told | kept))
        first += told["count"]
    return kinds


def _text(ruler: _Unplanned, base: Settings) -> dict:
    """A polynomial of the number of tokens through three measurements."""
    counts = np.array([64, 256, 512])
    left = [ruler.gap("text", base.changed(text_tokens=int(n))) for n in counts]
    scores, token, fixed = np.polyfit(counts, np.array(left), 2)
    made = {"scores": scores, "token": token, "fixed": fixed}
    return ruler.table["text"] | {name: round(float(value), 3) for name, value in made.items()}


def _vae(row: ModelRow, size: int) -> dict:
    """Bytes a pixel: of a crop while it is encoded, of a tile while it is decoded."""
    side, tile = row.s_min_px, min(TILE_PX, row.native_px)
    with fake_gpu_for(row), torch.no_grad():
        latent = latent_shapes(row.name, row.native_px)[1]
        pixels = torch.empty(1, 3, side, side, dtype=torch.float32)
        vae, family = build_vae(row, tiled=False), family_of(row)
        encode = _peak(vae, lambda: family.encode_images(VaePipe(vae), pixels), pixels) / side**2
        waits = torch.empty(1, *latent)
        whole = _peak(vae, lambda: vae.decode(waits, return_dict=False), waits)
        vae = build_vae(row, tiled=True)
        tiled = _peak(vae, lambda: vae.decode(waits, return_dict=False), waits)
    decode = max(whole / row.native_px**2, (tiled - 16.0 * row.native_px**2) / tile**2)
    return {"weights": size, "encode": round(encode, 1), "decode": round(decode, 1)}


def _peak(vae: nn.Module, work: Callable[[], object], given: Tensor) -> int:
    """Bytes that `work` takes beside the weights, with what it is given."""
    with PeakMeter() as meter:
        meter.add(weights(vae))
        meter.restart()
        meter.add([given])
        work()
    return meter.peak_bytes - meter.held_bytes
