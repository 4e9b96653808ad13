"""Models of a row at their full size as meta tensors, and streaming as a meter sees it (ours).

The configurations are the published ones of FLUX.1-dev's parts; the classes are the libraries' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from blockskip.config import ModelRow
from blockskip.lab.peak import PeakMeter, quantise
from blockskip.lab.random_checkpoint import T5_XXL

CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
TILE_PX = 512  # side of a VAE tile; FLUX's own is 1024, which would never tile a preview


def build_transformer(row: ModelRow, precision: str) -> nn.Module:
    """The transformer of a row with the library's own configuration, frozen and quantised.

    precision: bf16 | int8 | nf4, of the blocks; what stands around them stays bf16.
    """
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        num_layers=row.blocks[0],
        num_single_layers=row.blocks[1],
        num_attention_heads=row.width // 128,
        guidance_embeds=row.guidance_embedding,
    )
    model.requires_grad_(False).eval()
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        quantise(block, precision)
    return model


def build_vae(tiled: bool) -> nn.Module:
    """FLUX's VAE: eight pixels a latent cell, 16 channels."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    vae.requires_grad_(False).eval()
    vae.use_tiling = tiled
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE_PX, TILE_PX // 8
    return vae


def build_encoders() -> tuple[nn.Module, nn.Module]:
    """(CLIP-L, T5-XXL)."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip = CLIPTextModel(CLIPTextConfig(**CLIP_L))
    t5 = T5EncoderModel(T5Config(**T5_XXL))
    return clip.requires_grad_(False).eval(), t5.requires_grad_(False).eval()


def weights(*modules: nn.Module) -> list[Tensor]:
    """All parameters and buffers of modules."""
    return [t for module in modules for t in (*module.parameters(), *module.buffers())]


class Streamed:
    """Blocks of which the one that computes and the next one are on the card, no more.

    It follows the order blocks are entered in, so in a checkpointed backward pass, which enters
    them from the last to the first, the next is the one before. stay: what never leaves.
    """

    def __init__(
        self, meter: PeakMeter, blocks: Sequence[nn.Module], stay: Iterable[Tensor] = ()
    ) -> None:
        self.meter, self.stay = meter, list(stay)  # kept alive here: what dies is not counted
        kept = {id(tensor) for tensor in self.stay}
        self.parts = [[t for t in weights(block) if id(t) not in kept] for block in blocks]
        self.here: set[int] = set()
        self.last = -1
        meter.hold(self.stay)
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(lambda *_, i=index: self._enter(i))

    def _enter(self, index: int) -> None:
        following = index + (1 if index > self.last else -1)
        wanted = {i for i in (index, following) if 0 <= i < len(self.parts)}
        self._drop(self.here - wanted)
        for i in wanted:
            self.meter.hold(self.parts[i])
        self.here, self.last = wanted, index

    def leave(self) -> None:
        """All but what stays leaves the card."""
        self._drop(self.here)
        self.here = set()

    def _drop(self, indices: Iterable[int]) -> None:
        for i in indices:
            self.meter.drop(self.parts[i])
