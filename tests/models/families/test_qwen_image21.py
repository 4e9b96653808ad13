"""Qwen-Image-2.1's pipeline, tiny and random."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
)
from helpers import family_checks as checks
from helpers.family_cases import CASES
from helpers.sibling_checks import check_sibling
from helpers.tiny import randomise
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from blockskip.core import safetensors_files
from blockskip.core.settings import Settings
from blockskip.data.photos import Photo
from blockskip.data.schedule import build_schedule
from blockskip.models.families.base import Text
from blockskip.models.families.qwen_image21 import TextProcessor
from blockskip.training import encode
from blockskip.training.draws import TrainingData
from blockskip.training.front_output import CAPTION, TEXT, with_text
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span, compute_window
from blockskip.training.trainer import Trainer
from blockskip.training.windows import load_rows, save_window

ROW = checks.tiny_row("qwen_image21", ("transformer", "text_encoder", "vae"))
TOKENS, SIDE = 24, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    words = checks.tokenizer(
        PreTrainedTokenizerFast,
        [*checks.WORDS, "user", "assistant", "system", "prompt"],
        unk_token="<unk>",
        pad_token="<pad>",
    )
    words.add_tokens(["<|im_start|>", "<|im_end|>", "<|image_pad|>"], special_tokens=True)
    text = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 20,
                "intermediate_size": 16,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 10,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 2, 2]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 20,
                "deepstack_visual_indexes": [0],
            },
        )
    )
    vae = AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=8,
        z_dim=6,
        dim_mult=[1, 1, 2, 2, 2],
        num_res_blocks=1,
        latents_mean=[-0.2, 0.1, 0.3, 0.0, 0.5, -0.4],
        latents_std=[0.5, 2.0, 1.5, 1.0, 0.7, 1.1],
    )
    pipe = QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02, use_dynamic_shifting=True
        ),
        vae=vae.eval(),
        text_encoder=text.eval(),
        processor=TextProcessor(words),
        transformer=CASES["qwen_image21"].model(),
    )
    path = tmp_path_factory.mktemp("tränsformer") / "tiny qwen image 2.1"
    pipe.save_pretrained(path)
    index = json.loads((path / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen3VLProcessor"]  # as published
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_text(folder):
    checks.check_text(ROW, folder, TOKENS)


def test_captions_are_the_librarys(folder):
    family, pipe = checks.opened(ROW, folder)
    text = encode.encode_captions(family, pipe, checks.CAPTIONS, TOKENS)
    whole = family.load(folder, torch.float32)
    with torch.no_grad():
        embeds, mask, _ = whole.encode_prompt(list(checks.CAPTIONS))
    length = embeds.shape[1]
    assert len(set(mask.sum(1).tolist())) == 3 and length < TOKENS
    torch.testing.assert_close(text.embeds[:, :length], embeds, atol=1e-5, rtol=1e-4)
    assert torch.equal(text.pooled_or_mask[:, :length], mask.float())
    assert not text.pooled_or_mask[:, length:].any() and not text.embeds[:, length:].any()


def test_pictures(folder):
    """The library's are made with its cache of the text's keys."""
    negative = ["", ""]
    checks.check_pictures(
        ROW, folder, TOKENS, SIDE, 3.0, negative_prompt=negative, true_cfg_scale=3.0
    )


def test_latents(folder):
    checks.check_latents(ROW, folder, SIDE)


def test_training(folder, tmp_path):
    checks.check_training(ROW, folder, tmp_path, TOKENS, SIDE)


def test_export(folder, tmp_path):
    checks.check_export(ROW, folder, tmp_path, Span(1, 2), "attention+ff")


def test_blocks_make_the_same_of_a_caption_at_every_t_and_for_every_picture():
    """To the bit, with any LoRA; but for the order of sums in a picture of another side too."""
    case = CASES["qwen_image21"]
    model, family = case.model(), case.family
    randomise(add_lora(model, family, Span(0, 0), 4, "attention+ff", seed=0))
    found, mask = [], (torch.arange(7) < 5).float()[None]
    caption = Text(torch.randn(1, 7, 20), mask)
    for _, block in family.blocks(model):
        block.register_forward_hook(lambda *given: found.append(given[-1]))
    for side, t in ((64, 0.1), (64, 0.9), (64, 0.9), (128, 0.9)):
        noisy = torch.randn(1, (side // 16) ** 2, 6)
        with torch.no_grad():
            model(**family.inputs(model.config, noisy, caption, torch.tensor([t]), side))
    first, *others, large = (found[start : start + 6] for start in range(0, 24, 6))
    for n, one in enumerate(first):
        assert all(torch.equal(other[n][:, :7], one[:, :7]) for other in others)
        assert not any(torch.equal(other[n][:, 7:], one[:, 7:]) for other in others)
        torch.testing.assert_close(large[n][:, :7], one[:, :7])


def test_a_windows_file_has_a_captions_text_once(tmp_path):
    case, span = CASES["qwen_image21"], Span(2, 1)
    model, family, draws = case.model(), case.family, case.draws()
    draws = dataclasses.replace(draws, text=draws.text.rows([0, 1, 0, 2, 1]))
    window = compute_window(model, family, span, draws, 2, checks.CPU)
    assert window[TEXT].shape == (3, 7, 48) and window[CAPTION].tolist() == [0, 1, 0, 2, 1]
    family.text_is_static = False
    plain = compute_window(model, family, span, draws, 2, checks.CPU)
    torch.testing.assert_close(with_text(window), plain)
    save_window(tmp_path / "window", window, "stamp")
    for rows in (slice(0, 2), slice(1, 5)):
        read = load_rows(tmp_path / "window", rows.start, rows.stop, checks.CPU)
        assert read.keys() == plain.keys()
        assert all(torch.equal(read[n], t[rows]) for n, t in with_text(window).items())
    stored = (tmp_path / "window").read_bytes()
    at = stored.index(window[TEXT][2].numpy().tobytes()[:64])
    (tmp_path / "window").write_bytes(stored[:at] + b"?" + stored[at + 1 :])
    with pytest.raises(safetensors_files.Damaged):
        load_rows(tmp_path / "window", 3, 4, checks.CPU)


def trainer(folder) -> Trainer:
    """A trainer of the tiny transformer, whose windows begin with steps 0, 3 and 6."""
    settings = Settings.of(
        s_min_px=64,
        s_max_px=128,
        steps=7,
        batch=2,
        accumulation=2,
        front=2,
        back=1,
        window_steps=3,
        micro_batch=3,
        rank=4,
        lr=3e-3,
        prior=0.3,
    )
    photo = Photo(path=Path("a.png"), caption="a cat", width=160, height=128, sha="")
    draws, case = build_schedule([photo] * 2, settings, 32), CASES["qwen_image21"]
    torch.manual_seed(3)
    captions = Text(
        torch.randn(3, 7, 20), (torch.arange(7) < torch.tensor([[7], [4], [6]])).float()
    )
    data = TrainingData(draws, torch.randn(len(draws), *case.latent), captions, [0, 1], 2, 2)
    return Trainer(case.model(), case.family, settings, data, checks.CPU, folder, "a run")


def test_a_resumed_run_gives_the_uninterrupted_runs_bytes(tmp_path, monkeypatch):
    """Also from a window that is there; a window of another LoRA is made again."""
    whole, first = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    expected = [event.loss for event in whole.run()]
    whole.save(tmp_path / "whole")
    start = [event.loss for _, event in zip(range(4), first.run(), strict=False)]
    first.save(tmp_path / "cut")
    again = trainer(tmp_path / "b")
    again.load(tmp_path / "cut")
    made, compute = [], Trainer.window_features
    monkeypatch.setattr(
        Trainer, "window_features", lambda *given: made.append(given[1]) or compute(*given)
    )
    assert start + [event.loss for event in again.run()] == expected
    assert [rows.start for rows in made] == [24], "the last window alone"
    again.save(tmp_path / "resumed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_sibling(folder, tmp_path):
    check_sibling(ROW, folder, tmp_path, TOKENS, SIDE)
