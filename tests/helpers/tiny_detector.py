"""A tiny D-FINE of random weights, which sees a cat in every photo, or nothing."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    RTDetrImageProcessorPil,
)

from blockskip.core.repositories import tool_row
from blockskip.models.sources import hub

CAT = 15
COCO = {0: "person", 14: "bird", 15: "cat", 16: "dog", 17: "horse", 57: "couch", 65: "remote"}
NAMES = {n: COCO.get(n, f"thing {n}") for n in range(80)}


def build() -> DFineForObjectDetection:
    """Return the real class, with 113 thousand random weights."""
    torch.manual_seed(0)
    backbone = HGNetV2Config(
        hidden_sizes=[8, 8, 16, 16],
        stem_channels=[3, 4, 4],
        stage_in_channels=[4, 8, 8, 16],
        stage_mid_channels=[4, 4, 4, 4],
        stage_out_channels=[8, 8, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1] * 4,
        use_learnable_affine_block=True,
        stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5],
        embedding_size=8,
        out_indices=[2, 3, 4],
        layer_type="basic",
    )
    config = DFineConfig(
        backbone_config=backbone,
        id2label=NAMES,
        label2id={name: n for n, name in NAMES.items()},
        d_model=32,
        encoder_hidden_dim=32,
        encoder_in_channels=[8, 16, 16],
        decoder_in_channels=[32, 32, 32],
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_layers=2,
        decoder_n_points=[3, 6, 3],
        num_queries=20,
        hidden_expansion=0.5,
        depth_mult=0.34,
        lqe_hidden_dim=8,
    )
    return DFineForObjectDetection(config).eval()


@cache
def published(cat_bias: float = 2.0) -> dict[str, bytes]:
    """Return the files of its repository. cat_bias: how sure it is of cats; nothing else is seen."""
    model = build()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for layer in model.model.decoder.class_embed:
            layer.weight.zero_()
            layer.bias.fill_(-8.0)
            layer.bias[CAT] = cat_bias
        for layer in model.model.decoder.lqe_layers:
            for weight in layer.parameters():
                weight.zero_()
        model.save_pretrained(folder)
        RTDetrImageProcessorPil().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def install(cat_bias: float = 2.0) -> None:
    """Put it where a download is."""
    folder = hub.download_folder(tool_row("detector"))
    folder.mkdir(parents=True)
    for name, data in published(cat_bias).items():
        (folder / name).write_bytes(data)
    hub._write_manifest(folder, {"files": {}, "listed": [], "whole": True})
