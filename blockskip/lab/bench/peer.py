"""Train the demo model with diffusers' own script and with this program, one after the other.

The script, examples/dreambooth/train_dreambooth_lora_flux.py, is given by path, and runs in an
interpreter that has what it imports. A copy of it runs with one change: its text length of 77 tokens,
since the demo model's encoder has 32 positions. Both train a LoRA of the same rank on the same layers
of the same model, with the same photos, batch, steps, rate and threads, on the processor. Figures are
of the whole process. The judge sees pictures sampled the same way with every LoRA file.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
import torch

from blockskip.core import files, presets, stages
from blockskip.core.errors import BadInput, Unexpected
from blockskip.core.events import Done
from blockskip.core.paths import ROOT
from blockskip.core.settings import Settings
from blockskip.data.demo_photos import demo_pet
from blockskip.data.photos import find_photos, open_photo
from blockskip.lab.evaluation.demo_judge import PLACES
from blockskip.lab.measuring.process_memory import Poller
from blockskip.memory.planning.planner import choose_settings
from blockskip.models import sources
from blockskip.models.families.base import Family, Sampling, get_family
from blockskip.runs import results
from blockskip.runs.demo_judge import load_judge
from blockskip.runs.run import WORKER, create_run
from blockskip.sampling.sample import sample
from blockskip.training.lora import lora_layers
from blockskip.training.residuals import Span

CPU = torch.device("cpu")
SCRIPT = "train_dreambooth_lora_flux.py"
SCRIPT_TOKENS = re.compile(r"\b77\b")
LORA_FILE = "pytorch_lora_weights.safetensors"
PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "accelerate", "peft")
REPEATS = 8  # of the photos in the script's epoch, so that every batch is full
FIRST_SEED = 1000  # for the noise of judged pictures
MIB = 2**20
LogFn = Callable[[str], None]

# the rate of the ablation's tables, with which the demo model was studied at 300 steps
RATE = 3e-3
# name → description, options of `choose_settings`. None makes sample pictures, as the script.
OURS: dict[str, tuple[str, dict]] = {
    "ours-whole": ("ours, nothing skipped", {"skip": "0,0", "prior": 0.0, "reuse": 1}),
    "ours-half": ("ours, half skipped", {"skip": "0.5", "prior": 0.0}),
    "ours": ("ours, half skipped, draws of the bare class word", {"skip": "0.5"}),
}
ABOUT = {"script": "diffusers' script, every block", **{name: OURS[name][0] for name in OURS}}


@dataclass(frozen=True, kw_only=True)
class PeerPlan:
    """What to measure. python: an interpreter that has what the script imports. pet: index of a
    demo pet. images: pictures a prompt for the judge."""

    script: Path
    work: Path
    python: str = sys.executable
    pet: int = 0
    steps: int = 300
    seed: int = 0
    rounds: int = 1
    threads: int = 1
    images: int = 8

    def settings(self, **options: object) -> Settings:
        """Return the settings of one of our runs."""
        _, class_name = demo_pet(self.pet)
        settings = choose_settings(
            model="demo",
            class_name=class_name,
            steps=self.steps,
            lr=RATE,
            seed=self.seed,
            **options,
        )
        return settings.changed(threads=self.threads, device="cpu", preview_prompts=())


@dataclass
class DemoModel:
    """The demo model, as script and judge use it."""

    row: presets.ModelRow = field(default_factory=lambda: presets.model_row("demo"))

    @cached_property
    def folder(self) -> Path:
        return sources.find_model(self.row).folder

    @property
    def family(self) -> Family:
        return get_family(self.row.family)

    def layers(self, targets: str) -> list[str]:
        """Return the names of the layers that our LoRA of every block adapts."""
        pipe = self.family.load(self.folder, torch.float32)
        return lora_layers(pipe.transformer, self.family, Span(0, 0), targets)

    def likeness(self, lora: Path, settings: Settings, images: int, photos: Path) -> dict:
        """Return the judge's mean likeness, by prompt, of pictures made with a LoRA file."""
        pipe, family = self.family.load(self.folder, torch.float32), self.family
        pipe.load_lora_weights(lora.parent, weight_name=lora.name)
        prompts = {"pet": settings.subject_caption, "class_word": settings.class_caption}
        prompts |= {place: f"{settings.subject_caption} {words}" for place, words in PLACES.items()}
        text = family.encode_text(pipe, [*prompts.values(), ""], self.row.text_tokens)
        rows = [i for i in range(len(prompts)) for _ in range(images)]
        pictures = sample(
            family,
            pipe,
            text.rows(rows),
            text.rows([len(prompts)]),
            Sampling(settings.preview_px, settings.preview_steps, settings.preview_guidance),
            [FIRST_SEED + k for k in range(images)] * len(prompts),
            CPU,
        )
        real, judge = [open_photo(path) for path in find_photos([photos])], load_judge()
        likeness = judge.identity(pictures, real).reshape(len(prompts), images).mean(1)
        return {name: round(float(mean), 4) for name, mean in zip(prompts, likeness, strict=True)}


