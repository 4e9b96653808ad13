"""What a model needs to work on larger patches: the adapters of DDiT (docs/method.md §2).

A coarse pass is the library's own forward over fewer tokens: factor x factor of them are merged into one,
which an adapter made by `lab distil` embeds and takes apart again. When a step is coarse is sampling/dynamic_patches.py's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, command
from blockskip.memory.block_wrappers import RowChunked
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Family
from blockskip.models.families.patches import split

FACTORS = (4, 2)  # sides of a coarse patch in patches of the model, the coarsest first
RANK = 32  # of the adapter's LoRA [paper]; less in models under 512 wide, where it would cost most
WAVES = 8  # of t, for the way past the blocks
HIDDEN = 512  # numbers of a token, at most, that the blocks tell it
DETAIL = 0.25  # of a latent's variance is finer than a larger patch shows: a beginning


def upsampling(factor: int, patch: int) -> Tensor:
    """Bilinear interpolation of a patch to `factor` times its side: ((factor · patch)², patch²),
    the larger patch's cells row by row."""
    corners = torch.eye(patch**2).reshape(patch**2, 1, patch, patch)
    larger = interpolate(corners, scale_factor=factor, mode="bilinear", align_corners=False)
    return larger.flatten(1).mT.contiguous()


def _order(factor: int, patch: int) -> Tensor:
    """Cells of a larger patch in the order in which `merge` has them, (patch² · factor²): by their
    place inside a patch, then by patch; each as its number row by row."""
    rows = torch.arange(factor * patch).reshape(factor, patch)  # (which patch, place in it)
    numbers = rows[:, :, None, None] * factor * patch + rows
    return numbers.permute(1, 3, 0, 2).flatten()


def fine_part(factor: int, patch: int) -> Tensor:
    """What takes from a larger patch's cells, in the order of `merge`, all that is a patch
    interpolated: (cells, cells), symmetric."""
    larger = upsampling(factor, patch)
    order = _order(factor, patch)
    return (torch.eye(len(larger)) - larger @ torch.linalg.pinv(larger))[order][:, order]


