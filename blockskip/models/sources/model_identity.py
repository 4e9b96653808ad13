"""Compare a model folder with what its row says the model is: classes, blocks and widths.

The published configs are in presets/<row>/. Models that differ in their weights alone, such as
FLUX.1-dev and FLUX.1 Krea, cannot be told apart by them.
"""

from __future__ import annotations

from pathlib import Path

from blockskip.core.errors import BadFile, command
from blockskip.core.presets import ModelRow, model_rows
from blockskip.models.sources.layouts import (
    configs_folder,
    index_file,
    read_config,
    read_index,
)

# settings of diffusers' and transformers' configs that a part's weights have their shapes from
_SIZES = frozenset(
    (
        *("num_layers", "num_single_layers", "num_attention_heads", "attention_head_dim"),
        *(
            "in_channels",
            "out_channels",
            "joint_attention_dim",
            "pooled_projection_dim",
            "flow_map",
        ),
        *("guidance_embeds", "num_cross_attention_heads", "cross_attention_head_dim"),
        *("cross_attention_dim", "caption_channels", "caption_projection_dim", "patch_size"),
        *("mlp_ratio", "dual_attention_layers", "pos_embed_max_size", "qk_norm"),
        *("dim", "n_layers", "n_refiner_layers", "n_heads", "n_kv_heads", "cap_feat_dim"),
        *("approximator_num_channels", "approximator_hidden_dim", "approximator_layers"),
        *("hidden_size", "num_hidden_layers", "intermediate_size", "num_key_value_heads"),
        *("head_dim", "vocab_size", "projection_dim", "d_model", "d_ff", "d_kv", "num_heads"),
        *("latent_channels", "block_out_channels", "layers_per_block", "z_dim", "base_dim"),
        *("dim_mult", "encoder_block_out_channels", "decoder_block_out_channels"),
    )
)
# settings of a VAE that change the latents, not their shape
_SCALES = ("scaling_factor", "shift_factor")


def check_folder(row: ModelRow, folder: Path) -> None:
    """Raise BadFile if the folder, in diffusers' layout, holds another model than the row's. It
    names that model and the row that fits. Reads only configs."""
    difference = _difference(row, folder)
    if not difference:
        return
    others = (other for other in model_rows().values() if other.name != row.name)
    fitting = next((other for other in others if not _difference(other, folder)), None)
    if fitting is None:
        raise BadFile(
            f"{folder} does not hold {row.title}: {difference}.",
            f"Choose a folder of {row.title}, or download it: {command('models fetch')} {row.name}",
        )
    raise BadFile(
        f"{folder} does not hold {row.title}: this is {fitting.title} ({difference}).",
        f"Use {command('models use')} {fitting.name} FOLDER, or choose a folder of {row.title}.",
    )


def _difference(row: ModelRow, folder: Path) -> str:
    """Return the first difference between a folder and a row, "" if there is none. Models without
    published configs are not compared."""
    published = configs_folder(row)
    if not index_file(published) or published.resolve() == folder.resolve():
        return ""
    theirs, ours = (read_index(f) for f in (folder, published))
    if not row.sibling_of and theirs.get("_class_name") != ours["_class_name"]:
        return f"its pipeline is {theirs.get('_class_name')}, not {ours['_class_name']}"
    options = () if row.sibling_of else [n for n, v in ours.items() if isinstance(v, bool)]
    for option in options:
        if theirs.get(option, ours[option]) != ours[option]:  # Krea 2 Turbo's is_distilled
            return f"its pipeline has {option} = {theirs[option]}, not {ours[option]}"
    for part in row.parts:
        found = theirs.get(part)
        name = found[-1] if isinstance(found, list) and found else None
        # the classes of a text encoder differ in the head, which is not used
        if name is None or not part.startswith("text_encoder") and name != ours[part][-1]:
            return f"its {part} is {name or 'missing'}, not {ours[part][-1]}"
        path = folder / part / "config.json"
        if not path.exists():
            return f"{part}/config.json is missing"
        difference = _size_difference(read_config(path), read_config(published / part / path.name))
        if difference:
            return f"its {part} has {difference}"
    return ""


def _size_difference(found: dict, published: dict) -> str:
    """Return the first setting that differs, "" if there is none."""
    found, published = _flat(found), _flat(published)
    for key, wanted in published.items():
        if key == "model_type" or key in _SIZES or key in _SCALES:
            value = found.get(key, wanted)
            if not _equal(value, wanted):
                return f"{key} = {value}, not {wanted}"
    if "quantization_config" in found:
        method = found["quantization_config"]
        method = method.get("quant_method") if isinstance(method, dict) else method
        if method != "fp8":
            return f"weights packed with {method}, which cannot be read here"
    return ""


def _flat(config: dict) -> dict:
    """Return a config with the settings of the language model in it among its own."""
    nested = config.get("text_config")
    return nested | config if isinstance(nested, dict) else config


def _equal(value: object, wanted: object) -> bool:
    if isinstance(value, list | tuple) and isinstance(wanted, list | tuple):
        return list(value) == list(wanted)
    return value == wanted
