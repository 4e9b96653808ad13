"""What fuzzing of each parser begins with: good inputs, and those that once did harm."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEEDS = Path(__file__).parent / "seeds"  # inputs that once did harm, by target


def seeds(name: str) -> list[bytes]:
    """Return the inputs that a target begins with: good ones, and those that once did harm."""
    good = GOOD_INPUTS.get(name, lambda: [b"{}"])()
    found = SEEDS / name
    return good + [path.read_bytes() for path in sorted(found.glob("*"))]


@functools.cache
def pictures() -> list[bytes]:
    from corpus.drawn import formats

    return [data for _, data in formats()]


def _bytes_of(*values: Any) -> Callable[[], list[bytes]]:
    return lambda: [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]


def _profiles() -> list[bytes]:
    from corpus.colours import P3, SRGB, icc_profile

    return [icc_profile(P3, "srgb", "P3"), icc_profile(SRGB, 1.0, "linear")]


def _weights(suffix: str) -> Callable[[], list[bytes]]:
    def read() -> list[bytes]:
        from corpus.tensors import good_bytes

        return [good_bytes(suffix)]

    return read


_TOML = (
    b'format = 2\nstarted = "2026-11-30T01:06:00+00:00"\n[settings]\nmodel = "demo"\nsteps = 4\n'
)
_REQUEST = {"prompt": "a", "seed": 1, "strength": 1.0, "step": 4, "time": 1.0, "state": "waiting"}
_EVENTS = [
    {"event": "loss", "time": 1.0, "step": 1, "loss": 0.5, "seconds": 0.1},
    {"event": "progress", "stage": "train", "n": 1, "total": 4},
    {"event": "started", "steps": 4, "stages": ["photos"]},
]
_SIBLING = {"rfilename": "vae/model.safetensors", "size": 5, "lfs": {"sha256": "a", "size": 5}}
_LISTED = [["vae/model.safetensors", 5, "abc"]]
GOOD_INPUTS: dict[str, Callable[[], list[bytes]]] = {
    "safetensors_header": _weights(".safetensors"),
    "lora_metadata": _weights(".safetensors"),
    "gguf_header": _weights(".gguf"),
    "events_line": _bytes_of(*_EVENTS),
    "event_log": lambda: [b"\n".join(json.dumps(event).encode() for event in _EVENTS) + b"\n"],
    "run_toml": _bytes_of(_TOML),
    "settings_dict": _bytes_of({"model": "demo", "steps": 4, "plan": {"front": 1}}),
    "control_json": _bytes_of({"command": "preview", "prompts": ["a"]}, {"command": "stop"}),
    "image_request": _bytes_of(_REQUEST),
    "likeness_json": _bytes_of({"by_step": {"1": {"subject": 0.5}}, "best_step": 1}),
    "file_names": _bytes_of(b"00004", b"00004 (copy)", b"x"),
    "caption_file": _bytes_of(b"a cat", "ü".encode("utf-16"), b"\xef\xbb\xbfa"),
    "metadata_jsonl": _bytes_of({"file_name": "a.png", "text": "a cat"}),
    "box_json": _bytes_of({"left": 0.1, "top": 0.1, "right": 0.9, "bottom": 0.9}),
    "photo_file": pictures,
    "photo_profile": _profiles,
    "extra_model_paths": _bytes_of(b"mine:\n  base_path: /x\n  checkpoints: |\n    a\n    b\n"),
    "shard_index": _bytes_of({"weight_map": {"a": "model.safetensors"}}),
    "models_json": _bytes_of({"flux-dev": {"folder": "x", "files": {}, "tokenizers": {}}}),
    "download_status": _bytes_of({"model": "flux2-klein-4b", "state": "running", "pid": 1}),
    "download_manifest": _bytes_of({"files": {"a": "b"}, "listed": _LISTED, "whole": True}),
    "hub_answer": _bytes_of({"siblings": [_SIBLING], "sha": "a"}),
    "draft_json": _bytes_of({"photos": [], "rejected": [], "answers": {"kind": "cat"}}),
    "run_preferences_json": _bytes_of({"pet": "Momo", "step": 4, "format": "comfyui"}),
    "click_payload": _bytes_of({"do": "photo", "file": "a", "box": [0, 0, 1, 1]}, {"do": "keep"}),
    "command_values": _bytes_of(b"19,10", b"0.5", b"../x", b"~nobody"),
    "model_names": _bytes_of(b"demo"),
}
