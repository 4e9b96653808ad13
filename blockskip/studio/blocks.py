"""Gradio's blocks for a page in several languages, which answers wrong values with a sentence.

Gradio's own translation (gr.I18n) reaches labels but neither choices nor what the server draws.
Here each request is answered in the language of its browser, and the page is built once in each.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.context import Context

from blockskip.core.errors import BadInput
from blockskip.core.validation import shortened
from blockskip.studio import strings

if TYPE_CHECKING:
    from gradio.block_function import BlockFunction
    from gradio.data_classes import BlocksConfigDict
    from gradio.state_holder import SessionState

log = logging.getLogger(__name__)


class StudioBlocks(gr.Blocks):
    """gr.Blocks in several languages, in which no value of a wrong type goes without an answer."""

    translations: Mapping[str, list] = MappingProxyType({})  # by language: config's components

    @property
    def config(self) -> BlocksConfigDict:
        """What the browser builds the page from, in its language."""
        translated = self.translations.get(strings.tag())
        if translated is None:
            return self._config
        return cast("BlocksConfigDict", {**self._config, "components": translated})

    @config.setter
    def config(self, config: BlocksConfigDict) -> None:
        self._config = config

    async def process_api(
        self,
        block_fn: BlockFunction | int,
        inputs: list[Any],
        state: SessionState | None = None,
        request: gr.Request | list[gr.Request] | None = None,
        *args: Any,
        **options: Any,
    ) -> dict[str, Any]:
        """Answer an event in its browser's language, also a queued one, outside its request."""
        asked = request[0] if isinstance(request, list) else request
        header = asked.headers.get("accept-language") if asked else None
        with strings.language(strings.preferred(header)):
            return await super().process_api(block_fn, inputs, state, request, *args, **options)

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error:
            raise
        except Exception as error:
            log.warning("%s was sent %s: %s", block_fn.name, shortened(inputs), error)
            text = strings.VALUE_UNUSABLE.format(values=shortened(inputs))
            kind = BadInput.__name__ if block_fn.api_visibility == "public" else "Error"
            raise gr.Error(html.escape(text), title=kind, print_exception=False) from error


def in_every_language(build: Callable[[], StudioBlocks]) -> StudioBlocks:
    """Return the page that `build` makes, with its texts in every language."""
    first, page = Context.id, build()
    page.translations = translations = {}
    for tag in strings.LANGUAGES.keys() - {strings.tag()}:
        Context.id = first  # the same components, with the same numbers
        with strings.language(tag):
            translations[tag] = build().get_config_file()["components"]
    return page
