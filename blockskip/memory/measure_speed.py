"""Measure how fast this computer is, in about ten seconds: products, passes through blocks, copies,
the disk, and how long it takes to open a model (memory/planning/measured_speed.py keeps it).

Passes are those of the real thing: blocks of FLUX.1's shape with a LoRA on a graphics card, and the
demo model, whose small passes are slow for other reasons, on every device.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor, nn

from blockskip.core import presets
from blockskip.core.paths import ASSETS, data_dir
from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory import int8_products
from blockskip.memory.block_buffers import host_empty
from blockskip.memory.disk_speed import disk_gbs
from blockskip.memory.open_model import open_model
from blockskip.memory.placement import free_memory, pick_device, pin_on_device
from blockskip.memory.planning.measured_speed import PassRates, Speed, this_computer
from blockskip.memory.planning.model_stats import block_multiply_adds
from blockskip.memory.quantisation import QuantisedLinear, block_linears, quantise
from blockskip.memory.vram_cap import context_gib
from blockskip.models import sources
from blockskip.models.families.base import Family, Text, get_family

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin

log = logging.getLogger(__name__)
DEMO, WIDE = "demo", "flux-dev"
PART_S = 0.8  # seconds that one figure may take, once each call was made twice
WIDE_GIB = 4.0  # of free graphics memory that blocks of FLUX.1's width take with their activations
SLOWEST_START_S = 90.0  # a process that takes longer is ended (speed_process.py)
COPIED_BYTES = 256 << 20
DRAWS = 8  # of the demo's steps
CPU = torch.device("cpu")


def measure() -> Speed:
    """Return what was measured here. Call this in a new process: its age is part of the result."""
    device = pick_device()
    context = context_gib(device.index or 0) if device.type == "cuda" else 0.0
    settings, row = Settings(model=DEMO), presets.model_row(DEMO)
    family = get_family(row.family)
    pipe = open_model(family, row, sources.find_model(row), settings, device)
    pin_on_device(device, pipe.transformer, pipe.vae)
    add_lora(pipe.transformer, family)
    started = age_s()
    narrow, encode, decode = {}, {}, {}
    for threads in thread_counts(device):
        with cpu_threads(threads):
            narrow[threads] = pass_rates(Passes(pipe.transformer, family, row, device), DRAWS)
            encode[threads], decode[threads] = vae_rates(pipe, row, device)
    to_card, from_card = bus_gbs(device)
    return Speed(
        computer=this_computer(),
        device=device.type,
        product_tflops=product_rates(device),
        wide=wide_rates(device),
        wide_int8=wide_rates(device, in_int8=True) if int8_products.available(device) else None,
        narrow=narrow,
        encode_mps=encode,
        decode_mps=decode,
        memory_gbs=memory_gbs(device),
        to_card_gbs=to_card,
        from_card_gbs=from_card,
        disk_gbs=disk_gbs(_files()),
        context_gib=context,
        start_s=started,
    )


def age_s() -> float:
    """Return the seconds since this process began, 0 if the computer's clock was set meanwhile."""
    age = time.time() - psutil.Process().create_time()
    return age if 0 < age < SLOWEST_START_S else 0.0


def thread_counts(device: torch.device) -> list[int]:
    """Return the numbers of threads that are tried. They matter where the processor computes."""
    return sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [1]


