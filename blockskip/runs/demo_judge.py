"""The judge, the only measure of quality for the demo model (docs/method.md §4).

A small convolutional network, trained on the demo world by `judge_train.py` and shipped, looks at a
64 px picture and separately at the region of the head, where the eyes are. It outputs a pet's
identity (a unit-length embedding in which background and accessories do not matter) and the
picture's attributes (species, coat, place, …). It only works for the demo world. Its scores are
neither DINO nor CLIP scores, and are never called so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from blockskip.core import safetensors_files
from blockskip.core.errors import BadFile, BadInput, BadPhoto, UserError, command
from blockskip.core.paths import ASSETS
from blockskip.core.presets import model_row
from blockskip.data.demo_vocabulary import (
    ACCESSORIES,
    BACKGROUNDS,
    EYES,
    FUR,
    PATTERNS,
    SPECIES,
    WEAR,
)
from blockskip.data.photos import find_photos, open_photo
from blockskip.runs.run import Run

SIDE_PX = 64  # px, the demo model's own size
HEAD_CROP = (slice(6, 42), slice(14, 50))  # rows, columns of the head's region in 64 px pictures
EMBEDDING_DIM = 128
NO_YES = ("no", "yes")
# attributes and their values; left and right eye refer to the picture, mirrored or not
HEADS: dict[str, tuple[str, ...]] = {
    "species": SPECIES,
    "coat": tuple(FUR),
    "pattern": PATTERNS,
    "second": tuple(FUR),
    "mark": tuple(FUR),
    "eye_left": tuple(EYES),
    "eye_right": tuple(EYES),
    "blaze": NO_YES,
    "star": NO_YES,
    "patch": NO_YES,
    "socks": NO_YES,
    "background": BACKGROUNDS,
    "accessory": ACCESSORIES,
    "wear": tuple(WEAR),
}
DEFAULT_PATH = ASSETS / "demo-judge" / "judge.safetensors"


def _block(width_in: int, width_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(),
    )


def _branch(plan: Sequence[tuple[int, int]], flat: int, features: int) -> nn.Sequential:
    """Build blocks of (width, stride) and a linear layer.

    Positions are not pooled, since pets sit in the same place.
    """
    layers, width = [], 3
    for after, stride in plan:
        layers.append(_block(width, after, stride))
        width = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, features))


class JudgeNet(nn.Module):
    """Network from pictures (B, 3, 64, 64) in [-1, 1] to embedding (B, 128) and logits
    {attribute: (B, choices)}."""

    def __init__(self, features: int = 160) -> None:
        super().__init__()
        picture = ((24, 2), (48, 2), (64, 1), (96, 2), (96, 1), (96, 2))  # 64 → 4 px
        head = ((16, 1), (32, 2), (48, 1), (96, 2), (64, 2))  # 36 → 5 px
        self.whole = _branch(picture, 96 * 4 * 4, features)
        self.head = _branch(head, 64 * 5 * 5, features)
        self.norm = nn.BatchNorm1d(2 * features)
        self.identity = nn.Linear(2 * features, EMBEDDING_DIM)
        self.answers = nn.ModuleDict(
            {name: nn.Linear(2 * features, len(choices)) for name, choices in HEADS.items()}
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the unit-length embedding and the logits by attribute."""
        rows, columns = HEAD_CROP
        parts = self.whole(pictures), self.head(pictures[:, :, rows, columns])
        features = F.relu(self.norm(torch.cat(parts, 1)))  # (B, 320)
        embedding = F.normalize(self.identity(features), dim=1)
        return embedding, {name: answer(features) for name, answer in self.answers.items()}


def to_pixels(image: Image.Image) -> np.ndarray:
    """Crop a picture to its central square and scale it to 64 px: uint8 (64, 64, 3)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    if side != SIDE_PX:
        square = square.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(square)


class Judge:
    """The trained judge. It is deterministic and runs on the CPU."""

    def __init__(self, net: JudgeNet, facts: dict) -> None:
        """facts: metadata such as its training and its accuracy on held-out pets."""
        self.net, self.facts = net.eval().requires_grad_(False), facts

    @torch.no_grad()
    def _predict(self, images: Sequence[Image.Image]) -> tuple[Tensor, dict[str, Tensor]]:
        if not images:
            raise ValueError("the judge was given no picture")
        pixels = torch.from_numpy(np.stack([to_pixels(image) for image in images]))
        pictures = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        outputs = [self.net(chunk) for chunk in pictures.split(64)]
        logits = {name: torch.cat([part[1][name] for part in outputs]) for name in HEADS}
        return torch.cat([part[0] for part in outputs]), logits

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Compute identity embeddings (B, 128) of unit length."""
        return self._predict(images)[0]

    def identity(self, images: Sequence[Image.Image], photos: Sequence[Image.Image]) -> Tensor:
        """Compute the mean cosine (B,) between each picture and the photos of a pet."""
        return (self.embed(images) @ self.embed(photos).T).mean(1)

    def probabilities(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Compute probabilities (B, choices) by attribute, in the order of `HEADS`."""
        return {name: logits.softmax(1) for name, logits in self._predict(images)[1].items()}

    def attributes(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """Return each picture's attributes in the vocabulary of the demo world; "none" if one does
        not apply."""
        best = {name: p.argmax(1).tolist() for name, p in self.probabilities(images).items()}
        return [
            _blank_unused({name: HEADS[name][best[name][k]] for name in HEADS})
            for k in range(len(images))
        ]


def _blank_unused(attributes: dict[str, str]) -> dict[str, str]:
    if attributes["accessory"] == "none":
        attributes["wear"] = "none"
    if attributes["pattern"] == "solid" and attributes["patch"] == "no":
        attributes["second"] = "none"
    if (attributes["blaze"], attributes["star"], attributes["socks"]) == ("no", "no", "no"):
        attributes["mark"] = "none"
    return attributes


def save_judge(net: JudgeNet, facts: dict, path: Path) -> None:
    """Write weights in half precision (2 MB), with `facts` as metadata."""
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }
    safetensors_files.save_tensors(path, state, {"judge": json.dumps(facts, sort_keys=True)})


def load_judge(path: Path = DEFAULT_PATH) -> Judge:
    """Load the shipped judge or another one. Raises UserError if the file is missing or foreign."""
    if not path.exists():
        raise BadFile(
            f"The demo model's judge is missing ({path}).",
            f"Download BlockSkip Studio again, or make it: {command('lab pretrain-demo')}",
        )
    facts = safetensors_files.read_metadata(path).get("judge")
    if facts is None:
        raise BadFile(f"{path.name} is not a judge.", "Name the file judge.safetensors.")
    net = JudgeNet()
    net.load_state_dict(
        {
            name: value.float() if value.is_floating_point() else value
            for name, value in safetensors_files.load_tensors(path).items()
        }
    )
    return Judge(net, json.loads(facts))


def judge_and_photos(run: Run) -> tuple[Judge, list[Image.Image]]:
    """Return the judge and a run's photos. Raises UserError if the run is not on the demo model."""
    if not model_row(run.settings().model).demo:
        raise BadInput(
            f"Run “{run.name}” trains {run.settings().model}, which the demo judge cannot judge.",
            "Evaluate a run on the demo model.",
        )
    photos = []
    for path in find_photos([run.photos_dir]):
        try:
            photos.append(open_photo(path))
        except UserError:  # reported when the run started
            continue
    if not photos:
        raise BadPhoto(
            f"Run “{run.name}” has no photo that can be opened.",
            "Restore the run's folder photos/.",
        )
    return load_judge(), photos
