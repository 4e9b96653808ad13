"""Step caches for sampling: skip the blocks in steps that change little (docs/method.md §2).

A skipped step adds the blocks' change from an earlier step again. The caches are diffusers'
(0.42.1). Diffusers hooks them onto the model's blocks. It must know how each block type passes its
streams, and it does not support models that go from two streams to one (FLUX.2, Chroma). Here the
hooks sit on one placeholder per block, which sees only the image tokens. One placeholder class
therefore serves all families, and the model itself carries no hooks. Text after the last block is
unused, so it need not be cached. A block is copied to the device only if its placeholder calls it.
Cached tensors stay where the streams are: in RAM, or on a device that holds all images at once
(small models: kilobytes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from diffusers import DiffusionPipeline, FirstBlockCacheConfig, MagCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models import CacheMixin
from torch import Tensor, nn

from blockskip.core.presets import key_steps, preview_threshold
from blockskip.core.settings import PreviewSpeed
from blockskip.memory.block_wrappers import Layerwise, NamedArgsBlock
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Family
from blockskip.models.families.streams import Outputs, as_tuple
from blockskip.sampling.key_steps import KeySteps

# diffusers' caches that hook into blocks, and our key steps
CacheConfig: TypeAlias = FirstBlockCacheConfig | MagCacheConfig | KeySteps


def cache_config(model: str, speed: PreviewSpeed, steps: int) -> CacheConfig | None:
    """Return the cache for previews of a model at this speed and number of steps.

    The model's key steps if they were measured, else diffusers' FirstBlockCache; None computes
    every step.
    """
    if keys := key_steps(model, speed, steps):
        return KeySteps(frozenset(keys))
    threshold = preview_threshold(speed, steps)
    return FirstBlockCacheConfig(threshold) if threshold else None


@contextmanager
def step_cache_installed(
    pipe: DiffusionPipeline, family: Family, config: CacheConfig | None
) -> Iterator[StepCache | None]:
    """Context manager in which `pipe` samples one batch of images with a step cache.

    The transformer's blocks must be `Layerwise`. Without a `config` nothing changes. All images of
    the batch skip a step together, or none. Cached tensors stay where the streams are. Per model
    call of a step (guidance may need two), FirstBlockCache stores three tensors of the image
    stream's size. Key steps store one, and another one during a computed step.
    """
    if config is None:
        yield None
        return
    model = pipe.transformer
    names, blocks = zip(*family.blocks(model), strict=True)
    cache = StepCache(blocks, config)
    with ExitStack() as stack:
        stack.callback(cache.reset)  # free large tensors before the garbage collector does
        stack.enter_context(replace_modules(model, dict(zip(names, cache.proxies, strict=True))))
        stack.enter_context(_patched_attr(model, "forward", cache.wrap_forward(model.forward)))
        stack.enter_context(
            _patched_attr(pipe.scheduler, "step", cache.wrap_step(pipe.scheduler.step))
        )
        # block 1 may be skipped; prefetched in vain, it would stay on the device
        stack.enter_context(_patched_attr(blocks[0], "_next_block", (None,)))
        yield cache


class StepCache(nn.Module, CacheMixin):
    """The placeholders that carry diffusers' cache hooks, and the state that drives them."""

    enable_cache: Callable[[FirstBlockCacheConfig | MagCacheConfig], None]  # from CacheMixin
    cache_context: Callable[[str], AbstractContextManager[None]]
    _reset_stateful_cache: Callable[[], None]

    def __init__(self, blocks: tuple[Layerwise, ...], config: CacheConfig) -> None:
        super().__init__()
        self.state, last = CacheState(), len(blocks) - 1
        self.blocks = nn.ModuleList(  # the name that diffusers looks for
            _CachedBlock(config, self.state, i == 0, i == last)
            if isinstance(config, KeySteps)
            else _ImageBlock()
            for i in range(len(blocks))
        )
        if not isinstance(config, KeySteps):
            self.enable_cache(config)
        self.proxies = [_BlockProxy(block, i, self) for i, block in enumerate(blocks)]
        self.tokens = 0  # T, from the first block's image stream

    def reset(self) -> None:
        """Clear the cached tensors of earlier steps.

        Call it between two steps if the patch size changes, which changes the number of tokens. Key
        steps do not support such a change.
        """
        self._reset_stateful_cache()
        self.state.added.clear()

    def repeat_call(self) -> None:
        """Count the next call as a repeat of the previous one, not as a new call of the step."""
        self.state.call -= 1

    def wrap_forward(self, forward: Callable) -> Callable:
        """Wrap the model's forward to count its calls within a step.

        Guidance may need several. The n-th call of a step is compared with the n-th of other steps,
        since not every pipeline labels its calls.
        """

        def counted_forward(*args: Any, **kwargs: Any) -> Any:
            self.state.call += 1
            with self.cache_context(f"call {self.state.call}"):
                return forward(*args, **kwargs)

        return counted_forward

    def wrap_step(self, step: Callable) -> Callable:
        """Wrap the scheduler's step to advance the step counter and reset the call counter."""

        def counted_step(*args: Any, **kwargs: Any) -> Any:
            self.state.step, self.state.call = self.state.step + 1, 0
            return step(*args, **kwargs)

        return counted_step