@contextmanager
def cpu_threads(num: int) -> Iterator[None]:
    """Context manager in which torch computes with so many threads on the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(
    calls: Sequence[Callable[[], object]], device: torch.device, at_most_s: float = PART_S
) -> list[float]:
    """Return the median seconds of each call, of three or more after a first one. They take turns,
    so that what else the computer does slows all of them alike."""
    for call in calls:
        call()
    synchronize(device)
    taken: list[list[float]] = []
    until = time.perf_counter() + at_most_s * len(calls)
    while len(taken) < 3 or (time.perf_counter() < until and len(taken) < 50):
        taken.append([_once(call, device) for call in calls])
    return [statistics.median(each) for each in zip(*taken, strict=True)]


def _once(call: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def add_lora(transformer: ModelMixin, family: Family) -> None:
    """Give every block a LoRA, as training does."""
    from peft import LoraConfig

    blocks = family.blocks(transformer)
    names = [f"{name}.{n}" for name, b in blocks for n in family.lora_targets(b, "attention+ff")]
    transformer.add_adapter(LoraConfig(r=16, lora_alpha=16, target_modules=names))


class Passes:
    """Passes of draws through the blocks of a transformer. side_px: of the pictures. text: tokens."""

    def __init__(
        self,
        transformer: ModelMixin,
        family: Family,
        row: ModelRow,
        device: torch.device,
        side_px: int = 0,
        text: int = 0,
    ) -> None:
        self.transformer, self.family, self.device = transformer, family, device
        self.row, self.side_px = row, side_px or row.native_px
        self.text = text or row.text_tokens
        self.num_blocks = len(family.blocks(transformer))

    def tflop(self, draws: int) -> float:
        """Return the products of a pass through all blocks."""
        adds = block_multiply_adds(self.row, self.side_px, self.text)
        return 2e-12 * draws * self.num_blocks * adds

    def inputs(self, draws: int) -> dict:
        """Return the transformer's inputs for so many draws."""
        model = self.transformer
        dtype = next(p.dtype for p in model.parameters() if not p.requires_grad)
        cells = self.side_px // self.family.token_px
        tokens, width, pooled = self.family.caption_shape(model, self.text)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(draws, *shape, device=self.device, dtype=dtype)

        noisy, text = zeros(cells**2, model.config.in_channels), zeros(tokens, width)
        text_inputs = Text(text, zeros(pooled))
        return self.family.inputs(model.config, noisy, text_inputs, zeros(), self.side_px)

    def seconds(self, draws: int) -> list[float]:
        """Return the seconds of a pass of one draw, of `draws`, and of these there and back."""
        one, many = self.inputs(1), self.inputs(draws)

        @torch.no_grad()
        def forward(inputs: dict) -> None:
            self.transformer(**inputs)

        def both() -> None:
            self.family.predict(self.transformer, many).float().sum().backward()
            self.transformer.zero_grad(set_to_none=True)

        return seconds([partial(forward, one), partial(forward, many), both], self.device)


def pass_rates(passes: Passes, draws: int) -> PassRates:
    """Return the rates of passes of so many draws. On the processor, products begin once a block's
    launches are done; a card works on products while the next ones are launched."""
    one, many, both = passes.seconds(draws)
    more = passes.tflop(draws) - passes.tflop(1)
    waits = passes.device.type == "cpu" and many > one
    tflops = more / (many - one) if waits else passes.tflop(draws) / many
    launches = one - passes.tflop(1) / tflops if waits else one
    return PassRates(
        tflops=tflops,
        launch_ms=1000 * max(0.0, launches) / passes.num_blocks,
        backward=max(0.5, (both - many) / many),
    )


def wide_rates(device: torch.device, in_int8: bool = False) -> PassRates | None:
    """Return the rates of blocks of FLUX.1's shape, two and one kind as it has them; None without a
    card that has room for them. in_int8: whether they multiply in 8 bits."""
    if device.type != "cuda":
        return None
    free_memory()  # what was measured before holds some
    if torch.cuda.mem_get_info(device)[0] < WIDE_GIB * GIB:
        return None
    try:
        return blocks_rates(device, half_type(device), in_int8=in_int8)
    except torch.OutOfMemoryError:  # another program has taken the room meanwhile
        return None


def blocks_rates(
    device: torch.device, dtype: torch.dtype, heads: int = 24, in_int8: bool = False
) -> PassRates:
    """Return the rates of three blocks with random weights. heads: of attention; 24 are FLUX.1's
    width."""
    from diffusers import FluxTransformer2DModel

    row = presets.model_row(WIDE)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = FluxTransformer2DModel(
                num_layers=1, num_single_layers=2, num_attention_heads=heads, guidance_embeds=True
            )
    finally:
        torch.set_default_dtype(before)
    family = get_family(row.family)
    if in_int8:
        multiply_in_int8(family.blocks(model))
    add_lora(model.requires_grad_(False), family)
    for parameter in model.parameters():  # peft keeps them in float32; training casts them
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    small, _, _ = Passes(model, family, row, device, side_px=64, text=16).seconds(1)
    rates = pass_rates(Passes(model, family, row, device, side_px=512), 1)
    return PassRates(tflops=rates.tflops, launch_ms=1000 * small / 3, backward=rates.backward)


