"""Files that would run a program if they were opened the wrong way, and a watch over whether one did.

Every trap touches a file, the canary, when it runs.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus.cases import demand, replaced
from security.watched_studio import LET_THROUGH

CODE = "evil_model"  # name of the trapped module


class _Trap:
    """Touches the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return open, (str(self.canary), "w")


def pickled(canary: Path) -> dict[str, bytes]:
    """Return trapped files by kind."""
    zipped, old, array, arrays = (io.BytesIO() for _ in range(4))
    torch.save({"weight": torch.zeros(1), "x": _Trap(canary)}, zipped)
    torch.save({"x": _Trap(canary)}, old, _use_new_zipfile_serialization=False)
    boxed = np.empty(1, dtype=object)
    boxed[0] = _Trap(canary)
    np.save(array, boxed, allow_pickle=True)
    np.savez(arrays, boxed)
    made = {"zip": zipped, "old": old, "npy": array, "npz": arrays}
    return {"pickle": pickle.dumps(_Trap(canary)), **{k: v.getvalue() for k, v in made.items()}}


def plant_code(folder: Path, canary: Path) -> Path:
    """Write a module that touches the canary when it is imported, with a class of every usual name."""
    path = folder / f"{CODE}.py"
    path.write_text(
        f"open({str(canary)!r}, 'w').close()\nclass Evil:\n    pass\n", encoding="utf-8"
    )
    return path


def point_to_code(config: Path, unknown: bool = False) -> None:
    """Let a config name the module of `plant_code` for whatever a library may load by it. unknown:
    for a model that the libraries do not know otherwise."""
    told = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    kinds = ("Config", "Model", "ModelForObjectDetection", "ModelForCausalLM", "Processor")
    kinds += ("ImageProcessor", "FeatureExtractor", "ImageProcessorFast")
    told["auto_map"] = {f"Auto{kind}": f"{CODE}.Evil" for kind in kinds}
    told["auto_map"]["AutoTokenizer"] = [f"{CODE}.Evil", f"{CODE}.Evil"]
    told |= {"trust_remote_code": True, "_attn_implementation_internal": "evil/kernels"}
    if unknown:
        told |= {"model_type": "evil", "tokenizer_class": "EvilTokenizer", "_class_name": "Evil"}
    config.write_text(json.dumps(told), encoding="utf-8")


_events: list[str] = []
_watching = False


def _audit(event: str, args: tuple) -> None:
    if _watching and event == "pickle.find_class":
        _events.append(f"{args[0]}.{args[1]}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def watched(canary: Path) -> Iterator[None]:
    """Context manager that raises Wrong if anything in it runs a trap, opens a pickle or asks in the
    terminal whether it may."""
    global _watching
    opened: list[str] = []

    def notes(name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            opened.append(name)
            raise RuntimeError(f"{name} was called")

        return call

    def asked(prompt: object = "") -> str:
        opened.append("a question in the terminal")
        return "y"

    changes: list[tuple[Any, str, Any]] = [(builtins, "input", asked)]
    changes += [(torch, "load", notes("torch.load")), (pickle, "loads", notes("pickle.loads"))]
    changes += [(pickle, "load", notes("pickle.load")), (np, "load", notes("numpy.load"))]
    _events.clear()
    _watching = True
    try:
        with replaced(*changes):
            yield
    finally:
        _watching = False
        sys.modules.pop(CODE, None)
        importlib.invalidate_caches()
    demand(not canary.exists(), "the trap ran", LET_THROUGH)
    demand(not opened, f"called: {', '.join(opened)}", LET_THROUGH)
    demand(not _events, f"a pickle was read: {_events}", LET_THROUGH)