class _ImageBlock(nn.Module):
    """A block as diffusers' caches see it: image tokens (B, T, D) in and out."""

    def forward(self, hidden_states: Tensor, work: Callable[[], Tensor]) -> Tensor:
        return work()


@dataclass
class CacheState:
    """The position within sampling, and the tensors that key steps cache.

    Steps count from 0, calls from 1. before: the first block's image input. added: the blocks'
    total change (B, T, D) in each call of the last key step.
    """

    step: int = 0
    call: int = 0
    before: Tensor | None = None
    added: dict[int, Tensor] = field(default_factory=dict)


class _CachedBlock(nn.Module):
    """A block as key steps see it. In a skipped step the first one adds the total cached change."""

    def __init__(self, keys: KeySteps, state: CacheState, first: bool, last: bool) -> None:
        super().__init__()
        self.keys, self.state, self.first, self.last = keys, state, first, last

    def forward(self, hidden_states: Tensor, work: Callable[[], Tensor]) -> Tensor:
        state = self.state
        if self.keys.is_cached_step(state.step):
            return hidden_states + state.added[state.call] if self.first else hidden_states
        if self.first:
            state.before = hidden_states
        after = work()
        if self.last:
            assert state.before is not None, "the first block ran before the last"
            state.added[state.call] = after - state.before
            self.keys.record(state.added[state.call])
            state.before = None
        return after


TransformerBlockRegistry.register(
    _ImageBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)


class _BlockProxy(NamedArgsBlock):
    """Replaces a block in the model, and runs it if its placeholder calls it."""

    def __init__(self, block: Layerwise, index: int, cache: StepCache) -> None:
        super().__init__(block)
        self.block, self.index = block, index
        self._cache = (cache,)  # in a tuple, so that it is not registered as a submodule

    def run(self, block_kwargs: dict) -> Outputs:
        (cache,), streams = self._cache, self.block.streams
        unchanged = streams.identity_output(block_kwargs)
        if self.index == 0:  # a joint sequence of image and text counts as image
            cache.tokens = as_tuple(unchanged)[-1].shape[1]
        outputs: Outputs = unchanged
        image = streams.image(outputs, cache.tokens)

        def work() -> Tensor:
            nonlocal outputs, image
            outputs = self.block.run(block_kwargs | self._copies(block_kwargs))
            image = streams.image(outputs, cache.tokens)
            return image

        after = cache.blocks[self.index](hidden_states=image, work=work)
        return outputs if after is image else streams.with_image(outputs, after)

    def _copies(self, block_kwargs: dict) -> dict[str, Tensor]:
        """Copy the streams for the first two blocks.

        Blocks overwrite their inputs, and the caches keep the first block's input and output until
        the last block is done.
        """
        names = self.block.streams.names if self.index < 2 else ()
        return {name: block_kwargs[name].clone() for name in names}


@contextmanager
def _patched_attr(instance: object, name: str, new: object) -> Iterator[None]:
    """Context manager in which the instance's attribute `name` is `new`."""
    missing = object()
    before = vars(instance).get(name, missing)
    setattr(instance, name, new)
    try:
        yield
    finally:
        delattr(instance, name) if before is missing else setattr(instance, name, before)
