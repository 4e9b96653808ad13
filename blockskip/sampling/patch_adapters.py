"""DDiT's adapters, with which a model works on larger patches (docs/method.md §2).

A coarse pass is diffusers' own forward over fewer tokens. Each group of factor x factor tokens is
merged into one, which an adapter trained by `lab distil` embeds and splits again.
sampling/dynamic_patches.py decides which steps are coarse.

Shapes: B images, T tokens, C latent channels, (h, w) latent cells, D width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from pydantic import Json
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, command
from blockskip.core.validation import validated
from blockskip.memory.block_wrappers import RowChunked
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Family
from blockskip.models.families.patches import split

FACTORS = (4, 2)  # side of a coarse patch in model patches, coarsest first
RANK = 32  # of the adapter's LoRA [paper]; less in models of D < 512, where it costs most
WAVES = 8  # frequencies of t, for the bypass
HIDDEN = 512  # maximum number of head outputs per token that feed the bypass
DETAIL = 0.25  # initial share of a latent's variance that a larger patch cannot represent


@dataclass(frozen=True)
class _Schedule:
    steps: int
    taus: dict[int, float]
    rho: float
    hold: int
    cache: float


@dataclass(frozen=True)
class _Facts:
    """What the program reads of a file's facts. schedule: see sampling/dynamic_patches.py."""

    rank: int
    schedule: _Schedule | None = None


def upsampling(factor: int, patch: int) -> Tensor:
    """Return the bilinear upsampling of a patch to `factor` times its side as a matrix.

    ((factor · patch)², patch²), cells row by row.
    """
    corners = torch.eye(patch**2).reshape(patch**2, 1, patch, patch)
    larger = interpolate(corners, scale_factor=factor, mode="bilinear", align_corners=False)
    return larger.flatten(1).mT.contiguous()


def _order(factor: int, patch: int) -> Tensor:
    """Return row-major indices of a larger patch's cells in `merge`'s order, (patch² · factor²).

    `merge` orders cells by their position inside a patch, then by patch.
    """
    rows = torch.arange(factor * patch).reshape(factor, patch)  # (patch, position inside it)
    numbers = rows[:, :, None, None] * factor * patch + rows
    return numbers.permute(1, 3, 0, 2).flatten()


def fine_part(factor: int, patch: int) -> Tensor:
    """Return the projection of a larger patch onto its detail, (cells, cells), symmetric.

    It removes the part that is an upsampled patch. Cells are in `merge`'s order.
    """
    larger = upsampling(factor, patch)
    order = _order(factor, patch)
    return (torch.eye(len(larger)) - larger @ torch.linalg.pinv(larger))[order][:, order]


