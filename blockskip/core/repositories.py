"""What is downloaded from the hub: the rows of models, and of tools (presets/tools.toml)."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from blockskip.core.presets import STRICT, ModelRow, model_row, read_preset


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ToolRow:
    """One row of presets/tools.toml: a model of others that helps, as the pet finder does. files:
    patterns of all that is needed of the repository."""

    name: str
    title: str
    about: str
    source: str
    files: tuple[str, ...]
    licence: str
    licence_url: str
    download_gib: float
    parts: tuple[str, ...] = ()
    gated: bool = False


Repository = ModelRow | ToolRow


def tool_names() -> list[str]:
    """Return the names of all rows of presets/tools.toml."""
    return list(read_preset("tools"))


def tool_row(name: str) -> ToolRow:
    """Return a row of presets/tools.toml: detector | captioner | likeness."""
    return ToolRow(**{**read_preset("tools")[name], "name": name})


def repository(name: str) -> Repository:
    """Return the row of a model or of a tool. Raises UserError for an unknown name."""
    return tool_row(name) if name in read_preset("tools") else model_row(name)
