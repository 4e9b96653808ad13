"""The members that families with a diffusers pipeline (one folder per part) have in common.

A subclass names the diffusers and transformers classes and the layers of its blocks, and overrides
the members that differ.
"""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from blockskip.core.errors import BadFile
from blockskip.models.families.base import Config, Family, Sampling, Text
from blockskip.models.families.patches import mean_positions, merge
from blockskip.models.sources import Source, data_only
from blockskip.models.sources.assembly import assemble
from blockskip.models.sources.empty_model import build_empty, new_part
from blockskip.models.sources.layouts import read_index
from blockskip.models.sources.part_checks import load_part, without_unused
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.vocabularies import load_tokenizer

# linears of blocks with joint attention of text and image
JOINT_ATTENTION = (
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
)
_SAMPLING_PARTS = ("transformer", "vae")  # enough once captions are encoded


class DiffusersFamily(Family):
    """A family with a diffusers pipeline; models/families/base.py documents the other members.

    pipeline, transformer: diffusers classes. encoder: class of the text encoder in
    `streamed_parts`. stacks: names of the transformer's lists of blocks, in order. patch_modules: a
    model with positions of image tokens takes them as `img_ids`. attention, feed_forward: linears
    of a block; a block without some of them adapts the others.
    """

    pipeline: type[DiffusionPipeline]
    transformer: type[ModelMixin]
    encoder: type[PreTrainedModel]
    stacks: tuple[str, ...] = ("transformer_blocks",)
    patch_size = 2
    attention: tuple[str, ...] = JOINT_ATTENTION
    feed_forward: tuple[str, ...]

    patch_modules: tuple[str, str] | None = None
    latents_arg = "hidden_states"
    pixel_multiple = 16
    text_cross_attention = False
    # all names that double blocks have for them; other names mean nothing to a block
    text_outputs: tuple[str, ...] = (
        *("attn.add_q_proj", "attn.to_add_out"),
        *("ff_context.net.0.proj", "ff_context.net.2"),
        *("ff_context.linear_in", "ff_context.linear_out"),
        *("txt_mlp.net.0.proj", "txt_mlp.net.2"),
    )
    shared_modulation: tuple[str, ...] = ()
    caption_modules: tuple[str, ...] = ()
    streamed_parts = ("transformer", "text_encoder")

    def load(self, source: Source | Path, dtype: torch.dtype) -> DiffusionPipeline:
        if isinstance(source, Source) and not source.is_folder:
            return self._assemble(source, dtype, {})
        folder = source.folder if isinstance(source, Source) else source
        data_only.check_folder(folder)
        with loading_errors(folder):
            parts = self.own_parts(partial(_tokenizer, folder))
            pipe = self.pipeline.from_pretrained(folder, dtype=dtype, **data_only.WEIGHTS, **parts)
        return self.prepare(pipe)

    def open(self, source: Source, dtype: torch.dtype) -> DiffusionPipeline:
        transformer, encoder = self.streamed_parts
        data_only.check_folder(source.folder)
        with loading_errors(source.folder):
            text = self.encoder.config_class.from_pretrained(source.folder / encoder)
            parts: dict[str, object] = {
                transformer: self._empty_transformer(source.folder / transformer, dtype),
                encoder: build_empty(lambda: self.encoder(text), dtype),
            }
            if not source.is_folder:
                parts[encoder] = without_unused(parts[encoder])
                return self._assemble(source, dtype, parts)
            parts |= _scaled_parts(source, parts, dtype)
            parts |= self.own_parts(partial(_tokenizer, source.folder))
            pipe = self.pipeline.from_pretrained(
                source.folder, dtype=dtype, **data_only.WEIGHTS, **parts
            )
        return self.prepare(pipe)

    def _assemble(
        self, source: Source, dtype: torch.dtype, given: Mapping[str, object]
    ) -> DiffusionPipeline:
        """Build the pipeline of a model in single files. given: parts that are built already."""
        own = self.own_parts(partial(load_tokenizer, source))
        parts = assemble(source, dtype, own | dict(given))
        options = self._options(read_index(source.folder), parts)
        return self.prepare(self.pipeline(**parts, **options))

    def own_parts(self, tokenizer: Callable[[str], PreTrainedTokenizerBase]) -> dict[str, object]:
        """Return the parts without weights that the library's classes cannot load, by name.
        tokenizer(part): loads the one among the model's files for that part."""
        return {}

    def with_sibling(
        self, pipe: DiffusionPipeline, source: Source, dtype: torch.dtype
    ) -> DiffusionPipeline:
        folder = source.folder
        with loading_errors(folder):
            transformer = self._empty_transformer(folder / "transformer", dtype)
            scheduler = pipe.scheduler
            if (folder / "scheduler").exists():  # modular repositories have none
                scheduler = type(scheduler).from_pretrained(folder / "scheduler")
        parts = pipe.components | {"transformer": transformer, "scheduler": scheduler}
        return self.prepare(self.pipeline(**parts, **self._options(read_index(folder), parts)))

    def with_shift(self, pipe: DiffusionPipeline, shift: float) -> DiffusionPipeline:
        # a scheduler has either the shift or a line of its logarithm
        mu = math.log(shift)
        fixed = {"shift": shift, "base_shift": mu, "max_shift": mu, "shift_terminal": None}
        known = {name: value for name, value in fixed.items() if name in pipe.scheduler.config}
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **known)
        parts = pipe.components | {"scheduler": scheduler}
        return self.prepare(self.pipeline(**parts, **self._options(pipe.config, parts)))

    def _options(self, config: Config, parts: Collection[str]) -> dict[str, Any]:
        """Return the values of a pipeline's configuration that are not its parts."""
        accepted = inspect.signature(self.pipeline.__init__).parameters.keys() - parts
        return {name: config[name] for name in accepted & config.keys()}

    def _empty_transformer(self, folder: Path, dtype: torch.dtype) -> ModelMixin:
        config = self.transformer.load_config(folder)
        return build_empty(lambda: self.transformer.from_config(config), dtype)

    def prepare(self, pipe: DiffusionPipeline) -> DiffusionPipeline:
        """Freeze and `adapt` the pipeline, and set `pixel_multiple` from its VAE. Return the
        pipeline."""
        self.adapt(pipe.transformer)
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.pixel_multiple = pipe.vae_scale_factor * self.patch_size * self.side_tokens
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def adapt(self, transformer: nn.Module) -> None:
        """Leave the transformer as it is."""

    def text_encoders(self, pipe: DiffusionPipeline) -> list[PreTrainedModel]:
        return [pipe.text_encoder]

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        return [
            (f"{stack}.{i}", block)
            for stack in self.stacks
            for i, block in enumerate(getattr(transformer, stack))
        ]

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ()

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        feed_forward = () if targets == "attention" else self.feed_forward
        return existing_modules(block, self.attention + feed_forward)

    def encode_images(self, pipe: DiffusionPipeline, pixels: Tensor) -> Tensor:
        """Return latents (B, C, H, W), not packed."""
        config = pipe.vae.config
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent_dist.mode()
        return (latent - config.shift_factor) * config.scaling_factor

    def merge_patches(self, forward_kwargs: dict, factor: int) -> dict:
        merged = {self.latents_arg: merge(forward_kwargs[self.latents_arg], factor)}
        if "img_ids" in forward_kwargs:
            merged["img_ids"] = mean_positions(forward_kwargs["img_ids"], factor)
        return forward_kwargs | merged

    def velocity(self, output: tuple) -> Tensor:
        return output[0]

    @abstractmethod
    def sampling_kwargs(
        self, pipe: DiffusionPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        """Return the pipeline call's arguments for `text`, except size, steps and generators."""

    def sampler(self, pipe: DiffusionPipeline, device: torch.device) -> DiffusionPipeline:
        """Return `pipe` without its text encoders, in its configuration.

        `_execution_device` is overridden because the pipeline derives it from the weights, which
        may be on another device.
        """
        overrides = {"_execution_device": property(lambda _: device)}
        parts = {
            name: part if name in _SAMPLING_PARTS or not isinstance(part, nn.Module) else None
            for name, part in pipe.components.items()
        }
        options = self._options(pipe.config, parts)
        sampler = type(self.pipeline.__name__, (self.pipeline,), overrides)(**parts, **options)
        sampler.set_progress_bar_config(disable=True)
        return sampler

    def sample(
        self,
        pipe: DiffusionPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        """Sample with the diffusers pipeline on the device of `text`."""
        return self.sampler(pipe, text.embeds.device)(
            height=sampling.side_px,
            width=sampling.side_px,
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **self.sampling_kwargs(pipe, text, negative, sampling.guidance),
        ).images


def _tokenizer(folder: Path, part: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer in diffusers' layout."""
    return AutoTokenizer.from_pretrained(folder / part, **data_only.TEXTS)


@contextmanager
def loading_errors(folder: Path) -> Iterator[None]:
    """Context manager that raises BadFile for what diffusers and transformers raise about a model
    folder that is not complete, not consistent or of another kind."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise _bad_folder(folder, error) from error
    except OSError as error:
        if error.errno is not None:  # of the system, not of the libraries
            raise
        raise _bad_folder(folder, error) from error
    except RuntimeError as error:
        if "size mismatch" not in str(error) and "Error(s) in loading" not in str(error):
            raise
        raise _bad_folder(folder, error) from error


def _bad_folder(folder: Path, error: Exception) -> BadFile:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return BadFile(
        f"{folder} cannot be loaded: {reason.rstrip('.')}.",
        "The model is not complete, or another kind; fetch it again.",
    )


def _scaled_parts(
    source: Source, empty: Collection[str], dtype: torch.dtype
) -> dict[str, nn.Module]:
    """Load the parts with scaled weights, which the libraries would take without their scales.
    empty: the parts that are loaded later."""
    parts: dict[str, nn.Module] = {}
    for part in set(source.row.parts) - set(empty):
        if any(weight.scale for weight in source.weights(part).values()):
            parts[part] = build_empty(partial(new_part, source.folder, part), dtype)
            load_part(source, part, parts[part], Reader())
    return parts


def existing_modules(block: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that exist as modules inside the block."""
    existing = {name for name, _ in block.named_modules()}
    return tuple(name for name in names if name in existing)
