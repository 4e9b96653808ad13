"""DreamBooth's protocol with tiny random networks: their figures are those computed by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ViTConfig,
    ViTModel,
)

from blockskip.core.errors import UserError
from blockskip.core.paths import ASSETS
from blockskip.core.settings import Settings, settings_to_dict
from blockskip.lab.evaluation import dreambooth, embedders
from blockskip.runs.run import Run


@pytest.fixture
def networks(tmp_path):
    """Folders of a tiny DINO and a tiny CLIP, and the tokenizer's."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    dino, clip = tmp_path / "a dino", tmp_path / "a clip"
    ViTModel(ViTConfig(**sizes)).save_pretrained(dino)
    tokens = AutoTokenizer.from_pretrained(ASSETS / "demo-model" / "tokenizer")
    tokens.save_pretrained(clip)
    text = {name: sizes[name] for name in ("hidden_size", "num_attention_heads")}
    text |= {"intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": len(tokens)}
    text |= {"eos_token_id": tokens.eos_token_id, "pad_token_id": tokens.pad_token_id}
    both = CLIPConfig(text_config=text, vision_config=sizes, projection_dim=8)
    CLIPModel(both).save_pretrained(clip)
    prepare = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    for folder in (dino, clip):
        prepare.save_pretrained(folder)
    return dino, clip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run on a real model, painted by chance."""
    made = Run(tmp_path / "a run")
    made.photos_dir.mkdir(parents=True)
    for k in range(3):
        noise(k).save(made.photos_dir / f"{k}.png")
    settings = Settings.of(model="flux-dev", class_name="cat", front=19, back=10)
    made.write_info({"settings": settings_to_dict(settings)})
    monkeypatch.setattr(dreambooth, "saved_steps", lambda run: [500])
    return made


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8))


class Painter:
    """Stands for the session; remembers what it was asked."""

    asked: list[str] = []

    def __init__(self, run, exact):
        assert exact

    def generate(self, prompts, seeds, step):
        assert step == 500 and len(set(prompts)) == 1
        Painter.asked.append(prompts[0])
        return [noise(len(Painter.asked) * 100 + seed) for seed in seeds]


def test_figures_are_those_by_hand_and_painting_goes_on(networks, run, monkeypatch):
    monkeypatch.setattr(dreambooth, "ImageSession", Painter)
    monkeypatch.setattr(Painter, "asked", [])
    dino, clip = map(str, networks)
    report = dreambooth.evaluate_real(run, 2, dino, clip, prompts=3)
    assert Painter.asked == [
        "a sks cat in the jungle",
        "a sks cat in the snow",
        "a sks cat on the beach",
    ]
    folder = run.folder / "evaluation" / "step-00500"
    pictures = [Image.open(folder / f"{n:02}-{k}.png") for n in range(3) for k in range(2)]
    photos = [noise(k) for k in range(3)]
    network, prepare = AutoModel.from_pretrained(dino), AutoImageProcessor.from_pretrained(dino)

    def cls(images):
        with torch.no_grad():
            out = network(prepare(images, return_tensors="pt")["pixel_values"])
        return torch.nn.functional.normalize(out.last_hidden_state[:, 0], dim=1)

    assert report["dino"] == pytest.approx(float((cls(pictures) @ cls(photos).T).mean()), abs=2e-4)
    assert report["dino_95"][0] <= report["dino"] <= report["dino_95"][1]
    two = CLIPModel.from_pretrained(clip)
    tokens = AutoTokenizer.from_pretrained(clip)
    texts = [f"a cat {where}" for where in ("in the jungle", "in the snow", "on the beach")]
    with torch.no_grad():
        out = two(
            **tokens([t for t in texts for _ in range(2)], padding=True, return_tensors="pt"),
            pixel_values=prepare(pictures, return_tensors="pt")["pixel_values"],
        )
    by_hand = (out.image_embeds * out.text_embeds).sum(1)
    assert report["clip_t"] == pytest.approx(float(by_hand.mean()), abs=2e-4)
    assert report["by_prompt"][1]["clip_t"] == pytest.approx(float(by_hand[2:4].mean()), abs=2e-4)
    assert Image.open(report["sheet"]).height > 4 * 192

    (folder / "01-1.png").unlink()
    again = dreambooth.evaluate_real(run, 2, dino, clip, prompts=3)
    assert Painter.asked[3:] == ["a sks cat in the snow"]
    assert again["networks"] == {"dino": dino, "clip": clip}


def test_25_prompts_each_with_the_pet():
    assert len(set(dreambooth.PROMPTS)) == 25
    assert all(text.count("{}") == 1 for text in dreambooth.PROMPTS)


def test_networks_that_are_missing_or_pickled_are_refused_in_words(networks, run, tmp_path):
    dino, clip = networks
    with pytest.raises(UserError, match="a clip.*could not be loaded"):
        (clip / "model.safetensors").rename(clip / "pytorch_model.bin")
        embedders.Clip(str(clip))
    with pytest.raises(UserError, match="nowhere"):
        dreambooth.evaluate_real(run, 1, str(tmp_path / "nowhere"))
    assert not (run.folder / "evaluation").exists()
