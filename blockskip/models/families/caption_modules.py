"""Modules of a transformer that see the caption alone (`Family.caption_modules`).

They belong to reading a caption. training/encode.py runs them once a caption, so `Text.embeds` is
their output. In the transformer something without weights stands for them, which passes it on: they
are not on the device while the blocks run, and no LoRA adapts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from blockskip.models.families.base import Family


class _AlreadyRead(nn.Module):
    """Stands for a caption module, and passes on what that made of the captions, (B, S, D). A
    library that demands more axes is given some of size 1, which are dropped here."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = (module,)  # in a tuple: no submodule

    def forward(self, embeds: Tensor, *_: object, **__: object) -> Tensor:
        return embeds.flatten(2)


def caption_modules(model: nn.Module, family: Family) -> dict[str, nn.Module]:
    """Return a transformer's caption modules by name, also those that were set aside."""
    found = {name: model.get_submodule(name) for name in family.caption_modules}
    return {
        name: module._module[0] if isinstance(module, _AlreadyRead) else module
        for name, module in found.items()
    }


def set_aside(model: nn.Module, family: Family) -> None:
    """Take the caption modules out of a transformer, whose forward then expects their output."""
    for name, module in caption_modules(model, family).items():
        model.set_submodule(name, _AlreadyRead(module))
