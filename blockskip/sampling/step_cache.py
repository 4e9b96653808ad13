"""Step caches while pictures are sampled: where a step changes little, the blocks rest and what they
did in an earlier step is added again (docs/method.md §2).

The caches are the library's (diffusers 0.42.1). It hangs them on blocks, of which it must know how
each kind takes and gives its streams, and it cannot follow a model that goes from two streams to one
(FLUX.2, Chroma). So here they hang on stand-ins through which nothing but the image's tokens go, a
stand-in a block: that is one kind for all families, text after the last block is read by nobody, and
nothing of ours hangs on the model. A block whose stand-in does not ask for it is not brought to the
card either. What is kept is where pictures wait: in RAM, or on a card that holds all of them at once
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

# the library's caches that hang on blocks, and ours
CacheConfig: TypeAlias = FirstBlockCacheConfig | MagCacheConfig | KeySteps


def cache_config(model: str, speed: PreviewSpeed, steps: int) -> CacheConfig | None:
    """What makes previews of a model with so many sampling steps that quick: its key steps where they
    were measured, else the library's step cache; None: every step is computed."""
    if keys := key_steps(model, speed, steps):
        return KeySteps(frozenset(keys))
    threshold = preview_threshold(speed, steps)
    return FirstBlockCacheConfig(threshold) if threshold else None


@contextmanager
def step_cache_installed(
    pipe: DiffusionPipeline, family: Family, config: CacheConfig | None
) -> Iterator[StepCache | None]:
    """Inside, `pipe` samples one batch of pictures with a step cache; its transformer's blocks must
    be `Layerwise`.

    Without a `config` nothing changes. All pictures of the batch rest together, or none. What is kept
    waits where the streams wait: of FirstBlockCache three tensors of the image stream's size for
    each of the calls that a step makes (guidance may need two), of key steps one, and another one
    while a step works.
    """
    if config is None:
        yield None
        return
    model = pipe.transformer
    names, blocks = zip(*family.blocks(model), strict=True)
    cache = StepCache(blocks, config)
    with ExitStack() as stack:
        stack.callback(cache.reset)  # so much memory does not wait for the garbage collector
        stack.enter_context(replace_modules(model, dict(zip(names, cache.proxies, strict=True))))
        stack.enter_context(_patched_attr(model, "forward", cache.wrap_forward(model.forward)))
        stack.enter_context(
            _patched_attr(pipe.scheduler, "step", cache.wrap_step(pipe.scheduler.step))
        )
        # the block after the first may not be needed; fetched in vain, it would stay on the card
        stack.enter_context(_patched_attr(blocks[0], "_next_block", (None,)))
        yield cache


class StepCache(nn.Module, CacheMixin):
    """The stand-ins of a model's blocks, on which the library's hooks hang, and what drives them."""

    enable_cache: Callable[[FirstBlockCacheConfig | MagCacheConfig], None]  # these are CacheMixin's
    cache_context: Callable[[str], AbstractContextManager[None]]
    _reset_stateful_cache: Callable[[], None]

    def __init__(self, blocks: tuple[Layerwise, ...], config: CacheConfig) -> None:
        super().__init__()
        self.state, last = CacheState(), len(blocks) - 1
        self.blocks = nn.ModuleList(  # a name that the library looks for
            _CachedBlock(config, self.state, i == 0, i == last)
            if isinstance(config, KeySteps)
            else _ImageBlock()
            for i in range(len(blocks))
        )
        if not isinstance(config, KeySteps):
            self.enable_cache(config)
        self.proxies = [_BlockProxy(block, i, self) for i, block in enumerate(blocks)]
        self.tokens = 0  # of the image, as the first block sees it

    def reset(self) -> None:
        """Forget what earlier steps were like; to be called between two steps where the next one has
        another patch size, and so another number of tokens. Key steps go by one size alone."""
        self._reset_stateful_cache()
        self.state.added.clear()

    def repeat_call(self) -> None:
        """The next call goes on with what the one before it did: it is no further one of its step."""
        self.state.call -= 1

    def wrap_forward(self, forward: Callable) -> Callable:
        """The model's forward, which one step may call more than once (for guidance): the first call
        is compared with the first ones of other steps, and so on. Not every pipeline says which."""

        def call(*given: Any, **more: Any) -> Any:
            self.state.call += 1
            with self.cache_context(f"call {self.state.call}"):
                return forward(*given, **more)

        return call

    def wrap_step(self, step: Callable) -> Callable:
        """The scheduler's step, after which calls are counted anew."""

        def after(*given: Any, **more: Any) -> Any:
            self.state.step, self.state.call = self.state.step + 1, 0
            return step(*given, **more)

        return after


class _ImageBlock(nn.Module):
    """A block as the library's caches see it: image tokens in, image tokens out."""

    def forward(self, hidden_states: Tensor, work: Callable[[], Tensor]) -> Tensor:
        return work()


@dataclass
class CacheState:
    """Where sampling is, from step 0 and its call 1 on; and of key steps: the image as the first block was
    given it, and what all blocks added in each call of the last one."""

    step: int = 0
    call: int = 0
    before: Tensor | None = None
    added: dict[int, Tensor] = field(default_factory=dict)


class _CachedBlock(nn.Module):
    """A block as key steps see it: where all rest, the first one adds what all of them added."""

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
            assert state.before is not None, "the first block has worked"
            state.added[state.call] = after - state.before
            self.keys.record(state.added[state.call])
            state.before = None
        return after


TransformerBlockRegistry.register(
    _ImageBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)


class _BlockProxy(NamedArgsBlock):
    """Stands where a block stood, and lets it work if its stand-in asks for it."""

    def __init__(self, block: Layerwise, index: int, cache: StepCache) -> None:
        super().__init__(block)
        self.block, self.index = block, index
        self._cache = (cache,)  # in a tuple: no part of this one

    def run(self, given: dict) -> Outputs:
        (cache,), streams = self._cache, self.block.streams
        passed = streams.identity_output(given)
        if self.index == 0:  # one sequence of image and text from here on counts as image
            cache.tokens = as_tuple(passed)[-1].shape[1]
        outputs: Outputs = passed
        image = streams.image(outputs, cache.tokens)

        def work() -> Tensor:
            nonlocal outputs, image
            outputs = self.block.run(given | self._copies(given))
            image = streams.image(outputs, cache.tokens)
            return image

        after = cache.blocks[self.index](hidden_states=image, work=work)
        return outputs if after is image else streams.with_image(outputs, after)

    def _copies(self, given: dict) -> dict[str, Tensor]:
        """Blocks write over what they are given, and the caches keep what the first block is given and
        gives until the last one is through."""
        names = self.block.streams.names if self.index < 2 else ()
        return {name: given[name].clone() for name in names}


@contextmanager
def _patched_attr(thing: object, name: str, new: object) -> Iterator[None]:
    """Inside, that attribute of one object is another."""
    missing = object()
    before = vars(thing).get(name, missing)
    setattr(thing, name, new)
    try:
        yield
    finally:
        delattr(thing, name) if before is missing else setattr(thing, name, before)
