"""Weights as other programs store them: scaled fp8, packed files beside good ones, and folders of
other models."""

from __future__ import annotations

import functools
import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from corpus.cases import Case, demand, demand_named, numbered, refusal, value_or_refusal
from corpus.house import opened
from helpers.comfy import comfy_folder, original_parts, to_fp8
from helpers.scratch import scratch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blockskip.core import presets
from blockskip.core.paths import ASSETS, PRESETS, data_dir
from blockskip.models import sources
from blockskip.models.families.base import get_family
from blockskip.models.sources.layouts import configs_folder

DEMO = ASSETS / "demo-model"
ROW = "demo"
FLUX_FILE = "diffusion_models/flux1-dev.safetensors"
# layer in the file → parameter of the model that is the whole of it
LAYERS = {
    "double_blocks.0.img_mlp.0": "transformer_blocks.0.ff.net.0.proj",
    "double_blocks.0.img_attn.proj": "transformer_blocks.0.attn.to_out.0",
    "single_blocks.3.linear2": "single_transformer_blocks.3.proj_out",
    "img_in": "x_embedder",
}
SCALES = (
    *("scale_weight", "weight_scale", "weight_scale_inv", "scale_inv", "weight.scale", "scale"),
    *("weight_block_scale", "weight.scale_weight", "weight_scales", "scales", "weight.scales"),
    *("dequant_scale", "weight_scale_inverse", "w_scale"),
)
# tensors beside a weight that change what it is
FOREIGN = (
    *("weight.absmax", "weight.quant_map", "weight.quant_state.bitsandbytes__nf4", "qzeros"),
    *("weight_zero_point", "weight_scale_2", "zero_point", "lora_A.weight", "lora_down.weight"),
    *("SCB", "weight_format", "svd_down", "smooth_factor", "dora_scale", "weight_shape"),
)


def cases(seed: int) -> list[Case]:
    """Return all strange weights."""
    chance = random.Random(seed)
    return [
        *numbered("weights-fp8", "scaled fp8", map(_scaled_case, _scalings(chance))),
        *numbered("weights-side", "foreign tensors beside a weight", map(_side_case, FOREIGN)),
        *numbered("weights-text", "text encoders in fp8", map(_text_case, _text_scalings())),
        *numbered("weights-beside", "packed files beside good ones", map(_beside_case, _beside())),
        *numbered("weights-folder", "folders of other models", map(_folder_case, _folders())),
        *numbered("weights-right", "folders of the right model", map(_right_case, (0, 1, 2))),
    ]


@functools.cache
def comfy_template() -> Path:
    """Return a ComfyUI folder with the demo model in bf16, made once a process."""
    folder = scratch("comfy")
    return comfy_folder(folder / "ComfyUI", DEMO, original_parts(DEMO))


def copy_comfy(folder: Path) -> Path:
    """Copy the ComfyUI folder to `folder`/ComfyUI."""
    return Path(shutil.copytree(comfy_template(), folder / "ComfyUI"))


def _scalings(chance: random.Random) -> list[tuple[str, str, str, str]]:
    """Return (layer, name of the scale, its shape, its type)."""
    everything = itertools.product(
        LAYERS, SCALES, ("one", "row", "column", "block64", "block128"), ("float32", "bfloat16")
    )
    found = [case for case in everything if case[3] == "float32" or chance.random() < 0.3]
    return chance.sample(found, 130)


