"""How diffusers and transformers may read a model's files: from this computer, safetensors alone, and
without running anything that lies beside them.

The libraries' own defaults would fall back to PyTorch's pickles, and ask in the terminal whether to
run a model's program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blockskip.core.errors import BadFile

TEXTS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # vocabularies
MODULE: dict[str, Any] = {
    "local_files_only": True,
    "use_safetensors": True,
}  # one class of diffusers
WEIGHTS: dict[str, Any] = TEXTS | MODULE  # a class of transformers, or a pipeline
_ADAPTER = "adapter_config.json"


def check_folder(folder: Path) -> None:
    """Raise BadFile if transformers would load more than the model in `folder` or its parts: it adds
    any LoRA that lies beside the weights, from whatever file and for whatever model it names."""
    for path in (folder / _ADAPTER, *sorted(folder.glob(f"*/{_ADAPTER}"))):
        if path.exists():
            raise BadFile(
                f"{path.parent} holds a LoRA beside the model ({_ADAPTER}), which would be loaded with it.",
                "Move the LoRA's files out of the model's folder.",
            )
