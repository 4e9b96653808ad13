"""FLUX 3 Image Klein's pipeline, tiny and random, in the layout of diffusers' modular pipelines."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    Flux3DistilledModularPipeline,
    Flux3ModularPipeline,
    Flux3Transformer2DModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_flux3_lora_to_diffusers
from diffusers.modular_pipelines.flux3.encoders import Flux3TextEncoderStep
from helpers import family_checks as checks
from helpers import family_labs as labs
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from transformers import (
    AutoTokenizer,
    Qwen2TokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from blockskip.core.errors import BadFile
from blockskip.core.presets import model_row
from blockskip.models.families.base import Sampling
from blockskip.models.lora import flux3_names
from blockskip.models.sources import Source
from blockskip.models.sources.layouts import configs_folder, read_index
from blockskip.models.sources.model_identity import check_folder
from blockskip.sampling.sample import sample
from blockskip.training import encode
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window

ROW = checks.tiny_row("flux3", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 160, 24
LONG = "a photo of a cat " * 30  # needs the second window of 80 tokens


def _transformer(**changes: object) -> Flux3Transformer2DModel:
    """As the library has it: with the blocks for pictures that are given."""
    model = CASES["flux3"].whole_model(adapted=False)
    if changes:
        config = {k: v for k, v in model.config.items() if not k.startswith("_")}
        model = Flux3Transformer2DModel(**config | changes).eval()
    for mode in ("image", "txt"):  # so that blocks have a say in the picture
        for modulations in (model.early_stream_modulations, model.single_stream_modulations):
            modulations[mode].linear.weight.data.mul_(6)
    for block in model.single_transformer_blocks:
        block.attn.to_v.weight.data.mul_(20)
        block.attn.norm_q.weight.data.mul_(6)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        Qwen2TokenizerFast,
        [*checks.WORDS, "user", "assistant"],
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
    )
    words.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"
    )
    text = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 5,
                "intermediate_size": 12,
                "num_hidden_layers": 33,  # one more than are wanted
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 8,
                "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 5,
                "deepstack_visual_indexes": [0],
            },
            tie_word_embeddings=True,
        )
    )
    with torch.no_grad():  # so that words differ
        text.model.language_model.embed_tokens.weight.mul_(50)
    vae = checks.tiny_flux2_vae(3)
    return _saved(
        tmp_path_factory, Flux3ModularPipeline(), words, _transformer(), text.eval(), vae.eval()
    )


def _saved(tmp_path_factory, pipe, words, transformer, text, vae):
    pipe.update_components(tokenizer=words, transformer=transformer, text_encoder=text, vae=vae)
    path = tmp_path_factory.mktemp("tränsformer") / "tiny flux3"
    pipe.save_pretrained(str(path), overwrite_modular_index=True)
    return path


@pytest.fixture(scope="module")
def distilled(folder, tmp_path_factory):
    """A flow map, whose library pipeline has no guidance."""
    parts = _library(Flux3DistilledModularPipeline, folder)
    return _saved(
        tmp_path_factory,
        Flux3DistilledModularPipeline(),
        parts.tokenizer.tokenizer,
        _transformer(flow_map=True),
        parts.text_encoder,
        parts.vae,
    )


def _library(kind, folder):
    """The library's own pipeline. Its processor needs torchvision, which is for pictures alone."""
    pipe = kind.from_pretrained(str(folder))
    pipe.load_components(["transformer", "text_encoder", "vae"], dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(folder / "tokenizer")
    processor = SimpleNamespace(apply_chat_template=words.apply_chat_template, tokenizer=words)
    pipe.tokenizer = processor
    return pipe


def _pictures(kind, steps=2, **guider):
    """Return what makes the library's pictures, one prompt per call."""

    def of(folder, prompts, seeds):
        pipe = _library(kind, folder)
        if guider:
            pipe.update_components(guider=ClassifierFreeGuidance(**guider))
        pipe._blocks.sub_blocks.pop("prompt_upsampler")
        return [
            pipe(
                prompt=prompt,
                height=SIDE,
                width=SIDE,
                num_inference_steps=steps,
                generator=torch.Generator().manual_seed(seed),
                output="images",
            )[0]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    return of


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_pictures(folder, guidance):
    """Guided by the empty prompt, or not at all."""
    library = _pictures(Flux3ModularPipeline, guidance_scale=guidance)
    checks.check_pictures(ROW, folder, TOKENS, SIDE, guidance, theirs_of=library)


def test_pictures_of_a_flow_map(distilled):
    library = _pictures(Flux3DistilledModularPipeline)
    checks.check_pictures(ROW, distilled, TOKENS, SIDE, 3.5, theirs_of=library)


def test_every_caption_has_the_librarys_window(folder):
    """Its states there do not depend on what a longer window adds, and pictures made together are
    those that the library makes one by one."""
    family, pipe = checks.opened(ROW, folder)
    library, captions = _library(Flux3ModularPipeline, folder), [checks.CAPTIONS[0], "", LONG]
    text = encode.encode_captions(family, pipe, captions, TOKENS)
    for i, (caption, window) in enumerate(zip(captions, (80, 80, 160), strict=True)):
        theirs = Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds(
            library.text_encoder, library.tokenizer, caption
        )
        alone = family.trim_text(text.rows([i]))
        assert theirs.shape[1] == alone.embeds.shape[1] == window
        torch.testing.assert_close(alone.embeds, theirs, atol=1e-5, rtol=1e-4)
    assert family.trim_text(text).embeds.shape[1] == 160 == len(text.pooled_or_mask[0])
    sampling, rows = Sampling(SIDE, 2, 3.5), [0, 2, 0]
    ours = sample(family, pipe, text.rows(rows), text.rows([1]), sampling, [3, 4, 5], checks.CPU)
    pictures = _pictures(Flux3ModularPipeline, guidance_scale=3.5)
    for one, other in zip(
        ours, pictures(folder, [captions[i] for i in rows], [3, 4, 5]), strict=True
    ):
        assert np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max() <= 2


def test_what_pictures_are_given_for_is_not_loaded(folder):
    """Nor does any token but the first compute its modulation."""
    _, pipe = checks.opened(ROW, folder)
    names = {name for name, _ in pipe.transformer.named_parameters()}
    stored = Source(ROW, folder).tensors("transformer").keys()
    assert {name.split(".")[1] for name in stored - names} == {"image_cond"} and names < stored
    case, span = CASES["flux3"], Span(1, 2)
    window = compute_window(case.model(), case.family, span, case.draws(), 2, checks.CPU)
    assert {window[name].shape[1] for name in case.family.shared_modulation} == {1}


def test_comfyuis_names_are_those_that_the_library_reads():
    case = CASES["flux3"]
    model, family = case.model(), case.family
    lora = add_lora(model, family, Span(0, 0), 2, "attention+ff", seed=0)
    names = {name.removeprefix("transformer.").rpartition(".lora_")[0] for name in lora}
    assert len(names) == 6 * 6 and all(flux3_names.is_comfy_key(name) for name in names)
    exported = flux3_names.exported_tensors("comfyui", lora, 48)
    assert "diffusion_model.single_blocks.5.attn_out.lora_A.weight" in exported
    assert _convert_non_diffusers_flux3_lora_to_diffusers(exported) == lora
    assert flux3_names.exported_tensors("diffusers", lora, 48) is lora
    for other in ("mode_blocks.image.0.attn.to_q", "single_transformer_blocks.0.norm"):
        assert not flux3_names.is_comfy_key(other)
        with pytest.raises(KeyError):
            flux3_names.exported_layers("comfyui", [other])


def test_the_distilled_model_is_told_apart(tmp_path):
    """It has one more embedder, and is sampled otherwise."""
    row = model_row("flux3-klein")
    shutil.copytree(configs_folder(row), folder := tmp_path / "other")
    check_folder(row, folder)
    config = folder / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"flow_map": false', '"flow_map": true'))
    with pytest.raises(BadFile, match="flow_map = True"):
        check_folder(row, folder)


def test_an_index_of_parts_that_were_not_loaded_names_their_classes(folder, tmp_path):
    """As a repository has it that was saved without its weights at hand."""
    saved = json.loads((folder / "modular_model_index.json").read_text(encoding="utf-8"))
    absent = {part: [None, None, of[2]] for part, of in saved.items() if isinstance(of, list)}
    (tmp_path / "modular_model_index.json").write_text(json.dumps(saved | absent))
    found, whole = read_index(tmp_path), read_index(folder)
    for part in ("transformer", "text_encoder", "vae"):
        assert (
            found[part] == whole[part] == read_index(configs_folder(model_row("flux3-klein")))[part]
        )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


@pytest.mark.parametrize("targets", ["attention", "attention+ff"])
def test_export(folder, tmp_path, targets):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), targets)


def test_the_laboratory_works_on_it(folder, tmp_path, monkeypatch):
    sizes = {"native_px": 32, "s_min_px": 16, "s_max_px": 32, "text_tokens": 80}
    spans = {"0.3": (1, 1), "0.4": (1, 1), "0.5": (2, 1)}
    row = dataclasses.replace(ROW, blocks=(6,), width=48, spans=spans, **sizes)
    labs.register(monkeypatch, row, folder)
    labs.check_distil(row, tmp_path / "distil")
    labs.check_select(row, tmp_path / "select", monkeypatch)


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
