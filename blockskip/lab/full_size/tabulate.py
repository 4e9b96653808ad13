"""Measure a model's entry in presets/bytes.toml: `blockskip lab tabulate --model NAME`.

Weights are counted. Activations are simulated: every stage runs on meta tensors (simulate.py) at a
few sizes, and the numbers per token are fitted to the differences (ours).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from blockskip.core.presets import ModelRow
from blockskip.core.settings import Precision, Settings
from blockskip.core.units import GIB
from blockskip.lab.full_size.latent_shapes import VaePipe, latent_shapes
from blockskip.lab.full_size.meta_models import (
    build_encoders,
    build_transformer,
    build_vae,
    fake_gpu_for,
    family_of,
    lora_widths,
    weights,
)
from blockskip.lab.full_size.simulate import (
    activation_bytes,
    first_joint_block,
    module_outputs,
    simulate,
)
from blockskip.lab.measuring.peak_memory import PeakMeter
from blockskip.memory.block_wrappers import outer_blocks
from blockskip.memory.layerwise import listed_embedders
from blockskip.memory.planning import model_stats, requirements
from blockskip.models.families.base import Family
from blockskip.models.families.caption_modules import caption_modules

LogFn = Callable[[str], None]
_BLOCK_FIELDS = "kept_image kept_text kept_ff forward_image forward_text"
UNMEASURED = dict.fromkeys([*_BLOCK_FIELDS.split(), "forward_unpacked"], 0.0)  # until measured


def tabulate(row: ModelRow, say: LogFn) -> dict:
    """Return the entry of a row, TOML-ready."""
    with fake_gpu_for(row):
        counted = _count_weights(row)
    # with activations at zero, measured minus planned bytes are those of the activations
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
    latent, _ = latent_shapes(row.name, row.s_min_px)
    tokens = (row.s_min_px // family.token_px) ** 2
    length, text_width, _ = family.caption_shape(model, row.text_tokens)
    settings = _sized(Settings.of(model=row.name), row.s_min_px, row.text_tokens)
    modulation_outputs = module_outputs(settings, family, model, family.shared_modulation).values()
    return {
        "pixels_a_token": family.token_px,
        "latent_width": math.prod(latent) // tokens,
        "text_width": text_width,
        "more_tokens": length - row.text_tokens,
        "around": _size(model) - in_blocks - embedders - sum(_size(m) for m in (*shared, *layers)),
        "embedders": embedders,
        "layers": sum(_size(layer) for layer in layers),
        "layer": max((_size(layer) for layer in layers), default=0),
        "largest": max(_largest_linear(family, block) for _, block in blocks),
        "told": sum(math.prod(output.shape) for output in modulation_outputs),
        "shared": sum(_size(m) for m in shared),
        "stream_text": float(not family.text_cross_attention),
        "joined": float(first_joint_block(family, model) is not None),
        **({"static_text": 1.0} if family.text_is_static else {}),
        "multiply_adds": 0,
        "int8_multiply_adds": 0,
        "kinds": _kinds(family, blocks),
        "text": _count_text(row, family, model),
        "vae": _count_vae(row),
    }


def _size(module: nn.Module) -> int:
    """Return the number of saved elements."""
    saved = {id(tensor): tensor for tensor in module.state_dict(keep_vars=True).values()}
    return sum(tensor.numel() for tensor in saved.values())


def _largest_linear(family: Family, block: nn.Module) -> int:
    """Return the elements of a block's largest linear, modulation excluded."""
    modulation = {id(block.get_submodule(name)) for name in family.modulation(block)}
    linears = [m for m in block.modules() if type(m) is nn.Linear and id(m) not in modulation]
    return max(m.weight.numel() for m in linears)


def _kinds(family: Family, blocks: Sequence[tuple[str, nn.Module]]) -> list[dict]:
    """Return the block types, one entry per run of equal blocks."""
    runs: list[tuple[object, dict]] = []
    for _, block in blocks:
        shape = (type(block), tuple((n, p.shape) for n, p in block.named_parameters()))
        if runs and runs[-1][0] == shape:
            runs[-1][1]["count"] += 1
        else:
            runs.append((shape, _block(family, block)))
    return [entry for _, entry in runs]