def waves(t: Tensor) -> Tensor:
    """Embed t (B,) in [0, 1] as sines and cosines, (B, 2 · WAVES)."""
    angles = t[:, None] * math.pi * torch.arange(1, WAVES + 1, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


class PatchLinear(nn.Linear):
    """A linear layer over the channels of (B, T, C) or (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        y = _linear(self, x.movedim(1, -1) if x.dim() == 4 else x)
        return y.movedim(-1, 1) if x.dim() == 4 else y


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight.to(x), layer.bias.to(x))


class LowRank(nn.Module):
    """The LoRA of a linear layer: returns the term to add to its output, initially zero."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return linear(linear(x, self.down.to(x)), self.up.to(x))


class PatchAdapter(nn.Module):
    """The layers with which a model works on patches of `factor` times the side.

    An embedding, a head, a bypass around the blocks, and a LoRA on every block's feed-forward
    [paper]. The paper's learnt vector for the patch size is the embedding's bias here. The bypass
    (ours) sees t and extra head outputs, and also passes the detail of z_t through with a gain that
    depends on t. A coarse token is too narrow for the noise of all its cells, which makes up most
    of the velocity and is visible in z_t.
    """

    fine: Tensor

    def __init__(self, model: nn.Module, family: Family, factor: int, rank: int = RANK) -> None:
        super().__init__()
        self.factor, self.rank = factor, rank
        embed, head = _patch_layers(model, family)
        width, num = len(embed.weight), len(head.weight) * factor**2  # num: values per token
        hidden = min(width, HIDDEN)
        self.embed, self.head = PatchLinear(num, width), PatchLinear(width, num + hidden)
        self.straight, in_features = nn.Linear(2 * WAVES, num), num + hidden + 2 * WAVES
        first, second = nn.Linear(in_features, 2 * hidden), nn.Linear(2 * hidden, num)
        self.past = nn.ModuleList([first, second])
        nn.init.zeros_(second.weight)
        nn.init.zeros_(second.bias)
        self.register_buffer("fine", fine_part(factor, family.patch_size), persistent=False)
        self.lora = nn.ModuleDict(
            {
                name.replace(".", "/"): LowRank(layer, rank)
                for name, layer in feed_forward(model, family)
            }
        )
        if not embed.weight.is_meta:
            self._resize(embed, head, family.patch_size)
            self._init_bypass()

    @torch.no_grad()
    def _resize(self, embed: nn.Linear | nn.Conv2d, head: nn.Linear, patch: int) -> None:
        """Initialise embedding and head from the model's own layers.

        An upsampled patch embeds like the original (FlexiViT's pseudo-inverse), and the head's
        output is the original's, upsampled. Extra head outputs feed the bypass.
        """
        larger, order = upsampling(self.factor, patch), _order(self.factor, patch)
        inverse = torch.linalg.pinv(larger.mT)  # (larger patch's cells, patch's cells)
        weight = embed.weight.cpu().float().flatten(1).unflatten(1, (-1, patch**2))  # (D, C, cells)
        self.embed.weight.copy_((weight @ inverse.mT)[..., order].flatten(1))
        weight = head.weight.cpu().float().unflatten(0, (-1, patch**2))  # (C, cells, D)
        num = len(head.weight) * self.factor**2
        self.head.weight[:num] = (larger @ weight)[:, order].flatten(0, 1)
        nn.init.normal_(self.head.weight[num:], std=weight.shape[2] ** -0.5)
        nn.init.zeros_(self.embed.bias)
        nn.init.zeros_(self.head.bias)
        if embed.bias is not None:
            self.embed.bias.copy_(embed.bias)
        if head.bias is not None:
            bias = head.bias.cpu().float().unflatten(0, (-1, patch**2))
            self.head.bias[:num] = (bias @ larger.mT)[:, order].flatten()

    @torch.no_grad()
    def _init_bypass(self) -> None:
        """Initialise the bypass as the best estimate for white detail of variance s² = DETAIL.

        E[ε - x₀ | z_t] = z_t (t - (1 - t) s²) / ((1 - t)² s² + t²), fitted over t.
        """
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        gain = (t - (1 - t) * DETAIL) / ((1 - t) ** 2 * DETAIL + t**2)
        basis = torch.cat([waves(t), torch.ones(len(t), 1)], 1)
        # regularised, since the waves are nearly dependent
        normal = basis.mT @ basis + 1e-3 * torch.eye(basis.shape[1])
        solution = torch.linalg.solve(normal, basis.mT @ gain)
        self.straight.weight.copy_(solution[:-1].expand_as(self.straight.weight))
        self.straight.bias.fill_(solution[-1])

    def velocity(self, merged: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """Compute the velocity of merged latents, in their shape (B, T, C) or (B, C, h, w).

        output: the head's. t: (B,) in [0, 1].
        """
        axis = 2 if merged.dim() == 3 else 1
        z, head = merged.movedim(axis, -1), output.movedim(axis, -1).to(merged)
        num, time = z.shape[-1], waves(t).to(z)
        time = time.reshape(-1, *[1] * (z.dim() - 2), 2 * WAVES).expand(*z.shape[:-1], -1)
        first, second = cast(Iterable[nn.Linear], self.past)
        past = _linear(second, gelu(_linear(first, torch.cat([z, head[..., num:], time], -1))))
        fine = (z.unflatten(-1, (-1, len(self.fine))) @ self.fine.to(z)).flatten(-2)
        velocity = head[..., :num] + past + _linear(self.straight, time) * fine
        return velocity.movedim(-1, axis)


def _patch_names(family: Family) -> tuple[str, str]:
    """Return the names of the two layers that an adapter replaces, the embedding and the head.

    Raises ValueError if the family's patches cannot be merged.
    """
    if family.patch_modules is None:
        raise ValueError("this family's patches cannot be merged")
    return family.patch_modules


def _patch_layers(model: nn.Module, family: Family) -> tuple[nn.Linear | nn.Conv2d, nn.Linear]:
    """Return the layers that turn a patch into a token and a token into a patch."""
    embed, head = (model.get_submodule(name) for name in _patch_names(family))
    return cast(nn.Linear | nn.Conv2d, embed), cast(nn.Linear, head)


def feed_forward(model: nn.Module, family: Family) -> list[tuple[str, nn.Linear]]:
    """Return (name, linear) of every block's feed-forward linears.

    For a block without separate feed-forward linears, return all LoRA targets. With a LoRA
    attached, the linear is the wrapped base layer.
    """
    linears: list[tuple[str, nn.Linear]] = []
    for name, block in family.blocks(model):
        targets = family.lora_targets(block, "attention+ff")
        attention = family.lora_targets(block, "attention")
        for target in [t for t in targets if t not in attention] or targets:
            layer = block.get_submodule(target)
            linear = cast(nn.Linear, getattr(layer, "base_layer", layer))
            linears.append((f"{name}.{target}", linear))
    return linears


def _layer_path(model: nn.Module, name: str) -> str:
    """Return the current path of layer `name`, which may be inside a RowChunked module."""
    parent, _, leaf = name.rpartition(".")
    if isinstance(model.get_submodule(parent), RowChunked):
        return f"{parent}.module.{leaf}"
    return name


@contextmanager
def adapter_installed(
    model: nn.Module, family: Family, adapter: PatchAdapter, linears: dict[str, nn.Linear]
) -> Iterator[None]:
    """Context manager in which the model works on larger patches.

    The adapter's layers replace the model's. Its LoRA is hooked onto the linears (`feed_forward`),
    whatever wraps their blocks.
    """
    with ExitStack() as stack:
        new: dict[str, nn.Module] = {}
        for name, layer in zip(_patch_names(family), (adapter.embed, adapter.head), strict=True):
            name = _layer_path(model, name)
            old = model.get_submodule(name)
            # it runs where the layer that it replaces runs
            new[name] = (
                RowChunked(layer, old.micro_batch, old.device)
                if isinstance(old, RowChunked)
                else layer
            )
        stack.enter_context(replace_modules(model, new))
        for name, lora in adapter.lora.items():
            hook = linears[name.replace("/", ".")].register_forward_hook(
                lambda _, inputs, output, lora=lora: output + lora(inputs[0])
            )
            stack.callback(hook.remove)
        yield


def velocity(
    family: Family,
    adapter: PatchAdapter,
    model_forward: Callable[..., tuple],
    model_kwargs: dict,
    times: Tensor,
) -> Tensor:
    """Compute the velocity of a model with an adapter, shaped like the latents in `model_kwargs`.

    Must run inside `adapter_installed`. times: (B,) in [0, 1].
    """
    merged = family.merge_patches(model_kwargs, adapter.factor)
    latents, output = merged[family.latents_arg], family.velocity(model_forward(**merged))
    return split(adapter.velocity(latents, output, times.to(latents.device)), adapter.factor)


def rank_for(model: nn.Module, family: Family) -> int:
    """Return the rank of an adapter's LoRA: D / 16, between 4 and RANK."""
    return min(RANK, max(4, len(_patch_layers(model, family)[0].weight) // 16))


def save(path: Path, adapters: dict[int, PatchAdapter], facts: dict) -> None:
    """Write adapters by factor in half precision, and JSON-ready `facts` in the file's header."""
    tensors = {
        f"{factor}.{name}": tensor.detach().half().contiguous()
        for factor, adapter in adapters.items()
        for name, tensor in adapter.state_dict().items()
    }
    rank = next(iter(adapters.values())).rank
    safetensors_files.save_tensors(path, tensors, {"ddit": json.dumps(facts | {"rank": rank})})


def read_facts(path: Path) -> dict:
    """Return the facts in a file's header, {} without any. Raises UserError for a broken file."""
    text, subject = safetensors_files.read_metadata(path).get("ddit"), f"{path} cannot be read"
    if text is None:
        return {}
    remedy = f"Make it again: {command('lab distil')}"
    validated(Json[_Facts], text, subject, error=BadFile, remedy=remedy)
    return json.loads(text)


def load(path: Path, model: nn.Module, family: Family) -> tuple[dict[int, PatchAdapter], dict]:
    """Return a file's adapters by factor, and its facts.

    Raises BadFile if the file belongs to another model or is no adapter file.
    """
    error = BadFile(
        f"{path.name} holds no patch schedule for this model.",
        f"Make one: {command('lab distil')}",
    )
    facts = read_facts(path)
    if not facts:
        raise error
    tensors, adapters = safetensors_files.load_tensors(path), {}
    for factor in sorted({int(name.split(".")[0]) for name in tensors}, reverse=True):
        adapters[factor] = PatchAdapter(model, family, factor, facts["rank"])
        state = {
            name.removeprefix(f"{factor}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{factor}.")
        }
        try:
            adapters[factor].load_state_dict(state)
            # in the model's dtype, half the memory that training takes
            adapters[factor].to(_patch_layers(model, family)[0].weight.dtype)
        except RuntimeError as cause:
            raise error from cause
        adapters[factor].requires_grad_(False)
    return adapters, facts
