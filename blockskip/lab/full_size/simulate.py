"""Simulate every stage of a run at a model's full size with meta tensors: peak memory and FLOPs.

The training step is the real one (training/skipping.py, peft's LoRA, AdamW, diffusers'
transformer). Placement follows memory/placement.py: only the computing block of a streamed model
and the next one are on the GPU. The simulation checks memory/planning/planner.py, which computes
the same numbers without torch (ours; docs/method.md §1.8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Settings
from blockskip.core.stages import PLANNED
from blockskip.core.units import GIB
from blockskip.lab.full_size.latent_shapes import VaePipe, latent_shapes
from blockskip.lab.full_size.meta_models import (
    StreamedBlocks,
    build_encoders,
    build_transformer,
    build_vae,
    fake_gpu_for,
    family_of,
    load_packed,
    weights,
)
from blockskip.lab.measuring.peak_memory import PeakMeter
from blockskip.memory.block_wrappers import outer_blocks
from blockskip.memory.layerwise import listed_embedders
from blockskip.memory.planning.run_sizes import on_sibling
from blockskip.models.families.base import Family, Text
from blockskip.models.families.caption_modules import caption_modules
from blockskip.models.families.streams import as_tuple
from blockskip.training import optimizer
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, modulation_names
from blockskip.training.skipping import skip_blocks, text_for_middle
from blockskip.training.trainer import micro_step


@dataclass(frozen=True)
class Peak:
    """A stage's peak GPU memory, the memory in use before it began, the TFLOP of one pass, those of
    them in 8 bits, and its allocations (lab/full_size/caching_allocator.py)."""

    vram_gib: float
    held_gib: float
    tflop: float
    int8_tflop: float
    events: Sequence[tuple[int, int]]


def simulate(settings: Settings, stages: Sequence[str] = PLANNED) -> dict[str, Peak]:
    """Return the peaks of the named stages. Raises UserError for an unknown model."""
    row = model_row(settings.model)
    run: dict[str, Callable[[Settings, ModelRow, PeakMeter], None]] = {
        "text": _text,
        "latents": _latents,
        "residuals": _residuals,
        "train": _train,
        "preview": _preview,
    }
    peaks = {}
    for stage in stages:
        with fake_gpu_for(row):
            for side in (settings.plan.side_px, settings.preview_px):
                latent_shapes(row.name, side)
            meter = PeakMeter()
            run[stage](settings, row, meter)
            held, peak = meter.held_bytes / GIB, meter.peak_bytes / GIB
            tflop, in_int8 = meter.flops / 1e12, meter.int8_flops / 1e12
            peaks[stage] = Peak(peak, held, tflop, in_int8, meter.events)
    return peaks


@torch.no_grad()
def _text(settings: Settings, row: ModelRow, meter: PeakMeter) -> None:
    """Encode one caption. The large encoder is streamed, except for its embedding table; caption
    modules of the transformer stay."""
    family, encoders, model = family_of(row), build_encoders(row), build_transformer(row, "full")
    readers = list(caption_modules(model, family).values())
    with meter:
        load_packed(meter, weights(*readers))
    for name, encoder in encoders.items():
        blocks = (
            [block for _, block in outer_blocks(encoder)] if name in family.streamed_parts else []
        )
        with meter:
            streamed = {id(t) for block in blocks for t in weights(block)}
            others = [t for t in weights(encoder) if id(t) not in streamed]
            if blocks:
                load_packed(meter, others)
                StreamedBlocks(meter, blocks)
            else:
                meter.add(others)
    with meter:
        meter.restart()
        for name, encoder in encoders.items():
            fixed = (
                encoder.config.max_position_embeddings if name not in family.streamed_parts else 0
            )  # CLIP's
            embeds = encoder(torch.zeros(1, fixed or settings.plan.text_tokens, dtype=torch.long))
            del embeds
        states = torch.empty(1, *family.caption_states(model, settings.plan.text_tokens))
        for reader in readers:
            states = reader(states)


@torch.no_grad()
def _latents(settings: Settings, row: ModelRow, meter: PeakMeter) -> None:
    """Encode a batch of crops of the training side with the VAE."""
    vae = build_vae(row, tiled=False)
    with meter:
        meter.add(weights(vae))
        meter.restart()
        size = (settings.plan.encode_batch, 3, settings.plan.side_px, settings.plan.side_px)
        pixels = torch.empty(size, dtype=torch.float32)
        family_of(row).encode_images(VaePipe(vae), pixels)


@torch.no_grad()
def _residuals(settings: Settings, row: ModelRow, meter: PeakMeter) -> None:
    """Run a micro-batch through the whole streamed model while the window's state is held."""
    family = family_of(row)
    model, _ = _streamed_model(settings, row, family, meter)
    streams, text = _streams(settings, row, family, model), []
    if joint_block := first_joint_block(family, model):
        first = family.blocks(model)[0][0]
        shape = module_outputs(settings, family, model, [first])[first][0].shape[1:]
        joint_block.register_forward_pre_hook(
            lambda *_: text.append(torch.empty(settings.plan.window_on_card, *shape))
        )
    with meter:
        state = [torch.empty(settings.plan.window_on_card, *stream.shape[1:]) for stream in streams]
        meter.restart()
        _forward(settings, row, family, model, settings.plan.micro_batch, settings.plan.side_px)
        del state


