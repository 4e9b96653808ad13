"""What ComfyUI would list: its search for models said again, from its sources of 0.37 (main.py's
apply_custom_paths, utils/extra_config.py, folder_paths.py), by other means than the program's."""

import os
from pathlib import Path

import yaml

ENDINGS = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}


def searched(base, path_files, kind="loras"):
    """The folders that ComfyUI with this base folder searches, given these --extra-model-paths-config
    and its own file, in order; raises what keeps ComfyUI from starting."""
    order = [os.path.join(base, "models", kind)]
    for path in path_files:
        for section in yaml.safe_load(Path(path).read_bytes().decode("utf-8")).values():
            for folder, first in additions(section or {}, os.path.dirname(path), kind):
                if folder not in order:
                    order.insert(0 if first else len(order), folder)
                elif first:
                    order.insert(0, order.pop(order.index(folder)))
    return order


def additions(section, beside, kind):
    base = section.get("base_path")
    if base is not None:
        base = os.path.expandvars(os.path.expanduser(base))
    for line in section.get(kind, "").split("\n"):
        if line:
            start = beside if base is None else os.path.join(beside, base)
            yield os.path.normpath(os.path.join(start, line)), bool(section.get("is_default"))


def listed(folders, wanted=ENDINGS):
    """Name in ComfyUI's menus → the file that it would load."""
    names = {}
    for folder in reversed(folders):  # the first folder wins
        for current, _, files in os.walk(folder, followlinks=True):
            for file in files:
                path = os.path.join(current, file)
                if os.path.splitext(file)[1].lower() in wanted:
                    names[os.path.relpath(path, folder)] = path
    return names


def make(folder, *below):
    for name in below or ("models/checkpoints",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder
