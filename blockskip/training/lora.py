"""The LoRA on the middle blocks: created by peft, kept in fp32, saved and restored in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from blockskip.core.settings import Settings
from blockskip.memory.placement import placeholder_weights
from blockskip.models.families.base import Family
from blockskip.training.residuals import Span

Lora = dict[str, nn.Parameter]  # as `add_lora` returns it

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from peft.tuners.lora import LoraLayer


def lora_layers(model: nn.Module, family: Family, span: Span, targets: str) -> list[str]:
    """Return the names of the linears that a LoRA on the middle adapts.

    After the middle only its image stream is read. What the last block of it computes for the text
    alone gets no gradient, and no LoRA.
    """
    blocks = family.blocks(model)
    middle = span.middle(len(blocks))
    return [
        f"{blocks[i][0]}.{linear}"
        for i in middle
        for linear in family.lora_targets(blocks[i][1], targets)
        if i != middle[-1] or linear not in family.text_outputs
    ]


def add_lora(
    model: ModelMixin, family: Family, span: Span, rank: int, targets: str, seed: int
) -> Lora:
    """Add a LoRA (alpha = rank, B = 0) to the middle with peft, and return its parameters.

    The parameters are fp32 whatever the model's dtype, and are cast to their input's dtype when
    used. They carry the full model's names, `transformer.<linear>.lora_A.weight` (r, in) and
    `….lora_B.weight` (out, r).
    """
    from peft import LoraConfig

    names = lora_layers(model, family, span, targets)
    with torch.random.fork_rng(devices=[]), placeholder_weights(model):
        torch.manual_seed(seed)
        model.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=names, init_lora_weights=True)
        )
    for name in names:
        _keep_in_fp32(model.get_submodule(name))
    return {
        f"transformer.{name.replace('.default', '')}": parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def share_lora(model: ModelMixin, family: Family, settings: Settings, lora: Lora) -> None:
    """Add `lora`, of a model with the same blocks, to `model`: its parameters, not copies."""
    span = Span(settings.plan.front, settings.plan.back)
    own = add_lora(model, family, span, settings.rank, settings.targets, settings.seed)
    shared = {id(parameter): lora[name] for name, parameter in own.items()}
    for layer in [m for m in model.modules() if isinstance(m, _CastLinear)]:
        layer.weight = shared[id(layer.weight)]


class _CastLinear(nn.Linear):
    """A LoRA matrix kept in fp32 and cast to its input's dtype when used.

    peft instead casts the input to fp32 and keeps one copy each for q, k and v, which takes 4 GiB
    of VRAM at FLUX's size. Casting the small matrix costs nothing. In fp32 both are bit-equal.
    """

    def __init__(self, matrix: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = matrix.in_features, matrix.out_features
        self.weight = nn.Parameter(matrix.weight.detach().float())
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype))


class _AddedInProduct:
    """peft's hook for another forward (its LoraVariant). The product with B adds the layer's output
    and scales, where peft multiplies and adds afterwards, over whole activations, forward and
    backward. Equal but for rounding."""

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: Tensor, result: Tensor, **_: object
    ) -> Tensor:
        down, up = (part[active_adapter] for part in (module.lora_A, module.lora_B))
        added = torch.addmm(
            result.flatten(0, -2),
            down(x).flatten(0, -2),
            up.weight.to(x.dtype).mT,
            alpha=module.scaling[active_adapter],
        )
        return added.view_as(result)


def _keep_in_fp32(layer: LoraLayer) -> None:
    """Convert a peft layer's LoRA to fp32 `_CastLinear`s. AdamW's small steps vanish in bf16."""
    layer.cast_input_dtype_enabled = False
    layer.lora_variant = dict.fromkeys(layer.lora_A, _AddedInProduct)
    for part in (layer.lora_A, layer.lora_B):
        for name, matrix in part.items():
            part[name] = _CastLinear(matrix)


def snapshot(lora: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copy the LoRA's tensors to the CPU, which spares VRAM."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in lora.items()}


@torch.no_grad()
def restore(lora: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    """Set the LoRA's tensors in place. Raises KeyError if names differ.

    `state` may also have layers that have learnt nothing (B = 0): earlier versions adapted layers
    that get no gradient (`lora_layers`).
    """
    extra = state.keys() - lora.keys()
    learnt = {n for n in extra if state.get(n.replace(".lora_A.", ".lora_B."), state[n]).any()}
    if others := lora.keys() - state.keys() | learnt:
        raise KeyError(f"LoRA names differ: {sorted(others)[:3]}")
    for name, parameter in lora.items():
        parameter.copy_(state[name])