def multiply_in_int8(blocks: Sequence[tuple[str, nn.Module]]) -> None:
    """Replace the linears of these blocks by ones that multiply in 8 bits."""
    for _, block in blocks:
        for name, linear in block_linears([("", block)]).items():
            layer = QuantisedLinear(linear, "int8", rotates=True)
            for part, value in quantise(linear.weight.detach(), "int8", layer.rotation).items():
                setattr(layer, part, nn.Parameter(value, requires_grad=False))
            layer.in_int8 = True
            block.set_submodule(name.removeprefix("."), layer)


def half_type(device: torch.device) -> torch.dtype:
    """Return the 16-bit type that a card computes in."""
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def vae_rates(pipe: DiffusionPipeline, row: ModelRow, device: torch.device) -> tuple[float, float]:
    """Return the megapixels a second that the VAE encodes and decodes, as many at a time as the
    demo does."""
    vae, px = pipe.vae, row.native_px
    pixels = torch.zeros(32, 3, px, px, device=device, dtype=vae.dtype)

    @torch.no_grad()
    def encode(pixels: Tensor = pixels) -> Tensor:
        return vae.encode(pixels, return_dict=False)[0].mode()

    latents = encode(pixels[:4])

    @torch.no_grad()
    def decode() -> None:
        vae.decode(latents, return_dict=False)

    megapixels = px**2 / 1e6
    encoding, decoding = seconds([encode, decode], device, PART_S / 2)
    return 32 * megapixels / encoding, 4 * megapixels / decoding


def product_rates(device: torch.device, side: int = 4096) -> dict[str, float]:
    """Return the TFLOP/s of square products: in 16 bits and int8 on a card, float32 on the
    processor. side: on a card; the processor's is a quarter."""
    rates = {"float32": _product_tflops(CPU, torch.float32, side // 4)}
    if device.type == "cuda":
        dtype = half_type(device)
        rates[str(dtype).removeprefix("torch.")] = _product_tflops(device, dtype, side)
        with suppress(RuntimeError, AttributeError):  # not every card and build has it
            rates["int8"] = _int8_tflops(device, side)
    return rates


def _product_tflops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2e-12 * side**3 / seconds([lambda: a @ b], device, PART_S / 2)[0]


def _int8_tflops(device: torch.device, side: int) -> float:
    a, b = (torch.ones(side, side, device=device, dtype=torch.int8) for _ in range(2))
    return 2e-12 * side**3 / seconds([lambda: torch._int_mm(a, b.t())], device, PART_S / 2)[0]


def memory_gbs(device: torch.device) -> float:
    """Return the GB/s of the device's memory, read and written."""
    a, b = (torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    return 2e-9 * COPIED_BYTES / seconds([lambda: b.copy_(a)], device, PART_S / 4)[0]


def bus_gbs(device: torch.device) -> tuple[float, float]:
    """Return the GB/s from pinned RAM to a card and back; 0 on the processor."""
    if device.type == "cpu":
        return 0.0, 0.0
    host = host_empty((COPIED_BYTES,), torch.uint8, device.type == "cuda")
    there = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    to, back = seconds([partial(there.copy_, host), partial(host.copy_, there)], device, PART_S / 2)
    return 1e-9 * COPIED_BYTES / to, 1e-9 * COPIED_BYTES / back


def _files() -> Sequence[Path]:
    """Return files of weights, largest first: downloaded ones, else the demo model's."""
    sizes = {}
    for folder in (data_dir() / "models", ASSETS):
        for path in folder.rglob("*.safetensors"):
            with suppress(OSError):  # a link to nothing, or a file that was removed meanwhile
                sizes[path] = path.stat().st_size
    return sorted(sizes, key=sizes.__getitem__, reverse=True)