def _block(family: Family, block: nn.Module) -> dict:
    names = family.modulation(block)
    modulation = [block.get_submodule(name) for name in names]
    linears = [m for m in block.modules() if type(m) is nn.Linear]
    in_linears = sum(m.weight.numel() for m in linears)
    mod_weights = sum(m.weight.numel() for m in modulation)
    mod_small = sum(_size(m) - m.weight.numel() for m in modulation)
    return {
        "count": 1,
        "linear": in_linears - mod_weights,
        "modulation": mod_weights,
        "small": _size(block) - in_linears - mod_small,
        "small_modulation": mod_small,
        "told": sum(m.out_features for m in modulation),
        **lora_widths(family, block),
        "unpacked": _largest_linear(family, block),
        **UNMEASURED,
    }


def _count_text(row: ModelRow, family: Family, model: nn.Module) -> dict:
    readers = sum(_size(reader) for reader in caption_modules(model, family).values())
    resident, largest, small = readers, 0, readers  # they are staged in RAM as a whole
    for name, encoder in build_encoders(row).items():
        streamed = (
            [block for _, block in outer_blocks(encoder)] if name in family.streamed_parts else []
        )
        passing = sum(_size(block) for block in streamed)
        resident += _size(encoder) - passing
        small += 0 if name in family.streamed_parts else _size(encoder)
        largest = max([largest, *(_size(block) for block in streamed)])
    states = math.prod(family.caption_states(model, 1) or (0,))
    counted = {"resident": resident, "block": largest, "ram": small, "states": states}
    return counted | dict.fromkeys(("scores", "token", "fixed"), 0.0)


def _count_vae(row: ModelRow) -> dict:
    return {"weights": _size(build_vae(row, tiled=False)), "encode": 0.0, "decode": 0.0}


class _Unplanned:
    """Measures the bytes of a stage that `table` does not explain."""

    def __init__(self, row: ModelRow, table: dict, say: LogFn) -> None:
        self.row, self.table, self.say = row, table, say

    def gap(self, stage: str, settings: Settings) -> float:
        measured = simulate(settings, [stage])[stage].vram_gib
        with model_stats.override_stats(self.row.name, self.table):
            planned = requirements.stage_memory(self.row, settings)[stage].vram_gib
            if stage == "train":  # the peak is sought in the backward pass, not in AdamW
                planned = requirements.gradient_card(self.row, settings) / GIB
        self.say(
            f"{stage} {settings.plan.side_px} px, {settings.plan.text_tokens} tokens: {measured:.3f} GiB"
        )
        return (measured - planned) * GIB


def _measure_activations(row: ModelRow, table: dict, say: LogFn) -> dict:
    ruler = _Unplanned(row, table, say)
    sizes = _sizes(row)
    base = Settings.of(model=row.name, micro_batch=4, preview_tiled=True)
    kinds = [kind | _forward(ruler, base, first, kind) for first, kind in _kept(ruler, base, sizes)]
    ruler.table = table | {"kinds": kinds}
    # blocks of every type, over which errors of the kept numbers add up
    front, back = min(row.spans.values(), key=sum)
    middle = base.changed(front=front, back=back)
    wider = middle.changed(targets="attention+ff")  # a very wide feed-forward has the larger ones
    fits = [_fit(row, ruler, "train", settings, sizes) for settings in (middle, wider)]
    passing = [max(fit) for fit in zip(*fits, strict=True)]
    measured = {"kinds": kinds, "passing_image": passing[0], "passing_text": passing[1]}
    packed = middle.changed(precision="int8")
    per_token = [
        ruler.gap("train", _sized(packed, side, text)) / _unit(row) / _tokens(row, side, text)
        for side, text in sizes
    ]
    measured["passing_unpacked"] = round(max(0.0, *per_token), 3)
    measured |= _multiply_adds(row, middle.changed(micro_batch=1))
    vae = _vae(row, table["vae"]["weights"])
    return measured | {"text": _text(ruler, base), "vae": vae}