def first_joint_block(family: Family, model: nn.Module) -> nn.Module | None:
    """Return the first block that reads text and image as one sequence, if earlier blocks read them
    separately. From there on the text stream is kept beside the joint one."""
    blocks = [(block, type(family.streams(block))) for _, block in family.blocks(model)]
    return next((block for block, streams_type in blocks if streams_type is not blocks[0][1]), None)


@torch.no_grad()
def activation_bytes(settings: Settings) -> list[int]:
    """Return each block's peak bytes besides weights for a micro-batch through the model."""
    row, peaks = model_row(settings.model), []
    family = family_of(row)
    with fake_gpu_for(row):
        latent_shapes(row.name, settings.plan.side_px)
        meter = PeakMeter()
        model, streamed = _streamed_model(settings, row, family, meter)

        def begin(*_: object) -> None:
            meter.restart()
            peaks.append(-streamed.weight_bytes)

        def end(*_: object) -> None:
            peaks[-1] += meter.peak_bytes

        for _, block in family.blocks(model):
            block.register_forward_pre_hook(begin)
            block.register_forward_hook(end)
        with meter:
            _forward(settings, row, family, model, settings.plan.micro_batch, settings.plan.side_px)
    return peaks


@torch.no_grad()
def _preview(settings: Settings, row: ModelRow, meter: PeakMeter) -> None:
    """Run a sampling step and then, with all streamed blocks evicted, the decoding. A sibling's
    transformer is beside the trained one."""
    family = family_of(row)
    trained, streamed = _streamed_model(settings, row, family, meter)
    model = trained  # which is kept: dead tensors are not counted
    if on_sibling(row, settings):
        model = build_transformer(row, settings.plan.precision, settings.plan.int8_products)
        blocks = [*_embedder_layers(model, family), *(block for _, block in family.blocks(model))]
        streamed = StreamedBlocks(meter, blocks, _outside_blocks(model, family))
    vae = build_vae(row, settings.plan.preview_tiled)
    shape = latent_shapes(row.name, settings.preview_px)[1]
    with meter:
        meter.restart()
        _forward(settings, row, family, model, settings.plan.preview_batch, settings.preview_px)
        streamed.evict()
        meter.add(weights(vae))
        vae.decode(torch.empty(1, *shape), return_dict=False)


def _train(settings: Settings, row: ModelRow, meter: PeakMeter) -> None:
    """Run the last micro-step of an optimiser step, with Adam's state already allocated."""
    family, span = family_of(row), Span(settings.plan.front, settings.plan.back)
    model = build_transformer(row, settings.plan.precision, settings.plan.int8_products)
    lora = add_lora(model, family, span, settings.rank, settings.targets, seed=0)
    adam = optimizer.make(lora, 1e-4)
    for group in adam.param_groups:
        group["foreach"] = True  # the fused one, used on a GPU, needs less
    middle = [family.blocks(model)[i][1] for i in span.middle(row.num_blocks)]
    names = modulation_names(model, family, span)
    with torch.no_grad():
        streams, modulation = (
            _streams(settings, row, family, model),
            module_outputs(settings, family, model, names),
        )
    with skip_blocks(model, family, span, settings.plan.recomputed) as step_inputs, meter:
        if settings.plan.middle == "streamed":
            layers = [] if span.front else weights(*_embedder_layers(model, family))
            outside = _outside_blocks(model, family)
            StreamedBlocks(meter, middle, [*outside, *layers, *lora.values()])
        else:
            meter.add(weights(model))
        _fill_state(adam, lora)
        meter.restart()
        window = _window(settings, row, family, streams) | {
            # a second row is one that all draws share
            name: torch.empty(settings.plan.batch, *output.shape[len(output) == 1 :])
            for name, output in modulation.items()
        }
        text = text_for_middle(
            family, span, _dummy_text(family, model, settings, settings.plan.batch)
        )
        if settings.plan.accumulation > 1:  # of the earlier draws
            for parameter in lora.values():
                parameter.grad = torch.empty_like(parameter)
        micro_step(model, family, step_inputs, window, text, settings.plan.side_px, 1)
        del window, text
        adam.step()


