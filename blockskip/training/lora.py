"""The LoRA on the middle: made by peft, kept in fp32, saved and restored in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from blockskip.memory.placement import placeholder_weights
from blockskip.models.families.base import Family
from blockskip.training.residuals import Span

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from peft.tuners.lora import LoraLayer


def add_lora(
    model: ModelMixin, family: Family, span: Span, rank: int, targets: str, seed: int
) -> dict[str, nn.Parameter]:
    """Give the middle a LoRA (alpha = rank, B = 0) through peft.

    Its parameters are fp32 whatever the model is, and are used in the type of their input.
    Returns them under the full model's names, `transformer.<linear>.lora_A.weight` (r, in) and
    `….lora_B.weight` (out, r).
    """
    from peft import LoraConfig

    blocks = family.blocks(model)
    names = [
        f"{name}.{linear}"
        for name, block in (blocks[i] for i in span.middle(len(blocks)))
        for linear in family.lora_targets(block, targets)
    ]
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


class _CastLinear(nn.Linear):
    """A LoRA matrix kept in fp32 and rounded to its input's type when used.

    peft instead widens the input to fp32 and keeps a copy of it for each of q, k, v: at FLUX's size
    4 GiB of the card. Rounding the small matrix costs nothing; in fp32 both are the same bytes.
    """

    def __init__(self, matrix: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = matrix.in_features, matrix.out_features
        self.weight = nn.Parameter(matrix.weight.detach().float())
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype))


def _keep_in_fp32(layer: LoraLayer) -> None:
    """The LoRA of a peft layer in fp32 (AdamW's small steps vanish in bf16), used as _CastLinear."""
    layer.cast_input_dtype_enabled = False
    for part in (layer.lora_A, layer.lora_B):
        for name, matrix in part.items():
            part[name] = _CastLinear(matrix)


def snapshot(lora: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """A copy of the LoRA's tensors, on the CPU: the card has none to spare."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in lora.items()}


@torch.no_grad()
def restore(lora: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    """Set the LoRA's tensors in place. Raises KeyError when names differ."""
    if lora.keys() != state.keys():
        raise KeyError(f"LoRA names differ: {sorted(lora.keys() ^ state.keys())[:3]}")
    for name, parameter in lora.items():
        parameter.copy_(state[name])