def _forward(ruler: _Unplanned, base: Settings, first: int, kind: dict) -> dict[str, float]:
    """Fit the transient numbers per token of a block type without gradients. `first` is its first
    block. The fit is at most 1 % below the measurements."""
    row, blocks = ruler.row, min(2, kind["count"])
    window = base.changed(middle="leaves", micro_batch=1, **_span(row, first, blocks))
    side, text = row.s_min_px, row.text_tokens
    sizes = [(side, text), (2 * side, text // 4), (2 * side, text)]
    sizes += [(row.native_px, text // 4), (row.native_px, text)]

    def peaks(precision: Precision) -> np.ndarray:
        sized = [_sized(window.changed(precision=precision), px, n) for px, n in sizes]
        return np.array([max(activation_bytes(s)[first : first + blocks]) for s in sized])

    plain, packed = peaks("full"), peaks("int8")
    extra_tokens = ruler.table["more_tokens"]
    units = _unit(row) * np.array([[_tokens(row, px, 0), n + extra_tokens] for px, n in sizes])
    widths, *_ = np.linalg.lstsq(units / plain[:, None], np.ones(len(sizes)), rcond=None)
    widths = np.maximum(widths, 0.0)
    widths *= 0.99 * (plain / (units @ widths)).max()
    image, text = (round(float(width), 2) for width in widths)
    unpacked = (packed - row.number_bytes * kind["unpacked"]) / units.sum(1)
    # at the smallest size, what does not grow with the tokens would count as if it did
    large, larger = unpacked[1:], (packed > 1.02 * plain)[1:]
    ruler.say(f"forward from block {first}: {image} numbers an image token, {text} a text token")
    return {
        "forward_image": image,
        "forward_text": text,
        "forward_unpacked": round(max(0.0, 0.0, *large[larger].tolist()), 2),
    }


def _multiply_adds(row: ModelRow, settings: Settings) -> dict[str, int]:
    """Return a block's multiply-adds a token without attention's, and those possible in 8 bits."""
    size = row.s_min_px, row.text_tokens
    count, in_int8 = _tokens(row, *size), settings.changed(precision="int8", arithmetic="int8")
    settings, in_int8 = _sized(settings, *size), _sized(in_int8, *size)
    per_token = 1e12 / 2 / row.num_blocks / count
    every = simulate(settings, ["residuals"])["residuals"].tflop * per_token
    rounded = simulate(in_int8, ["residuals"])["residuals"].int8_tflop * per_token
    total = round(every - 2.0 * count * row.width)
    return {"multiply_adds": total, "int8_multiply_adds": min(total, round(rounded))}


def _sizes(row: ModelRow) -> list[tuple[int, int]]:
    """Return three sizes (side, text tokens): a base, a larger picture, a longer text."""
    side, text = row.s_min_px, max(64, row.text_tokens // 4)
    return [(side, text), (2 * side, text), (side, 4 * text)]


def _sized(settings: Settings, side_px: int, text_tokens: int) -> Settings:
    return settings.changed(s_min_px=side_px, s_max_px=side_px, text_tokens=text_tokens)


def _unit(row: ModelRow) -> int:
    """Return the bytes of one vector of the model's width."""
    return row.number_bytes * row.width


def _tokens(row: ModelRow, side_px: int, text_tokens: int) -> int:
    return (side_px // family_of(row).token_px) ** 2 + text_tokens


def _span(row: ModelRow, first: int, blocks: int) -> dict[str, int]:
    """Return the span settings for a middle of so many blocks from `first` on."""
    return {"front": first, "back": row.num_blocks - first - blocks}


def _fit(
    row: ModelRow,
    ruler: _Unplanned,
    stage: str,
    settings: Settings,
    sizes: Sequence[tuple[int, int]],
    rows: int = 1,
) -> tuple[float, float]:
    """Fit (numbers per image token, numbers per text token) to the unexplained bytes of a stage."""
    gaps = [ruler.gap(stage, _sized(settings, side, text)) for side, text in sizes]
    return _solve(row, ruler, sizes, [amount / rows for amount in gaps])


def _solve(
    row: ModelRow,
    ruler: _Unplanned,
    sizes: Sequence[tuple[int, int]],
    amounts: Sequence[float],
) -> tuple[float, float]:
    extra_tokens = ruler.table["more_tokens"]
    tokens = [[_tokens(row, side, 0), text + extra_tokens] for side, text in sizes]
    solution, *_ = np.linalg.lstsq(_unit(row) * np.array(tokens), np.array(amounts), rcond=None)
    return tuple(round(max(0.0, float(x)), 3) for x in solution)


def _kept(
    ruler: _Unplanned, base: Settings, sizes: Sequence[tuple[int, int]]
) -> list[tuple[int, dict]]:
    """Return (first block, block type) with the numbers that a block keeps, measured as the
    increase per additional block."""
    row, first, kinds = ruler.row, 0, []
    for kind in ruler.table["kinds"]:
        few, many = (2, 4) if kind["count"] >= 4 else (1, kind["count"])

        def increase(few: int, many: int, size: tuple[int, int], targets: str, first: int) -> float:
            settings = _sized(base.changed(targets=targets), *size)
            short, long = (settings.changed(**_span(row, first, blocks)) for blocks in (few, many))
            return (ruler.gap("train", long) - ruler.gap("train", short)) / max(1, many - few)

        amounts = [increase(few, many, size, "attention", first) for size in sizes]
        image, text = _solve(row, ruler, sizes, amounts)
        wide = 0.0
        if kind["lora_ff"] and kind["count"] > 1:
            gained = increase(few, many, sizes[0], "attention+ff", first) - amounts[0]
            wide = round(max(0.0, gained / _unit(row) / _tokens(row, *sizes[0])), 3)
        kept = {"kept_image": image, "kept_text": text, "kept_ff": wide}
        kinds.append((first, kind | kept))
        first += kind["count"]
    return kinds


def _text(ruler: _Unplanned, base: Settings) -> dict:
    """Fit a polynomial in the number of tokens to three measurements."""
    counts = np.array([64, 256, 512])
    gaps = [ruler.gap("text", base.changed(text_tokens=int(n))) for n in counts]
    scores, token, fixed = np.polyfit(counts, np.array(gaps), 2)
    fit = {"scores": scores, "token": token, "fixed": fixed}
    return ruler.table["text"] | {name: round(float(value), 3) for name, value in fit.items()}


def _vae(row: ModelRow, size: int) -> dict:
    """Return bytes per pixel, of a crop while encoding and of a tile while decoding."""
    side, tile = row.s_min_px, min(family_of(row).tile_px, row.native_px)
    with fake_gpu_for(row), torch.no_grad():
        latent = latent_shapes(row.name, row.native_px)[1]
        pixels = torch.empty(1, 3, side, side, dtype=torch.float32)
        vae, family = build_vae(row, tiled=False), family_of(row)
        encode = _peak(vae, lambda: family.encode_images(VaePipe(vae), pixels), pixels) / side**2
        latents = torch.empty(1, *latent)
        untiled = _peak(vae, lambda: vae.decode(latents, return_dict=False), latents)
        vae = build_vae(row, tiled=True)
        tiled = _peak(vae, lambda: vae.decode(latents, return_dict=False), latents)
    decode = max(untiled / row.native_px**2, (tiled - 16.0 * row.native_px**2) / tile**2)
    measured = {"encode": round(encode, 1), "decode": round(decode, 1)}
    return {"weights": size, **measured, "tile": family_of(row).tile_px}


def _peak(vae: nn.Module, work: Callable[[], object], inputs: Tensor) -> int:
    """Return the peak bytes of `work` besides the weights, its input included."""
    with PeakMeter() as meter:
        meter.add(weights(vae))
        meter.restart()
        meter.add([inputs])
        work()
    return meter.peak_bytes - meter.held_bytes