def _fill_state(adam: torch.optim.Optimizer, lora: dict[str, nn.Parameter]) -> None:
    for parameter in lora.values():
        parameter.grad = torch.zeros_like(parameter)
    adam.step()
    adam.zero_grad(set_to_none=True)


def _streamed_model(
    settings: Settings, row: ModelRow, family: Family, meter: PeakMeter
) -> tuple[nn.Module, StreamedBlocks]:
    """Return the model between two training steps: modules outside blocks, LoRA, optimiser state
    and a staying middle are on the GPU, other blocks two at a time."""
    span = Span(settings.plan.front, settings.plan.back)
    model = build_transformer(row, settings.plan.precision, settings.plan.int8_products)
    lora = add_lora(model, family, span, settings.rank, settings.targets, seed=0).values()
    state = [torch.empty_like(p) for p in (*lora, *lora)]
    stay = [*_outside_blocks(model, family), *lora, *state]
    blocks = [*_embedder_layers(model, family), *(block for _, block in family.blocks(model))]
    if settings.plan.middle == "stays":
        modulation = modulation_names(model, family, span)
        left = {id(t) for name in modulation for t in weights(model.get_submodule(name))}
        middle = weights(*(family.blocks(model)[i][1] for i in span.middle(row.num_blocks)))
        stay += [tensor for tensor in middle if id(tensor) not in left]
    return model, StreamedBlocks(meter, blocks, stay)


def _outside_blocks(model: nn.Module, family: Family) -> list[Tensor]:
    blocks = [*_embedder_layers(model, family), *(block for _, block in family.blocks(model))]
    inside = {id(tensor) for tensor in weights(*blocks)}
    return [tensor for tensor in weights(*model.children()) if id(tensor) not in inside]


def _embedder_layers(model: nn.Module, family: Family) -> list[nn.Module]:
    """Return the embedder layers that are streamed one by one before the blocks."""
    return [layer for layers in listed_embedders(model, family).values() for layer in layers]


def _dummy_latents(row: ModelRow, side_px: int, rows: int) -> Tensor:
    return torch.empty(rows, *latent_shapes(row.name, side_px)[0])


def _forward(
    settings: Settings, row: ModelRow, family: Family, model: nn.Module, rows: int, side_px: int
) -> None:
    noisy, t = _dummy_latents(row, side_px, rows), torch.empty(rows, dtype=torch.float32)
    text = _dummy_text(family, model, settings, rows)
    model(**family.inputs(model.config, noisy, text, t, side_px))


def _dummy_text(family: Family, model: nn.Module, settings: Settings, rows: int) -> Text:
    length, width, beside = family.caption_shape(model, settings.plan.text_tokens)
    return Text(torch.empty(rows, length, width), torch.ones(rows, beside))


def _streams(
    settings: Settings, row: ModelRow, family: Family, model: nn.Module
) -> tuple[Tensor, ...]:
    """Return one draw's streams after the front, or after block 0 without a front."""
    name, _ = family.blocks(model)[max(0, settings.plan.front - 1)]
    outputs = module_outputs(settings, family, model, [name])[name]
    return tuple(torch.empty_like(stream) for stream in as_tuple(outputs) if stream is not None)


def module_outputs(
    settings: Settings, family: Family, model: nn.Module, names: Sequence[str]
) -> dict[str, object]:
    """Return the outputs of these modules of the transformer for one draw, by name."""
    outputs: dict[str, object] = {}
    with ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(
                lambda _module, _given, output, name=name: outputs.update({name: output})
            )
            stack.callback(handle.remove)
        _forward(settings, model_row(settings.model), family, model, 1, settings.plan.side_px)
    return outputs


def _window(
    settings: Settings, row: ModelRow, family: Family, streams: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """Return what load_rows loads for one micro-step, except the modulation."""
    rows, noisy = (
        settings.plan.batch,
        _dummy_latents(row, settings.plan.side_px, settings.plan.batch),
    )
    window = {
        "noisy": noisy,
        "t": torch.empty(rows, dtype=torch.float32),
        "target": torch.empty_like(noisy, dtype=torch.float32),
    }
    if settings.plan.front:
        for i, stream in enumerate(streams):
            window[f"front.{i}"] = torch.empty(rows, *stream.shape[1:])
    if settings.plan.back:
        image = (settings.plan.side_px // family.token_px) ** 2
        window["back"] = torch.empty(rows, image, row.width)
    return window
