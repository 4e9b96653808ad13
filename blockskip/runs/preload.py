"""Read the program's modules and tables before a training begins.

A training takes hours, and an update replaces the program's files in place meanwhile. What is read
later would be of another version. Packages need nothing of this kind: the launchers leave an
environment as it is while anything runs from it.
"""

import logging
import pkgutil
from contextlib import suppress
from importlib import import_module

from blockskip.core import presets
from blockskip.core.errors import UserError
from blockskip.core.paths import PRESETS

log = logging.getLogger(__name__)
# of those that a training's process can reach; other processes are short
FOLDERS = ("core", "data", "models", "memory", "training", "sampling", "runs")


def preload() -> None:
    """Import all modules of a training and read all presets. What cannot be imported is left out,
    since this training may not need it."""
    for folder in FOLDERS:
        package = import_module(f"blockskip.{folder}")
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                import_module(found.name)
            except Exception:
                log.warning("%s cannot be imported", found.name, exc_info=True)
    for table in PRESETS.glob("*.toml"):
        with suppress(UserError):
            presets.read_preset(table.stem)