def _quantised(weight: Tensor, shape: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return (fp8 weight, scale, their product in float32)."""
    weight = weight.float() * 37.0  # so that a forgotten scale shows
    if shape.startswith("block"):
        side = int(shape.removeprefix("block"))
        rows, columns = (-(-size // side) for size in weight.shape)
        scale = torch.linspace(0.02, 0.3, rows * columns).reshape(rows, columns)
        spread = scale.repeat_interleave(side, 0).repeat_interleave(side, 1)
        spread = spread[: weight.shape[0], : weight.shape[1]]
    elif shape == "one":
        scale = spread = torch.tensor(0.125)
    else:
        scale = torch.linspace(0.02, 0.3, weight.shape[0])
        spread = scale[:, None]
        scale = spread if shape == "column" else scale
    scale = scale.to(dtype)
    spread = spread.to(dtype).float()
    packed = (weight / spread).clamp(-440, 440).to(torch.float8_e4m3fn)
    return packed, scale, packed.float() * spread


def _scaled_case(case: tuple[str, str, str, str]) -> tuple[Callable, Callable]:
    layer, name, shape, kind = case

    def build(folder: Path) -> tuple[Path, Tensor]:
        home = copy_comfy(folder)
        path = home / "models" / FLUX_FILE
        tensors = load_file(path)
        packed = _quantised(tensors[f"{layer}.weight"], shape, getattr(torch, kind))
        tensors |= {f"{layer}.weight": packed[0], f"{layer}.{name}": packed[1]}
        save_file(tensors, path)
        return home, packed[2]

    def check(subject: tuple[Path, Tensor]) -> None:
        home, right = subject

        def close(got: Tensor) -> bool:
            return torch.allclose(got, right, rtol=1e-2, atol=1e-5)

        with opened(home.parent / "data"):
            read = functools.partial(_read_parameter, [home], LAYERS[layer])
            value_or_refusal(read, close, Path(FLUX_FILE).name, layer)

    return build, check


def _read_parameter(paths: list[Path], parameter: str) -> Tensor:
    """Choose the model's files as a user does, and return one parameter in float32."""
    source = sources.select_model(presets.model_row(ROW), paths)
    return source.weights("transformer")[f"{parameter}.weight"].read(torch.float32)


def _side_case(name: str) -> tuple[Callable, Callable]:
    layer = "single_blocks.3.linear2"

    def build(folder: Path) -> Path:
        home = copy_comfy(folder)
        path = home / "models" / FLUX_FILE
        tensors = load_file(path)
        tensors[f"{layer}.{name}"] = torch.full((4,), 3.0)
        save_file(tensors, path)
        return home

    def check(home: Path) -> None:
        with opened(home.parent / "data"):
            read = functools.partial(_read_parameter, [home], LAYERS[layer])
            error = refusal(read)
        demand(error is not None, f"{name} beside a weight is ignored")
        demand_named(error, Path(FLUX_FILE).name)

    return build, check


def _text_scalings() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (part, style of the scales, further tensors of every layer)."""
    return [
        (part, style, extra)
        for part in ("text_encoder", "text_encoder_2")
        for style in ("scale_weight", "weight_scale")
        for extra in ((), ("scale_input",), ("input_scale",), ("scale_input", "comfy_quant"))
    ]


def _text_case(case: tuple[str, str, tuple[str, ...]]) -> tuple[Callable, Callable]:
    part, style, extra = case
    place = {"text_encoder": "text_encoders/clip_l", "text_encoder_2": "clip/t5xxl_fp16"}[part]

    def build(folder: Path) -> tuple[Path, dict[str, Tensor]]:
        home = copy_comfy(folder)
        path = home / "models" / f"{place}.safetensors"
        before = load_file(path)
        packed = to_fp8(before, style)
        layers = [key.removesuffix(f".{style}") for key in packed if key.endswith(f".{style}")]
        packed |= {f"{layer}.{name}": torch.ones(1) for layer in layers for name in extra}
        save_file({key: tensor.contiguous() for key, tensor in packed.items()}, path)
        right = {
            layer: packed[f"{layer}.weight"].float() * packed[f"{layer}.{style}"].float()
            for layer in layers
        }
        return home, right

    def check(subject: tuple[Path, dict[str, Tensor]]) -> None:
        home, right = subject

        def load() -> dict[str, Tensor]:
            source = sources.select_model(presets.model_row(ROW), [home])
            pipe = get_family("flux").load(source, torch.float32)
            return dict(getattr(pipe, part).state_dict())

        def equal(state: dict[str, Tensor]) -> bool:
            ends = {key: tensor for key, tensor in state.items() if key.endswith(".weight")}
            layers = [layer.removeprefix("text_model.") for layer in right]
            found = [next(k for k in ends if k.endswith(f"{layer}.weight")) for layer in layers]
            pairs = zip(found, right.values(), strict=True)
            return all(torch.allclose(ends[key], value, rtol=1e-2) for key, value in pairs)

        with opened(home.parent / "data"):
            value_or_refusal(load, equal, Path(place).name)

    return build, check


def _beside() -> list[tuple[str, str, bool]]:
    """Return (name of the packed file, how it is packed, whether the good one is an fp8 file)."""
    names = ("flux1-dev-nvfp4", "flux1-dev-int8", "flux1-dev-bnb-nf4", "a-flux", "flux1-dev-svdq")
    packings = ("nvfp4", "int8", "nf4", "cut", "text")
    pairs = itertools.product(names[:4], packings, (False, True))
    return [pair for n, pair in enumerate(pairs) if n % 2 == 0 or pair[0] == names[0]]


def _pack(tensors: dict[str, Tensor], packing: str) -> dict[str, Tensor]:
    """Return the transformer's tensors in a packing that cannot be read."""
    out: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        base = key.removesuffix(".weight")
        if tensor.ndim != 2 or not key.endswith(".weight"):
            out[key] = tensor
        elif packing == "int8":
            out |= {key: tensor.char(), f"{base}.weight_scale": torch.ones(len(tensor), 1)}
        elif packing == "nvfp4":
            out[key] = torch.zeros(len(tensor), tensor.shape[1] // 2, dtype=torch.uint8)
            out[f"{base}.weight_scale"] = torch.ones(len(tensor), 4).to(torch.float8_e4m3fn)
            out[f"{base}.weight_scale_2"] = torch.tensor(1.0)
        else:
            out[key] = torch.zeros(tensor.numel() // 2, 1, dtype=torch.uint8)
            out[f"{key}.absmax"] = torch.ones(tensor.numel() // 64)
            out[f"{key}.quant_state.bitsandbytes__nf4"] = torch.zeros(90, dtype=torch.uint8)
    return out


def _beside_case(case: tuple[str, str, bool]) -> tuple[Callable, Callable]:
    name, packing, fp8 = case

    def build(folder: Path) -> tuple[Path, Path]:
        home = copy_comfy(folder)
        good = home / "models" / FLUX_FILE
        packed, tensors = good.with_name(f"{name}.safetensors"), load_file(good)
        if packing == "cut":
            packed.write_bytes(good.read_bytes()[:-100])
        elif packing == "text":
            packed.write_text("<html>not found</html>", encoding="utf-8")
        else:
            save_file(_pack(tensors, packing), packed)
        if fp8:
            good.unlink()
            good = good.with_name("flux1-dev-fp8.safetensors")
            save_file(to_fp8(tensors), good)
        return home, good

    def check(subject: tuple[Path, Path]) -> None:
        home, good = subject
        with opened(home.parent / "data"):
            source = sources.select_model(presets.model_row(ROW), [home])
            demand(source.files["transformer"] == good, f"took {source.files['transformer'].name}")
            source.weights("transformer")["x_embedder.weight"].read()
            offered = sources.find_in_comfyui(presets.model_row(ROW)) if not fp8 else [1]
            demand(offered is not None, "not offered")

    return build, check


def _folders() -> list[tuple[str, str]]:
    """Return (row, what the folder holds): a folder of assets/, or a row whose sizes are others."""
    rows, shipped = presets.model_rows(), ("demo-model", "demo-sana")
    own = {"demo": "demo-model", "demo-sana": "demo-sana"}
    found = [(row, folder) for row in rows for folder in shipped if own.get(row) != folder]
    others = [row for row in rows if (PRESETS / row / "model_index.json").exists()]
    found += [(row, f"{other}/") for row in rows for other in others if row != other]
    return found


def _folder_case(case: tuple[str, str]) -> tuple[Callable, Callable]:
    row, other = case

    def build(folder: Path) -> tuple[Path, Path]:
        if not other.endswith("/"):
            return ASSETS / other, folder / "data"
        model = folder / "another-one"
        shutil.copytree(PRESETS / other, model)
        index = json.loads((model / "model_index.json").read_text(encoding="utf-8"))
        for part in [name for name in index if not name.startswith("_")]:
            (model / part).mkdir(exist_ok=True)
            stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
            if part in ("transformer", "vae") or part.startswith("text"):
                tensors = {"some.weight": torch.zeros(2, 2, dtype=torch.bfloat16)}
                save_file(tensors, model / part / f"{stem}.safetensors")
        return model, folder / "data"

    def check(subject: tuple[Path, Path]) -> None:
        folder, data = subject
        with opened(data):
            chosen = data_dir() / "models.json"
            error = refusal(lambda: sources.select_model(presets.model_row(row), [folder]))
            demand(error is not None, f"{row} takes a folder of {other}")
            title = presets.model_row(row).title
            demand_named(error, title, str(folder), folder.name)
            demand(not chosen.exists() or chosen.read_text() == "{}\n", "chosen all the same")

    return build, check


def _right_case(number: int) -> tuple[Callable, Callable]:
    """The right folders are taken: refusing everything would be no use."""

    def build(folder: Path) -> Any:
        if number == 2:
            return ROW, copy_comfy(folder), folder / "data"
        row = ("demo", "demo-sana")[number]
        model = shutil.copytree(configs_folder(presets.model_row(row)), folder / "model")
        return row, Path(model), folder / "data"

    def check(subject: tuple[str, Path, Path]) -> None:
        row, folder, data = subject
        with opened(data):
            source = sources.select_model(presets.model_row(row), [folder])
            demand(get_family(source.row.family) is not None, "no family")
            demand(source.fingerprint(), "no fingerprint")

    return build, check
