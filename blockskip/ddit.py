"""DDiT: steps of sampling that add no fine detail are made with larger patches (METHOD.md §2).

The last velocities say how much detail a step adds: where they change alike all over larger patches,
those will do. A coarse pass is the library's own forward over fewer tokens: factor x factor of them are
merged into one, which an adapter made by `lab distil` embeds and takes apart again.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear

from blockskip import config, files
from blockskip.events import UserError, command
from blockskip.families.base import Family
from blockskip.families.patches import cells, split
from blockskip.memory.passes import Apart
from blockskip.memory.placement import replaced
from blockskip.place import data_dir

if TYPE_CHECKING:
    from blockskip.cache import Cache

FACTORS = (4, 2)  # sides of a coarse patch in patches of the model, the coarsest first
RANK = 32  # of the adapter's LoRA [paper]; less in models under 512 wide, where it would cost most
RHO = 0.4  # the quantile over patches that must be below τ [paper]
STEPS = 50  # uniform ones, for which the paper says τ
HOLD = 10  # coarse steps, at most, between two fine ones
WAVES = 8  # of t, for the way past the blocks
TOLD = 512  # numbers of a token, at most, that the blocks tell it
DETAIL = 0.25  # of a latent's variance is finer than a larger patch shows: a beginning


def third_difference(times: Sequence[float], velocities: Sequence[Tensor]) -> Tensor:
    """Δ³ of the last four latents, as it would be in 50 uniform steps: from the velocities (any
    shape, alike) between them, which is the same.

    In uniform steps of 1/50 it is z₀ - 3 z₁ + 3 z₂ - z₃ [paper]. times: in [0, 1], at which the
    last three velocities were asked for. Divided differences of velocities (ours) make it the same
    for any number of steps and for shifted ones: a straight path has none, a cubic one a constant
    one. Nor is it drowned by rounding, which in bfloat16 moves latents by more than τ.
    """
    (a, b, c), (x, y, z) = times[-3:], velocities[-3:]
    bend = ((z - y) / (c - b) - (y - x) / (b - a)) / (c - a)
    return bend * (2 / STEPS**3)


def deviations(change: Tensor, side: int) -> Tensor:
    """How much `change` (B, C, h, w) varies inside patches of `side` cells: (B, patches), the root
    mean square over channels of the standard deviation over places."""
    b, c, h, w = change.shape
    patches = change.reshape(b, c, h // side, side, w // side, side)
    return patches.var((3, 5), unbiased=False).mean(1).sqrt().flatten(1)


def choose(change: Tensor, patch: int, taus: Mapping[int, float], rho: float = RHO) -> int:
    """The largest factor whose patches hardly vary: 4, 2, or 1 where not even 2 will do.

    patch: cells to a side of the model's own patch. taus: τ by factor (the paper has one for all:
    where a latent is all detail, as in small pictures, sizes vary alike and differ in what they
    cost). For each picture of `change` (B, C, h, w) the ρ-th quantile over its patches must be below
    τ, so it refines where a share of 1 - ρ is busy. Pictures that are sampled together take the
    finest size that one of them asks for.
    """
    for factor, tau in sorted(taus.items(), reverse=True):
        side = factor * patch
        if any(length % side for length in change.shape[-2:]):
            continue
        found = deviations(change.float(), side)
        if (found.quantile(rho, 1, interpolation="higher") < tau).all():
            return factor
    return 1


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


class Patches(nn.Linear):
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


class Coarse(nn.Module):
    """What a model needs to work on patches `factor` times as large: layers that embed them and take
    them apart, a way past the blocks, and a LoRA on every block's feed-forward [paper].

    The paper's learnt vector for the size is the embedding's bias here. The way past the blocks knows
    t and what the blocks made of the token (ours), and lets the fine part of z_t straight on, as much
    as t says: a coarse token is too narrow for the noise of all its cells, which is most of the
    velocity and which z_t shows.
    """

    def __init__(self, model: nn.Module, family: Family, factor: int, rank: int = RANK) -> None:
        super().__init__()
        self.factor = factor
        embed, head = (model.get_submodule(name) for name in family.patches)
        width, num = len(embed.weight), len(head.weight) * factor**2  # numbers a token
        told = min(width, TOLD)
        self.embed, self.head = Patches(num, width), Patches(width, num + told)
        self.straight, inside = nn.Linear(2 * WAVES, num), num + told + 2 * WAVES
        self.past = nn.ModuleList([nn.Linear(inside, 2 * told), nn.Linear(2 * told, num)])
        nn.init.zeros_(self.past[1].weight)
        nn.init.zeros_(self.past[1].bias)
        self.register_buffer("fine", fine_part(factor, family.patch), persistent=False)
        self.lora = nn.ModuleDict(
            {name.replace(".", "/"): LowRank(of, rank) for name, of in feed_forward(model, family)}
        )
        if not embed.weight.is_meta:
            self._resize(embed, head, family.patch)
            self._let_on()

    @torch.no_grad()
    def _resize(self, embed: nn.Module, head: nn.Module, patch: int) -> None:
        """Begin as the model's own layers: the embedding gives for a patch that is interpolated what
        they give for the patch (FlexiViT's pseudo-inverse); what they make of a token is
        interpolated. The rest of the head tells the way past the blocks about the token."""
        larger, order = upsampling(self.factor, patch), _order(self.factor, patch)
        inverse = torch.linalg.pinv(larger.mT)  # (larger patch's cells, patch's)
        weight = embed.weight.float().flatten(1).unflatten(1, (-1, patch**2))  # (D, C, cells)
        self.embed.weight.copy_((weight @ inverse.mT)[..., order].flatten(1))
        weight = head.weight.float().unflatten(0, (-1, patch**2))  # (C, cells, D)
        num = len(head.weight) * self.factor**2
        self.head.weight[:num] = (larger @ weight)[:, order].flatten(0, 1)
        nn.init.normal_(self.head.weight[num:], std=weight.shape[2] ** -0.5)
        nn.init.zeros_(self.embed.bias)
        nn.init.zeros_(self.head.bias)
        if embed.bias is not None:
            self.embed.bias.copy_(embed.bias)
        if head.bias is not None:
            bias = head.bias.float().unflatten(0, (-1, patch**2))
            self.head.bias[:num] = (bias @ larger.mT)[:, order].flatten()

    @torch.no_grad()
    def _let_on(self) -> None:
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
        first, second = self.past
        past = _linear(second, gelu(_linear(first, torch.cat([z, given[..., num:], known], -1))))
        fine = (z.unflatten(-1, (-1, len(self.fine))) @ self.fine.to(z)).flatten(-2)
        found = given[..., :num] + past + _linear(self.straight, known) * fine
        return found.movedim(-1, axis)


def feed_forward(model: nn.Module, family: Family) -> list[tuple[str, nn.Linear]]:
    """(name, linear) of every block's feed-forward; of all that a LoRA adapts in a block whose
    feed-forward has no linears of its own. Where a LoRA is, the linear that it is beside."""
    found = []
    for name, block in family.blocks(model):
        every = family.lora_targets(block, "attention+ff")
        attention = family.lora_targets(block, "attention")
        for inside in [one for one in every if one not in attention] or every:
            of = block.get_submodule(inside)
            found.append((f"{name}.{inside}", getattr(of, "base_layer", of)))
    return found


@dataclass(frozen=True)
class _Pass:
    """A forward of the last step: its arguments, t, factor and velocity. missed: what is added to
    coarse velocities; beside a fine one: what was added before it. Tensors of the picture's size wait
    in RAM."""

    given: dict
    time: float
    factor: int
    velocity: Tensor
    missed: Tensor | None


class Dynamic:
    """A model that chooses the size of its patches in every step of sampling.

    What larger patches miss is carried on (ours): the first coarse step also asks for the coarse
    velocity of the step before, and the difference from what that step had is added from there on.
    It changes slowly; every `hold` steps a fine one finds it anew.

    adapters: by factor. Make it before anything stands in the places of blocks. taus, rho: see
    `choose`; of the adapters' factors or fewer. cache: a step cache that works at the same time.
    factors: those of the steps so far; a schedule that is set (`fixed`) is followed instead of
    chosen, for measurements.
    """

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        adapters: dict[int, Coarse],
        taus: Mapping[int, float],
        rho: float = RHO,
        hold: int = HOLD,
    ) -> None:
        self.model, self.family, self.adapters = model, family, adapters
        self.taus, self.rho, self.hold = taus, rho, hold
        self.cache: Cache | None = None
        self.fixed: Sequence[int] = ()
        self.linears = dict(feed_forward(model, family))
        self.forget()

    def forget(self) -> None:
        """Another sampling begins."""
        self.first, self.now, self.call, self.resume = 1.0, None, 0, 0
        self.times, self.velocities, self.factors = [], [], []
        self.before: dict[int, _Pass] = {}  # by call: guidance may need two a step

    @contextmanager
    def working(self, cache: Cache | None = None) -> Iterator[None]:
        """Inside, the model works so."""
        self.cache = cache
        own, plain = vars(self.model).get("forward"), self.model.forward

        def forward(*given: object, **named: object) -> object:
            names = list(inspect.signature(type(self.model).forward).parameters)[1:]
            return self.forward(plain, dict(zip(names, given, strict=False)) | named)

        self.forget()
        self.model.forward = forward
        try:
            yield
        finally:
            self.before, self.velocities = {}, []  # `factors` is looked at
            del self.model.forward
            if own is not None:
                self.model.forward = own

    def forward(self, plain: Callable[..., object], given: dict) -> object:
        """A forward of the library's, with patches of the size that the step needs. given: its
        arguments."""
        time = float(given["timestep"].flatten()[0])
        if self.now is None or time > self.now:
            self.forget()
            self.first = time
        anew, self.now = time != self.now, time
        time /= self.first
        if anew:
            self._step()
        self.call = 0 if anew else self.call + 1
        factor, before, missed = self.factors[-1], self.before.get(self.call), None
        if factor == 1:
            output = plain(**given)
            velocity = self.family.velocity(output).float().cpu()
            if self.resume:
                missed = before.missed
        else:
            missed = self._missed(plain, given, before, factor)
            coarse = self.coarse(plain, given, time, factor)
            velocity = coarse.float().cpu() + missed
            output = (velocity.to(coarse),)
        waiting = given | {self.family.latents: given[self.family.latents].cpu()}
        self.before[self.call] = _Pass(waiting, time, factor, velocity, missed)
        if anew:
            self.times = [*self.times[-2:], time]
            self.velocities = [*self.velocities[-2:], velocity]
        return output

    def _step(self) -> None:
        """The size of a step that begins; the first three are fine."""
        last = self.factors[-1] if self.factors else 1
        if self.fixed:
            factor = self.fixed[len(self.factors)]
        elif self.resume:
            factor, self.resume = self.resume, 0
        elif len(self.velocities) < 3:
            factor = 1
        else:
            change, patch = third_difference(self.times, self.velocities), self.family.patch
            factor = choose(cells(change, patch), patch, self.taus, self.rho)
            if factor > 1 and min(self.factors[-self.hold :]) > 1:
                factor, self.resume = 1, factor
        if self.cache and factor != last:
            self.cache.reset()
        self.factors.append(factor)

    def _missed(
        self, plain: Callable[..., object], given: dict, before: _Pass, factor: int
    ) -> Tensor:
        """What coarse velocities of this size miss, as it was in the step before."""
        if before.factor == factor:
            return before.missed
        name = self.family.latents
        was = before.given | {name: before.given[name].to(given[name].device)}
        found = before.velocity - self.coarse(plain, was, before.time, factor).float().cpu()
        if self.cache:
            self.cache.again()
        if before.missed is not None and before.factor == 1 and self.call == 0:
            # so that the velocities before the fine one go on without a jump
            moved = [one + found - before.missed for one in self.velocities[:-1]]
            self.velocities = [*moved, self.velocities[-1]]
        return found

    def coarse(self, plain: Callable[..., object], given: dict, time: float, factor: int) -> Tensor:
        """Velocity, shaped as the latents in `given`, of a pass over larger patches at t = time."""
        adapter = self.adapters[factor]
        with attached(self.model, self.family, adapter, self.linears):
            times = torch.full((len(given[self.family.latents]),), time)
            return velocity(self.family, adapter, plain, given, times)


@contextmanager
def attached(
    model: nn.Module, family: Family, adapter: Coarse, linears: dict[str, nn.Linear]
) -> Iterator[None]:
    """Inside, the model works on larger patches: an adapter's layers stand in their places, its LoRA
    beside the linears (`feed_forward`), whatever stands in the places of their blocks."""
    with ExitStack() as stack:
        new = {}
        for name, layer in zip(family.patches, (adapter.embed, adapter.head), strict=True):
            old = model.get_submodule(name)
            # where the one works whose place it takes
            new[name] = (
                Apart(layer, old.micro_batch, old.device) if isinstance(old, Apart) else layer
            )
        stack.enter_context(replaced(model, new))
        for name, lora in adapter.lora.items():
            hook = linears[name.replace("/", ".")].register_forward_hook(
                lambda _, inputs, output, lora=lora: output + lora(inputs[0])
            )
            stack.callback(hook.remove)
        yield


def velocity(
    family: Family, adapter: Coarse, plain: Callable[..., object], given: dict, times: Tensor
) -> Tensor:
    """Velocity, shaped as the latents in `given`, of a model that an adapter is `attached` to. plain:
    its forward. times: (B,) in [0, 1]."""
    merged = family.merged(given, adapter.factor)
    latents, output = merged[family.latents], family.velocity(plain(**merged))
    return split(adapter.velocity(latents, output, times.to(latents.device)), adapter.factor)


def rank_for(model: nn.Module, family: Family) -> int:
    """The rank of an adapter's LoRA."""
    return min(RANK, max(4, len(model.get_submodule(family.patches[0]).weight) // 16))


def adapter_file(model: str) -> Path:
    """Where runs look for a model's adapters; of the demo model they are shipped."""
    if model == "demo":
        return config.ASSETS / "demo-ddit.safetensors"
    return data_dir() / "ddit" / f"{model}.safetensors"


def save(path: Path, adapters: dict[int, Coarse], facts: dict) -> None:
    """Adapters in a file of their own, in half precision; facts: JSON-ready, beside them."""
    tensors = {
        f"{factor}.{name}": tensor.detach().half().contiguous()
        for factor, adapter in adapters.items()
        for name, tensor in adapter.state_dict().items()
    }
    rank = next(iter(next(iter(adapters.values())).lora.values())).down.shape[0]
    files.save_tensors(path, tensors, {"ddit": json.dumps(facts | {"rank": rank})})


def load(path: Path, model: nn.Module, family: Family) -> tuple[dict[int, Coarse], dict]:
    """Adapters by factor, and the facts beside them. Raises UserError when the file is another
    model's, or none of ours."""
    wrong = UserError(
        f"{path.name} holds no patch schedule for this model.",
        f"Make one: {command('lab distil')}",
    )
    facts = json.loads(files.read_metadata(path).get("ddit", "{}"))
    if not facts:
        raise wrong
    tensors, adapters = load_file(path), {}
    for factor in sorted({int(name.split(".")[0]) for name in tensors}, reverse=True):
        adapters[factor] = Coarse(model, family, factor, facts["rank"])
        own = {
            name.removeprefix(f"{factor}."): tensor.float()
            for name, tensor in tensors.items()
            if name.startswith(f"{factor}.")
        }
        try:
            adapters[factor].load_state_dict(own)
        except RuntimeError as error:
            raise wrong from error
        adapters[factor].requires_grad_(False)
    return adapters, facts
