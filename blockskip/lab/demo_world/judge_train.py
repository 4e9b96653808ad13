"""Train the judge to tell look-alikes apart and to recognise the same pet in any scene.

The loss is supervised contrastive (Khosla et al. 2020, eq. 2) over batches of families of
look-alikes, plus cross-entropy on every attribute. It runs in one thread. Time is counted in CPU
minutes, so a busy machine makes it slower, not worse. A killed training resumes from its last
checkpoint.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blockskip.core import files
from blockskip.core.paths import ASSETS
from blockskip.lab.demo_world import parallel
from blockskip.lab.demo_world.judge_data import FAMILY_SIZE, Layers, lookalike_family, sprite
from blockskip.lab.demo_world.world import Pet
from blockskip.runs.demo_judge import DEFAULT_PATH, HEADS, Judge, JudgeNet, load_judge, save_judge

log = logging.getLogger(__name__)
NUM_FAMILIES = 2200
FAMILIES_A_BATCH = 8
VIEWS = 4
TEMPERATURE = 0.1
ANSWER_WEIGHT = 4.0
LR = 3e-3
CHECKPOINT_S = 60.0  # wall clock
EVIDENCE = ASSETS / "evidence" / "demo-judge.json"


def training_pets(seed: int, num_families: int = NUM_FAMILIES) -> list[Pet]:
    """Return the pets of all families in order."""
    rng = np.random.default_rng([seed, 31])
    return [pet for _ in range(num_families) for pet in lookalike_family(rng)]


def _sprites(work: Path, pets: list[Pet], seed: int) -> np.ndarray:
    """Return sprites (pets, 96, 96, 3), drawn once and cached in ``work``."""
    path = work / f"sprites-{seed}-{len(pets)}.npy"
    if not path.exists():
        drawn = np.stack([sprite(pet) for pet in pets])
        with parallel.atomic_file(path) as file:
            np.save(file, drawn)
    return np.load(path, mmap_mode="r")


def contrastive_loss(embedding: Tensor, pets: Tensor) -> Tensor:
    """Return the supervised contrastive loss of embeddings (B, E) with pet indices (B,): the mean
    −log softmax share of the same pet's other pictures."""
    same = pets[:, None] == pets[None]
    self_mask = torch.eye(len(pets), dtype=torch.bool)
    logits = (embedding @ embedding.T / TEMPERATURE).masked_fill(self_mask, -1e9)
    share = logits - logits.logsumexp(1, keepdim=True)
    positive = same & ~self_mask
    return -(share * positive).sum(1).div(positive.sum(1)).mean()


def attribute_loss(logits: dict[str, Tensor], right: Tensor) -> Tensor:
    """Return the mean cross-entropy over the questions. Inapplicable ones (-1) do not count."""
    losses = [
        F.cross_entropy(logits[name], right[:, k], ignore_index=-1, label_smoothing=0.02)
        for k, name in enumerate(HEADS)
    ]
    return torch.stack(losses).nan_to_num().mean()


def _batch(layers: Layers, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    families = rng.choice(len(layers.labels) // FAMILY_SIZE, FAMILIES_A_BATCH, replace=False)
    pets = (families[:, None] * FAMILY_SIZE + np.arange(FAMILY_SIZE)).reshape(-1).repeat(VIEWS)
    pictures, right = layers.draw(pets, rng)
    return pictures, right, torch.from_numpy(pets)


def _rate(done: float) -> float:
    """Return the learning rate at the share ``done`` of the training: warm-up, then half a
    cosine."""
    return LR * min(1.0, done / 0.04 + 0.02) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Training:
    """The network, optimiser and elapsed time, saved as one checkpoint."""

    def __init__(self, work: Path, seed: int) -> None:
        """Resume from ``work``/judge.pt if it exists."""
        torch.manual_seed(seed)
        self.path, self.step, self.spent_s = work / "judge.pt", 0, 0.0
        self.net = JudgeNet().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), LR, (0.9, 0.98), weight_decay=0.03
        )
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.spent_s = state["step"], state["spent_s"]

    def save(self) -> None:
        state = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        parallel.save(state | {"step": self.step, "spent_s": self.spent_s}, self.path)

    def learn(self, layers: Layers, seed: int, seconds: float) -> None:
        """Train until ``seconds`` of CPU time are spent in total."""
        began, saved, earlier = time.process_time(), time.monotonic(), self.spent_s
        self.net.train()
        while self.spent_s < seconds:
            for group in self.optimizer.param_groups:
                group["lr"] = _rate(self.spent_s / seconds)
            pictures, right, pets = _batch(layers, np.random.default_rng([seed, 7, self.step]))
            embedding, logits = self.net(pictures.contiguous(memory_format=torch.channels_last))
            contrastive, attributes = (
                contrastive_loss(embedding, pets),
                attribute_loss(logits, right),
            )
            self.optimizer.zero_grad(set_to_none=True)
            (contrastive + ANSWER_WEIGHT * attributes).backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
            self.optimizer.step()
            self.step += 1
            self.spent_s = earlier + time.process_time() - began
            if self.step % 20 == 0:
                log.info(
                    "step %d, %.0f of %.0f s: contrastive %.3f, attributes %.3f",
                    self.step,
                    self.spent_s,
                    seconds,
                    contrastive,
                    attributes,
                )
            if time.monotonic() - saved > CHECKPOINT_S:
                saved = time.monotonic()
                self.save()
        self.save()


def train_judge(
    work: Path,
    out: Path = DEFAULT_PATH,
    minutes: float = 15.0,
    seed: int = 0,
    evidence: Path = EVIDENCE,
) -> Judge:
    """Train for ``minutes`` of one CPU core, evaluate on held-out pets, write ``out``; resumable.

    ``work`` keeps sprites and checkpoints. The evaluation's figures go into the file's metadata and
    into the JSON file ``evidence``.
    """
    from blockskip.lab.demo_world.judge_report import evaluate_judge

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work.mkdir(parents=True, exist_ok=True)
        pets = training_pets(seed)
        training = Training(work, seed)
        if training.spent_s < 60 * minutes:
            layers = Layers.paint(pets, _sprites(work, pets, seed))
            training.learn(layers, seed, 60 * minutes)
        facts = {"minutes": minutes, "seed": seed, "steps": training.step, "pets": len(pets)}
        save_judge(training.net, facts, out)
        report = evaluate_judge(load_judge(out))  # with the rounded weights that are shipped
        save_judge(training.net, {**facts, **report}, out)
        files.write_json(evidence, {"command": "blockskip lab pretrain-demo", **facts, **report})
        return load_judge(out)
    finally:
        torch.set_num_threads(threads)
