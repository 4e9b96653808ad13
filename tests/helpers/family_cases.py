"""Every family's tiny random transformer and draws, of uneven sizes, for the properties of
docs/method.md §1.5. A new family adds one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from blockskip.models.families.base import Family, Text, get_family
from blockskip.models.families.caption_modules import set_aside
from blockskip.training.residuals import WindowInputs


@dataclass(frozen=True)
class Case:
    """A family's test case. build: returns the transformer. latent: shape of one draw's latents.
    text: width of embeddings. pooled_or_mask(num, tokens): the second part of the text."""

    name: str
    build: Callable[[], nn.Module]
    latent: tuple[int, ...]
    text: int
    pooled_or_mask: Callable[[int, int], torch.Tensor]
    side_px: int = 48
    tokens: int = 7

    @property
    def family(self) -> Family:
        return get_family(self.name)

    def whole_model(self, adapted: bool = True) -> nn.Module:
        """Return the library's model, with its caption modules. adapted: as the family runs it."""
        torch.manual_seed(0)
        model = self.build().requires_grad_(False).eval()
        if adapted:
            self.family.adapt(model)
        with torch.no_grad():  # what the libraries begin with zeros must not hide anything
            for parameter in model.parameters():
                if not parameter.abs().max() > 0:
                    parameter.normal_(std=0.1)
        return model

    def model(self) -> nn.Module:
        """Return the model as it runs on captions that were read already."""
        model = self.whole_model()
        set_aside(model, self.family)
        return model

    def draws(self, num: int = 5, seed: int = 1) -> WindowInputs:
        torch.manual_seed(seed)
        return WindowInputs(
            torch.randn(num, *self.latent),
            Text(torch.randn(num, self.tokens, self.text), self.pooled_or_mask(num, self.tokens)),
            torch.rand(num),
            self.side_px,
        )


def _flux() -> nn.Module:
    from helpers.tiny import tiny_flux

    return tiny_flux()


def _sana() -> nn.Module:
    from diffusers import SanaTransformer2DModel

    return SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=3,
        attention_head_dim=8,
        num_layers=6,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=20,
        sample_size=3,
        interpolation_scale=None,
    )


def _z_image() -> nn.Module:
    from diffusers import ZImageTransformer2DModel

    return ZImageTransformer2DModel(
        in_channels=3,
        dim=48,
        n_layers=6,
        n_refiner_layers=2,
        n_heads=3,
        n_kv_heads=3,
        cap_feat_dim=20,
        axes_dims=[4, 6, 6],
        axes_lens=[128, 16, 16],
    )


def _qwen_image() -> nn.Module:
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel(
        in_channels=12,
        out_channels=3,
        num_layers=6,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=20,
        axes_dims_rope=(4, 6, 6),
    )


def _qwen_image21() -> nn.Module:
    from diffusers import QwenImage21Transformer2DModel

    return QwenImage21Transformer2DModel(
        in_channels=6,
        out_channels=6,
        num_layers=6,
        attention_head_dim=16,
        num_attention_heads=3,
        context_in_dim=20,
        axes_dims_rope=(4, 6, 6),
    )


def _sd3() -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        attention_head_dim=8,
        num_attention_heads=3,
        joint_attention_dim=20,
        caption_projection_dim=24,
        pooled_projection_dim=10,
        pos_embed_max_size=9,
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
    )


def _flux2() -> nn.Module:
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=12,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=30,
        timestep_guidance_channels=18,
        mlp_ratio=2.5,
        axes_dims_rope=(2, 4, 4, 6),
        guidance_embeds=False,
    )


def _flux3() -> nn.Module:
    from diffusers import Flux3Transformer2DModel

    model = Flux3Transformer2DModel(
        in_channels=12,
        cond_in_channels=4,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=40,
        timestep_channels=18,
        mlp_ratio=2.5,
        axes_dims_rope=(2, 4, 4, 6),
    )
    for name in ("early_stream_modulations", "single_stream_modulations"):
        for modulation in model.get_submodule(name).values():
            modulation.linear.weight.data.mul_(10)  # so that blocks do something
    return model


def _chroma() -> nn.Module:
    from diffusers import ChromaTransformer2DModel

    return ChromaTransformer2DModel(
        in_channels=12,
        num_layers=3,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=20,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8,
        approximator_hidden_dim=10,
        approximator_layers=2,
    )


def _krea2() -> nn.Module:
    from diffusers import Krea2Transformer2DModel

    return Krea2Transformer2DModel(
        in_channels=12,
        num_layers=6,
        attention_head_dim=16,
        num_attention_heads=6,
        num_key_value_heads=3,
        intermediate_size=56,
        timestep_embed_dim=20,
        text_hidden_dim=20,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=28,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=2,
        axes_dims_rope=(4, 6, 6),
    )


def _nothing(num: int, tokens: int) -> torch.Tensor:
    return torch.empty(num, 0)


def _pooled(num: int, tokens: int) -> torch.Tensor:
    return torch.randn(num, 10)


def _mask(num: int, tokens: int) -> torch.Tensor:
    """Return a mask for captions of different lengths."""
    return (torch.arange(tokens) < torch.randint(2, tokens + 1, (num, 1))).float()


CASES = {
    case.name: case
    for case in (
        Case("flux", _flux, (9, 12), 20, _pooled),
        Case("sana", _sana, (4, 3, 3), 20, _mask, side_px=96),
        Case("sd3", _sd3, (4, 6, 6), 20, _pooled),
        Case("flux2", _flux2, (9, 12), 30, _nothing),
        Case("flux3", _flux3, (9, 12), 40, _mask),
        Case("chroma", _chroma, (9, 12), 20, _mask),
        # captions of up to 32 tokens are padded to 32, longer ones to 64
        Case("z_image", _z_image, (9, 12), 20, _mask, tokens=45),
        Case("qwen_image", _qwen_image, (9, 12), 20, _mask),
        Case("krea2", _krea2, (9, 12), 20, _mask),
        Case("qwen_image21", _qwen_image21, (16, 6), 20, _mask, side_px=64),
    )
}