def run_peer(plan: PeerPlan, say: LogFn = lambda line: None) -> dict:
    """Run the script and ours in turn, `rounds` times, and return a JSON-ready report.

    Raises UserError if the file is another script, a package is missing, or a process fails.
    """
    model = DemoModel()
    text = plan.script.read_text(encoding="utf-8", errors="replace")
    adapted, places = SCRIPT_TOKENS.subn(str(model.row.text_tokens), text)
    if "DreamBoothDataset" not in text or not places:
        raise BadInput(f"“{plan.script}” is not diffusers' {SCRIPT}.", "Name a copy of that file.")
    versions = _versions(plan.python)
    torch.set_num_threads(plan.threads)  # the judge's pictures too
    plan.work.mkdir(parents=True, exist_ok=True)
    files.write_text(plan.work / SCRIPT, adapted)
    rounds = []
    for n in range(plan.rounds):
        figures = {}
        for name, about in ABOUT.items():
            say(f"round {n + 1}/{plan.rounds}: {about}")
            figures[name] = _run(plan, model, name, plan.work / f"{name}-{n}")
        rounds.append(figures)
    return {
        "script": {"name": SCRIPT, "sha256": hashlib.sha256(text.encode()).hexdigest()},
        "tokens": {"places": places, "before": 77, "after": model.row.text_tokens},
        "packages": versions,
        "plan": {k: getattr(plan, k) for k in ("pet", "steps", "seed", "threads", "images")},
        "rounds": rounds,
    }


def _versions(python: str) -> dict[str, str]:
    """Return the versions of what the script imports. Raises BadInput if one is missing."""
    code = "from importlib.metadata import version\n"
    code += "\n".join(f"print('{name}', version('{name}'))" for name in PACKAGES)
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except OSError as error:
        problem = [str(error)]
    if problem:
        raise BadInput(
            f"The script cannot run in {python}: {problem[0]}",
            f"Name an interpreter that has {', '.join(PACKAGES)}: --python FILE.",
        )
    return dict(line.split() for line in done.stdout.splitlines())


def _run(plan: PeerPlan, model: DemoModel, name: str, folder: Path) -> dict:
    """Train in one way and return seconds, memory and likeness."""
    photos, _ = demo_pet(plan.pet)
    log = folder.with_suffix(".log")
    if name == "script":
        settings = plan.settings(skip="0,0", prior=0.0)
        figures = _timed(_script_command(plan, model, settings, photos, folder), plan.threads, log)
        training, lora = _progress_bar_seconds(log), folder / LORA_FILE
    else:
        settings = plan.settings(**OURS[name][1])
        run = create_run(settings, find_photos([photos]), str(folder.absolute()))
        command = [sys.executable, "-m", WORKER, str(run.folder)]
        figures = _timed(command, plan.threads, log)
        (done,) = (event for event in run.events()[0] if isinstance(event, Done))
        training = done.stages[stages.TRAIN] + done.stages[stages.RESIDUALS]
        lora = results.export_run(run, "diffusers").path
    figures["training_seconds"] = round(training, 1)
    return figures | {"likeness": model.likeness(lora, settings, plan.images, photos)}


def _progress_bar_seconds(log: Path) -> float:
    """Return the seconds of the script's steps, from the last state of its progress bar."""
    states = re.findall(
        r"Steps: 100%.*?\[(?:(\d+):)?(\d+):(\d+)<", log.read_text("utf-8", "replace")
    )
    hours, minutes, seconds = (int(part or 0) for part in states[-1])
    return 3600.0 * hours + 60 * minutes + seconds


def _script_command(
    plan: PeerPlan, model: DemoModel, settings: Settings, photos: Path, folder: Path
) -> list[str]:
    """Return the script's command line for a run like `settings`."""
    options = {
        "pretrained_model_name_or_path": model.folder,
        "instance_data_dir": photos,
        "instance_prompt": settings.subject_caption,
        "output_dir": folder,
        "resolution": settings.plan.side_px,
        "train_batch_size": settings.plan.draws_per_step,
        "repeats": REPEATS,
        "max_train_steps": settings.steps,
        "learning_rate": settings.lr,
        "lr_scheduler": settings.rate_schedule,
        "lr_warmup_steps": settings.steps // 20,
        "rank": settings.rank,
        "lora_alpha": settings.rank,
        "lora_layers": ",".join(model.layers(settings.targets)),
        "max_sequence_length": settings.plan.text_tokens,
        "weighting_scheme": settings.timesteps,
        "adam_beta2": 0.99,
        "adam_weight_decay": 0,
        "checkpointing_steps": settings.steps,
        "mixed_precision": "no",
        "report_to": "all",  # of the trackers that are installed
        "seed": settings.seed,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [plan.python, str(plan.work / SCRIPT), *words, "--cache_latents"]


class _CostOf(Poller):
    """Peak resident memory of a process and its children, in bytes, and the processor's seconds for
    them, while entered."""

    def __init__(self, pid: int) -> None:
        self.process, self.peak, self.seconds = psutil.Process(pid), 0, 0.0

    def sample(self) -> None:
        try:
            parts = [self.process, *self.process.children(recursive=True)]
            self.peak = max(self.peak, sum(part.memory_info().rss for part in parts))
            self.seconds = max(self.seconds, sum(sum(part.cpu_times()[:2]) for part in parts))
        except psutil.Error:  # it has just ended
            pass


def _timed(command: Sequence[str], threads: int, log: Path) -> dict:
    """Run a command to its end; return its seconds and its peak memory in MiB. The processor's
    seconds tell more where other work is done beside it."""
    variables = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}
    variables |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    began = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
        with _CostOf(process.pid) as cost:
            process.wait()
    seconds = time.perf_counter() - began
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise Unexpected(f"{log.stem} failed: {' '.join(last)}", f"All it said: {log}")
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(cost.seconds, 1),
        "peak_mib": round(cost.peak / MIB),
    }
