"""Kohya's names hold exactly the updates of diffusers' names; every linear of FLUX has a place."""

import pytest
import torch
from helpers.tiny import tiny_flux
from torch import nn

from blockskip.models.lora.flux_names import exported_layers, exported_tensors, is_comfy_key

WIDTH = 48


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def lora_for(model: nn.Module, keep=lambda name: True, rank: int = 3) -> dict[str, torch.Tensor]:
    """A random LoRA on the kept linears; every second one has another rank."""
    source, lora = torch.Generator().manual_seed(5), {}
    for index, (name, linear) in enumerate(linears(model).items()):
        if keep(name):
            own = rank + index % 2
            lora[f"transformer.{name}.lora_A.weight"] = torch.randn(
                own, linear.in_features, generator=source
            )
            lora[f"transformer.{name}.lora_B.weight"] = torch.randn(
                linear.out_features, own, generator=source
            )
    return lora


def update(lora: dict, module: str, rows: int) -> torch.Tensor:
    """B·A of a diffusers module, zeros (rows, 48) where it has no LoRA."""
    key = f"transformer.{module}.lora_%s.weight"
    if key % "A" not in lora:
        return torch.zeros(rows, WIDTH)
    return lora[key % "B"] @ lora[key % "A"]


def fused(kohya: dict, layer: str) -> torch.Tensor:
    down, up = kohya[f"{layer}.lora_down.weight"], kohya[f"{layer}.lora_up.weight"]
    return up @ down * (kohya[f"{layer}.alpha"] / down.shape[0])


def test_every_linear_of_flux_has_a_place():
    names = linears(tiny_flux(guidance=True))
    assert len(names) == 2 * 14 + 4 * 6 + 10
    assert [n for n in names if not is_comfy_key(n)] == []
    for wrong in (
        "transformer_blocks.0.attn.to_x",
        "transformer_blocks.x.attn.to_q",
        "attn.to_q",
        "single_transformer_blocks.0.attn.to_out.0",
        "transformer_blocks.0.proj_out",
        "unet.transformer_blocks.0.attn.to_q",
        "",
    ):
        assert not is_comfy_key(wrong), wrong
        with pytest.raises(KeyError):
            exported_layers("kohya", [wrong])


@pytest.mark.parametrize(
    "keep",
    [
        lambda n: True,
        lambda n: "attn" in n,
        lambda n: n.endswith(("to_k", "proj_mlp", "add_v_proj")),
        lambda n: n.startswith("single_transformer_blocks.3.attn.to_v"),
    ],
    ids=["all", "attention", "some parts", "one part"],
)
def test_updates_survive_the_fusion_exactly(keep):
    lora = lora_for(tiny_flux(guidance=True), keep)
    kohya = exported_tensors("kohya", lora, WIDTH)
    layers = {name.split(".")[0] for name in kohya}
    modules = {n.removeprefix("transformer.").rsplit(".lora_", 1)[0] for n in lora}
    assert layers == exported_layers("kohya", modules)
    for layer in layers:
        assert kohya[f"{layer}.alpha"] == kohya[f"{layer}.lora_down.weight"].shape[0]
        parts = EXPECTED[layer] if layer in EXPECTED else block_parts(layer)
        whole = (
            torch.cat([update(lora, m, rows) for m, rows in parts])
            if len(parts) > 1
            else (
                lora[f"transformer.{parts[0][0]}.lora_B.weight"]
                @ lora[f"transformer.{parts[0][0]}.lora_A.weight"]
            )
        )
        if layer == "lora_unet_final_layer_adaLN_modulation_1":
            whole = whole.roll(WIDTH, 0)  # (scale, shift) → (shift, scale)
        torch.testing.assert_close(fused(kohya, layer), whole, rtol=1e-5, atol=1e-5)


def block_parts(layer: str) -> list[tuple[str, int]]:
    """What Black Forest Labs' fused layer is made of, written down here a second time."""
    kind, _, rest = layer.removeprefix("lora_unet_").partition("_blocks_")
    index, _, name = rest.partition("_")
    prefix = "transformer_blocks." if kind == "double" else "single_transformer_blocks."
    parts = {
        "img_attn_qkv": [("attn.to_q", 48), ("attn.to_k", 48), ("attn.to_v", 48)],
        "txt_attn_qkv": [("attn.add_q_proj", 48), ("attn.add_k_proj", 48), ("attn.add_v_proj", 48)],
        "linear1": [("attn.to_q", 48), ("attn.to_k", 48), ("attn.to_v", 48), ("proj_mlp", 192)],
        "linear2": [("proj_out", 48)],
        "modulation_lin": [("norm.linear", 144)],
        "img_attn_proj": [("attn.to_out.0", 48)],
        "txt_attn_proj": [("attn.to_add_out", 48)],
        "img_mod_lin": [("norm1.linear", 288)],
        "txt_mod_lin": [("norm1_context.linear", 288)],
        "img_mlp_0": [("ff.net.0.proj", 192)],
        "img_mlp_2": [("ff.net.2", 48)],
        "txt_mlp_0": [("ff_context.net.0.proj", 192)],
        "txt_mlp_2": [("ff_context.net.2", 48)],
    }[name]
    return [(f"{prefix}{index}.{part}", rows) for part, rows in parts]


EXPECTED = {
    f"lora_unet_{kohya}": [(name, 0)]
    for kohya, name in {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "time_in_in_layer": "time_text_embed.timestep_embedder.linear_1",
        "time_in_out_layer": "time_text_embed.timestep_embedder.linear_2",
        "vector_in_in_layer": "time_text_embed.text_embedder.linear_1",
        "vector_in_out_layer": "time_text_embed.text_embedder.linear_2",
        "guidance_in_in_layer": "time_text_embed.guidance_embedder.linear_1",
        "guidance_in_out_layer": "time_text_embed.guidance_embedder.linear_2",
        "final_layer_adaLN_modulation_1": "norm_out.linear",
        "final_layer_linear": "proj_out",
    }.items()
}


def test_half_a_pair_is_refused():
    lora = lora_for(tiny_flux(single=1), lambda n: "to_q" in n)
    lora.pop("transformer.transformer_blocks.0.attn.to_q.lora_B.weight")
    with pytest.raises(KeyError, match="to_q.lora_B"):
        exported_tensors("kohya", lora, WIDTH)


@pytest.mark.parametrize(
    "parts",
    [
        ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        ("attn.to_q", "attn.to_k", "attn.to_v"),
        ("attn.to_k",),
    ],
)
def test_diffusers_undoes_the_fusion_of_single_blocks(parts):
    """At FLUX's true width, the only one diffusers converts single blocks of."""
    from diffusers import FluxPipeline

    width, source, lora = 3072, torch.Generator().manual_seed(3), {}
    for part in parts:
        name = f"transformer.single_transformer_blocks.37.{part}"
        rows = 4 * width if part == "proj_mlp" else width
        lora[f"{name}.lora_A.weight"] = torch.randn(4, width, generator=source)
        lora[f"{name}.lora_B.weight"] = torch.randn(rows, 4, generator=source)
    back = FluxPipeline.lora_state_dict(exported_tensors("kohya", lora, width))
    assert len(back) == 8, "diffusers always makes all four parts"
    probe = torch.randn(width, 2, generator=source)
    for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"):
        name = f"transformer.single_transformer_blocks.37.{part}.lora_%s.weight"
        found = back[name % "B"] @ (back[name % "A"] @ probe)
        if part in parts:
            torch.testing.assert_close(
                found, lora[name % "B"] @ (lora[name % "A"] @ probe), rtol=1e-4, atol=1e-3
            )
        else:
            assert not found.any()
