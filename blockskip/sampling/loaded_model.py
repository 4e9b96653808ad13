"""An open model, shared by training, previews, image requests and measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from diffusers import DiffusionPipeline, ModelMixin
from PIL import Image
from torch import Tensor, nn

from blockskip.core import presets
from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.data.photos import Photo
from blockskip.data.schedule import Draw
from blockskip.memory import int8_products
from blockskip.memory.attention import choose_kernels, math_kernel_warning
from blockskip.memory.compiled_blocks import CompiledBlocks, not_compiled, unusable_compiler
from blockskip.memory.open_model import keep_in_ram, open_model, open_sibling, quantised_folder
from blockskip.memory.placement import move_trainable, on_device, pick_device
from blockskip.memory.planning.measured_speed import compiling_pays
from blockskip.memory.vram_cap import limit_vram
from blockskip.models import sources
from blockskip.models.families.base import Sampling, Text, get_family
from blockskip.models.sources import Source
from blockskip.models.sources.lora_file import as_dtype, read_lora
from blockskip.sampling.arithmetic import PROMPT, STEPS, choose_products
from blockskip.sampling.dynamic_patches import PatchScheduler
from blockskip.sampling.frozen_lora import FrozenLora
from blockskip.sampling.sample import preview_acceleration, sample
from blockskip.sampling.sibling import taking_turns
from blockskip.sampling.step_cache import CacheConfig
from blockskip.training import encode
from blockskip.training.lora import add_lora, share_lora
from blockskip.training.residuals import Span


class LoadedModel:
    """A model's pipeline, opened on the device and within the memory budget of `settings`.

    source: the location of the weights; None looks it up. progress(n, total): blocks quantised. To
    sample in less memory, replace `settings`. Raises UserError if weights are missing or broken,
    VRAM is too small, or the disk is full.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source | None = None,
        progress: Callable[[int, int], None] = lambda n, total: None,
    ) -> None:
        self.settings, self.row = settings, presets.model_row(settings.model)
        self.family, self.device = get_family(self.row.family), pick_device(settings.device)
        self._texts: dict[str, Text] = {}
        self._captions: dict[str, Text] = {}
        self._compiled: CompiledBlocks | None = None
        limit_vram(self.device, settings.budget_gib)
        choose_kernels(self.family.masks_attention)
        self.source = source or sources.find_model(self.row)
        self.pipe = open_model(self.family, self.row, self.source, settings, self.device, progress)
        self._choose_products(self.pipe, self.row, self.source)
        self.sibling = self._open_sibling(progress) if settings.preview_model else None
        self._switched = [
            self._frozen_lora(name, is_on)
            for name, is_on in ((settings.training_adapter, True), (settings.preview_model, False))
            if name and presets.model_row(name).files
        ]

    @property
    def _has_own_sibling(self) -> bool:
        """Whether pictures are made with another transformer than the trained one."""
        return self.sibling is not None and self.sibling.transformer is not self.transformer

    def _open_sibling(self, progress: Callable[[int, int], None]) -> DiffusionPipeline:
        row = presets.model_row(self.settings.preview_model)
        if row.files:
            assert self.row.sibling is not None, "whose row this is"
            return self.family.with_shift(self.pipe, self.row.sibling.shift)
        source = sources.find_model(row)
        common = self.family, self.pipe, self.row
        sibling = open_sibling(*common, source, self.settings, self.device, progress)
        self._choose_products(sibling, row, source)
        return sibling

    def _frozen_lora(self, name: str, is_on: bool) -> FrozenLora:
        model = self.transformer
        linears = [key for key, part in model.named_modules() if isinstance(part, nn.Linear)]
        layers = read_lora(sources.lora_path(name), linears)
        return FrozenLora(model, as_dtype(layers, model.dtype), is_on)

    def _choose_products(self, pipe: DiffusionPipeline, row: ModelRow, source: Source) -> None:
        """Let linears multiply in 8 bits, if that was planned, where their error allows it."""
        plan = self.settings.plan
        if plan.int8_products and int8_products.available(self.device):
            folder = quantised_folder(source, plan)
            choose_products(pipe.transformer, folder, partial(self._sample_small, pipe, row))

    @property
    def transformer(self) -> ModelMixin:
        """The pipeline's transformer, the part that is trained."""
        return self.pipe.transformer

    def attention_warning(self) -> str:
        """Return a warning if this card computes the model's attention only in the slowest way."""
        head_dim = getattr(self.transformer.config, "attention_head_dim", 128)
        dtype = getattr(torch, self.row.dtype)
        return math_kernel_warning(self.device, dtype, head_dim, self.family.masks_attention)

    def arithmetic_warning(self) -> str:
        """Return a warning if products in 8 bits were planned and this device has none."""
        planned = self.settings.plan.int8_products
        return int8_products.unavailable_warning(self.device) if planned else ""

    def compile_blocks(self, note: Callable[[str], object]) -> None:
        """Let the blocks run compiled, on CUDA and if the run is long enough to gain by it.

        note: is told why they are not although they should be, also later. Blocks that are compiled
        stay so.
        """
        if self._compiled is not None:
            self._compiled.note = note
            if self._compiled.problem:
                note(not_compiled(self._compiled.problem))
            return
        if self.settings.compile == "off" or self.device.type != "cuda":
            return
        if not compiling_pays(self.row, self.settings):
            return
        if problem := unusable_compiler(self.device):
            note(not_compiled(problem))
            return
        blocks = [block for _, block in self.family.blocks(self.transformer)]
        self._compiled = CompiledBlocks(blocks, note)

    def add_lora(self, settings: Settings) -> dict[str, nn.Parameter]:
        """Add the untrained LoRA of a run with these settings; return its parameters by name."""
        span = Span(settings.plan.front, settings.plan.back)
        lora = add_lora(
            self.transformer, self.family, span, settings.rank, settings.targets, settings.seed
        )
        move_trainable(self.device, lora.values())
        self.share_lora(lora)
        return lora

    def share_lora(self, lora: dict[str, nn.Parameter]) -> None:
        """Let pictures be made with the transformer's LoRA, whichever model they are made on."""
        if self.sibling is not None and self._has_own_sibling:
            share_lora(self.sibling.transformer, self.family, self.settings, lora)

    def _sample_small(self, pipe: DiffusionPipeline, row: ModelRow) -> None:
        """Sample the picture that arithmetic.py measures with; it depends on the model alone."""
        plan = self.settings.plan
        text = encode.encode_captions(self.family, pipe, [PROMPT, ""], row.text_tokens, self.device)
        if plan.number_type == "float16":
            text = text.to(torch.float16)
        sampling = Sampling(row.s_max_px, STEPS, row.preview_guidance)
        one, empty = text.rows([0]), text.rows([1])
        sample(self.family, pipe, one, empty, sampling, [0], self.device, 1)

    def forget_run(self) -> None:
        """Remove a run's LoRA, so that another run can use the model."""
        self.transformer.unload_lora()
        if self.sibling is not None and self._has_own_sibling:
            self.sibling.transformer.unload_lora()

    def adopt(self, settings: Settings) -> None:
        """Serve another run of the same model (Settings.model_key) from now on. Captions and prompts
        of the one before are not encoded again."""
        if settings.plan.text_tokens != self.settings.plan.text_tokens:
            self._captions, self._texts = {}, {}
        wanted = self._texts.keys() & {*settings.preview_prompts, ""}
        self._texts = {prompt: self._texts[prompt] for prompt in wanted}
        self.settings = settings
        keep_in_ram(self.pipe, self.row, settings, self.device)

    def encode(self, captions: Sequence[str]) -> Text:
        """Encode captions, one row each, on the CPU. Those of the call before are known."""
        new = [c for c in dict.fromkeys(captions) if c not in self._captions]
        known = self._captions | (_rows(new, self._encode(self.pipe, new)) if new else {})
        self._captions = {caption: known[caption] for caption in captions}
        return Text.cat([known[caption] for caption in captions])

    def _encode(self, pipe: DiffusionPipeline, captions: Sequence[str]) -> Text:
        tokens = self.settings.plan.text_tokens
        return encode.encode_captions(self.family, pipe, captions, tokens, self.device)

    def encode_prompts(self, prompts: Sequence[str]) -> Text:
        """Encode prompts, one row each, on the CPU, each only once: encoders may be large."""
        if new := [p for p in dict.fromkeys(prompts) if p not in self._texts]:
            self._texts |= _rows(new, self._encode(self.sibling or self.pipe, new))
        return Text.cat([self._texts[prompt] for prompt in prompts])

    def cache_text(self, prompts: Sequence[str], text: Text) -> None:
        """Make `encode_prompts` use row i of `text` for prompt i, unless pictures are made on another
        transformer which reads captions itself (models/families/caption_modules.py)."""
        if not (self._has_own_sibling and self.family.caption_modules):
            self._texts |= _rows(prompts, text)

    def encode_draws(
        self,
        photos: Sequence[Photo],
        draws: Sequence[Draw],
        progress: Callable[[int, int], None] = lambda n, total: None,
    ) -> Tensor:
        """Encode draws as latents x_0, one row each, on the CPU."""
        with on_device(self.device, self.pipe.vae):
            return encode.encode_draws(
                self.family, self.pipe, photos, draws, self.settings, self.device, progress
            )

    def sample(
        self,
        text: Text,
        negative: Text,
        seeds: Sequence[int],
        steps: int = 0,
        cache: CacheConfig | None = None,
        dynamic: PatchScheduler | None = None,
        px: int = 0,
    ) -> list[Image.Image]:
        """Sample one image per row of `text`, at the guidance of previews.

        negative: one row. steps, px: 0 uses `preview_steps`, `preview_px`. cache, dynamic: see
        sampling/sample.py.
        """
        s = self.settings
        if s.plan.number_type == "float16":
            text, negative = text.to(torch.float16), negative.to(torch.float16)
        sampling = Sampling(px or s.preview_px, steps or s.preview_steps, s.preview_guidance)
        with self._picture_pipeline() as pipe:
            return sample(
                self.family,
                pipe,
                text,
                negative,
                sampling,
                seeds,
                self.device,
                s.plan.preview_batch,
                s.plan.preview_tiled,
                cache=cache,
                dynamic=dynamic,
            )

    @contextmanager
    def _picture_pipeline(self) -> Iterator[DiffusionPipeline]:
        """Context manager that yields what pictures are made with: without a training adapter, with
        a few-step LoRA."""
        pipe = self.sibling or self.pipe
        with ExitStack() as stack:
            for lora in self._switched:
                stack.enter_context(lora.switched())
            if self._has_own_sibling:
                stack.enter_context(taking_turns(self.transformer, pipe))
            yield pipe

    def sample_prompts(
        self, prompts: Sequence[str], seeds: Sequence[int], steps: int = 0, px: int = 0
    ) -> list[Image.Image]:
        """Sample one image per prompt at the settings' preview speed. steps, px: see `sample`."""
        text, negative = self.encode_prompts(prompts), self.encode_prompts([""])
        num_steps = steps or self.settings.preview_steps
        acceleration = preview_acceleration(self.settings, num_steps, self.family, self.transformer)
        return self.sample(text, negative, seeds, steps, px=px, **acceleration)


def _rows(captions: Sequence[str], text: Text) -> dict[str, Text]:
    return {caption: text.rows([i]) for i, caption in enumerate(captions)}