def waves(t: Tensor) -> Tensor:
    """t (B,) in [0, 1] as sines and cosines, (B, 2 · WAVES)."""
    angles = t[:, None] * math.pi * torch.arange(1, WAVES + 1, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


class PatchLinear(nn.Linear):
    """A linear on channels, whether they come last (B, T, C) or second (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        found = _linear(self, x.movedim(1, -1) if x.dim() == 4 else x)
        return found.movedim(-1, 1) if x.dim() == 4 else found


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight.to(x), layer.bias.to(x))


class LowRank(nn.Module):
    """A LoRA beside a linear: what it adds to the linear's output, nothing at first."""

    def __init__(self, of: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, of.in_features) / of.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(of.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return linear(linear(x, self.down.to(x)), self.up.to(x))


class PatchAdapter(nn.Module):
    """What a model needs to work on patches `factor` times as large: layers that embed them and take
    them apart, a way past the blocks, and a LoRA on every block's feed-forward [paper].

    The paper's learnt vector for the size is the embedding's bias here. The way past the blocks knows
    t and what the blocks made of the token (ours), and lets the fine part of z_t straight on, as much
    as t says: a coarse token is too narrow for the noise of all its cells, which is most of the
    velocity and which z_t shows.
    """

    fine: Tensor

    def __init__(self, model: nn.Module, family: Family, factor: int, rank: int = RANK) -> None:
        super().__init__()
        self.factor, self.rank = factor, rank
        embed, head = _patch_layers(model, family)
        width, num = len(embed.weight), len(head.weight) * factor**2  # numbers a token
        told = min(width, HIDDEN)
        self.embed, self.head = PatchLinear(num, width), PatchLinear(width, num + told)
        self.straight, inside = nn.Linear(2 * WAVES, num), num + told + 2 * WAVES
        first, second = nn.Linear(inside, 2 * told), nn.Linear(2 * told, num)
        self.past = nn.ModuleList([first, second])
        nn.init.zeros_(second.weight)
        nn.init.zeros_(second.bias)
        self.register_buffer("fine", fine_part(factor, family.patch_size), persistent=False)
        self.lora = nn.ModuleDict(
            {name.replace(".", "/"): LowRank(of, rank) for name, of in feed_forward(model, family)}
        )
        if not embed.weight.is_meta:
            self._resize(embed, head, family.patch_size)
            self._init_bypass()

    @torch.no_grad()
    def _resize(self, embed: nn.Linear | nn.Conv2d, head: nn.Linear, patch: int) -> None:
        """Begin as the model's own layers: the embedding gives for a patch that is interpolated what
        they give for the patch (FlexiViT's pseudo-inverse); what they make of a token is
        interpolated. The rest of the head tells the way past the blocks about the token."""
        larger, order = upsampling(self.factor, patch), _order(self.factor, patch)
        inverse = torch.linalg.pinv(larger.mT)  # (larger patch's cells, patch's)
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
        """Begin as the best guess of a velocity whose picture's fine part is white and of variance
        s²: E[ε - x₀ | z_t] = z_t (t - (1 - t) s²) / ((1 - t)² s² + t²)."""
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        wanted = (t - (1 - t) * DETAIL) / ((1 - t) ** 2 * DETAIL + t**2)
        basis = torch.cat([waves(t), torch.ones(len(t), 1)], 1)
        both = basis.mT @ basis + 1e-3 * torch.eye(basis.shape[1])  # the waves are nearly dependent
        found = torch.linalg.solve(both, basis.mT @ wanted)
        self.straight.weight.copy_(found[:-1].expand_as(self.straight.weight))
        self.straight.bias.fill_(found[-1])

    def velocity(self, merged: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """Of merged latents, shaped as they are: (B, T, C) or (B, C, h, w). output: what the head gave.
        t: (B,) in [0, 1]."""
        axis = 2 if merged.dim() == 3 else 1
        z, given = merged.movedim(axis, -1), output.movedim(axis, -1).to(merged)
        num, known = z.shape[-1], waves(t).to(z)
        known = known.reshape(-1, *[1] * (z.dim() - 2), 2 * WAVES).expand(*z.shape[:-1], -1)
        first, second = cast(Iterable[nn.Linear], self.past)
        past = _linear(second, gelu(_linear(first, torch.cat([z, given[..., num:], known], -1))))
        fine = (z.unflatten(-1, (-1, len(self.fine))) @ self.fine.to(z)).flatten(-2)
        found = given[..., :num] + past + _linear(self.straight, known) * fine
        return found.movedim(-1, axis)


def _patch_names(family: Family) -> tuple[str, str]:
    """Names of the two layers in whose places an adapter's stand. Raises ValueError where patches
    cannot be merged."""
    if family.patch_modules is None:
        raise ValueError("this family's patches cannot be merged")
    return family.patch_modules


def _patch_layers(model: nn.Module, family: Family) -> tuple[nn.Linear | nn.Conv2d, nn.Linear]:
    """What makes a token of a patch, and a patch of a token."""
    embed, head = (model.get_submodule(name) for name in _patch_names(family))
    return cast(nn.Linear | nn.Conv2d, embed), cast(nn.Linear, head)


def feed_forward(model: nn.Module, family: Family) -> list[tuple[str, nn.Linear]]:
    """(name, linear) of every block's feed-forward; of all that a LoRA adapts in a block whose
    feed-forward has no linears of its own. Where a LoRA is, the linear that it is beside."""
    found: list[tuple[str, nn.Linear]] = []
    for name, block in family.blocks(model):
        every = family.lora_targets(block, "attention+ff")
        attention = family.lora_targets(block, "attention")
        for inside in [one for one in every if one not in attention] or every:
            of = block.get_submodule(inside)
            found.append((f"{name}.{inside}", cast(nn.Linear, getattr(of, "base_layer", of))))
    return found


def _layer_path(model: nn.Module, name: str) -> str:
    """Where a layer is to be found whose embedder works some rows at a time."""
    parent, _, leaf = name.rpartition(".")
    if isinstance(model.get_submodule(parent), RowChunked):
        return f"{parent}.module.{leaf}"
    return name


@contextmanager
def adapter_installed(
    model: nn.Module, family: Family, adapter: PatchAdapter, linears: dict[str, nn.Linear]
) -> Iterator[None]:
    """Inside, the model works on larger patches: an adapter's layers stand in their places, its LoRA
    beside the linears (`feed_forward`), whatever stands in the places of their blocks."""
    with ExitStack() as stack:
        new: dict[str, nn.Module] = {}
        for name, layer in zip(_patch_names(family), (adapter.embed, adapter.head), strict=True):
            name = _layer_path(model, name)
            old = model.get_submodule(name)
            # where the one works whose place it takes
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
    family: Family, adapter: PatchAdapter, plain: Callable[..., tuple], given: dict, times: Tensor
) -> Tensor:
    """Velocity, shaped as the latents in `given`, of a model that an adapter is installed on (`adapter_installed`). plain:
    its forward. times: (B,) in [0, 1]."""
    merged = family.merge_patches(given, adapter.factor)
    latents, output = merged[family.latents_arg], family.velocity(plain(**merged))
    return split(adapter.velocity(latents, output, times.to(latents.device)), adapter.factor)


def rank_for(model: nn.Module, family: Family) -> int:
    """The rank of an adapter's LoRA."""
    return min(RANK, max(4, len(_patch_layers(model, family)[0].weight) // 16))


def save(path: Path, adapters: dict[int, PatchAdapter], facts: dict) -> None:
    """Adapters in a file of their own, in half precision; facts: JSON-ready, beside them."""
    tensors = {
        f"{factor}.{name}": tensor.detach().half().contiguous()
        for factor, adapter in adapters.items()
        for name, tensor in adapter.state_dict().items()
    }
    rank = next(iter(adapters.values())).rank
    safetensors_files.save_tensors(path, tensors, {"ddit": json.dumps(facts | {"rank": rank})})


def load(path: Path, model: nn.Module, family: Family) -> tuple[dict[int, PatchAdapter], dict]:
    """Adapters by factor, and the facts beside them. Raises UserError when the file is another
    model's, or none of ours."""
    wrong = BadFile(
        f"{path.name} holds no patch schedule for this model.",
        f"Make one: {command('lab distil')}",
    )
    facts = json.loads(safetensors_files.read_metadata(path).get("ddit", "{}"))
    if not facts:
        raise wrong
    tensors, adapters = load_file(path), {}
    for factor in sorted({int(name.split(".")[0]) for name in tensors}, reverse=True):
        adapters[factor] = PatchAdapter(model, family, factor, facts["rank"])
        own = {
            name.removeprefix(f"{factor}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{factor}.")
        }
        try:
            adapters[factor].load_state_dict(own)
            # in the model's numbers, as its layers are: half of what training takes
            adapters[factor].to(_patch_layers(model, family)[0].weight.dtype)
        except RuntimeError as error:
            raise wrong from error
        adapters[factor].requires_grad_(False)
    return adapters, facts
