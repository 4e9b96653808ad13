"""Execute a run: photos → schedule → encode → residuals → train → preview → export.

Between steps the worker reads `control.json`. If killed, the run resumes from the newest
checkpoint. The worker runs in the process of runs/worker_process.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from blockskip.core import events, files, presets, safetensors_files, stages
from blockskip.core.errors import BadFile
from blockskip.core.events import Done, Note, Saved
from blockskip.core.settings import Settings
from blockskip.data.photos import Photo, find_photos, read_photos
from blockskip.data.schedule import build_schedule
from blockskip.memory import monitor
from blockskip.memory.placement import free_memory, pick_device
from blockskip.memory.planning.planner import planned_memory
from blockskip.memory.slow_steps import Slowdown
from blockskip.memory.usage_peaks import DiskMonitor
from blockskip.memory.vram_cap import limit_vram, untried_device_warning
from blockskip.models import sources
from blockskip.runs import checkpoints, event_log, identity, ranks, results, slow_steps
from blockskip.runs.folders import step_of
from blockskip.runs.kept_model import KeptModel
from blockskip.runs.previewer import Previewer, with_pictures
from blockskip.runs.reporter import Reporter
from blockskip.runs.run import Run
from blockskip.sampling.loaded_model import LoadedModel
from blockskip.training.draws import TrainingData
from blockskip.training.ranks import Ranks
from blockskip.training.trainer import Trainer

log = logging.getLogger(__name__)
MAX_CHECKPOINTS = 2


class StopRequested(Exception):
    """The user requested a pause or a stop. reason: paused | stopped."""

    def __init__(self, reason: events.StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Worker:
    """The execution of one run. kept: the model that is open from the run before, and that is kept
    for the next one once this run is done."""

    def __init__(self, run: Run, kept: KeptModel | None = None) -> None:
        self.kept = kept or KeptModel()
        self.run, self.info = run, run.info()
        self.settings, self.pictures_warning = with_pictures(run.settings())
        self.reporter = Reporter(run, disk=DiskMonitor(_planned_disk_gib(self.settings)))
        self.row = presets.model_row(self.settings.model)
        self.device = pick_device(self.settings.device)
        self.started = time.perf_counter()

    def work(self) -> None:
        """Execute all stages. Raises UserError, StopRequested."""
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        damaged = checkpoints.set_damaged_aside(self.run)
        newest = checkpoints.list_checkpoints(self.run)[-1:]
        step = step_of(newest[0]) if newest else 0
        self.run.append(
            events.Started(steps=self.settings.steps, device=str(self.device), resumed_from=step)
        )
        if damaged:
            start = f"step {step}" if step else "the beginning"
            self.reporter.warn(
                f"Damaged: {', '.join(damaged)}. Training continues from {start}, the newest "
                "intact checkpoint."
            )
        limit_vram(self.device, self.settings.budget_gib)
        self.reporter.warn(untried_device_warning(self.device, self.settings.plan))
        self.reporter.warn(self.pictures_warning)
        try:
            self._run_stages(newest)
        except BaseException:
            self._log_peaks()
            raise

    def _run_stages(self, newest: list[Path]) -> None:
        photos = self._read_photos()
        source = sources.find_model(self.row)
        with self.reporter.stage(stages.LOAD):
            fingerprint = identity.check(
                self.run, photos, source, lambda n, total: self._progress(stages.LOAD, n, total)
            )
            model = self.kept.take(self.settings) or LoadedModel(
                self.settings, source, lambda n, total: self._progress(stages.LOAD, n, total)
            )
        self.reporter.warn(model.attention_warning())
        self.reporter.warn(model.arithmetic_warning())
        model.compile_blocks(self.reporter.warn)
        data = self._encode(model, photos, fingerprint)
        with ranks.joined(self.run, self.settings, data, newest) as rank:
            trainer = self._trainer(model, data, fingerprint, rank)
            if newest:
                trainer.load(newest[0])
            self._train_to_the_end(trainer, model)

    def _trainer(
        self, model: LoadedModel, data: TrainingData, fingerprint: str, rank: Ranks
    ) -> Trainer:
        with self.reporter.stage(stages.TRAIN):  # the trained blocks are loaded
            trainer = Trainer(
                model.transformer,
                model.family,
                self.settings,
                data,
                self.device,
                self.run.cache_dir,
                fingerprint,
                lambda n, total: self._progress(stages.RESIDUALS, n, total),
                self.reporter.stage,
                rank,
            )
        model.share_lora(trainer.lora)
        return trainer

    def _train_to_the_end(self, trainer: Trainer, model: LoadedModel) -> None:
        previewer = Previewer(self.reporter, model)
        try:
            self._train(trainer, previewer)
            self._sample_large(trainer, previewer)
        except StopRequested as stop:
            if trainer.step:
                self._save_checkpoint(trainer)
                if stop.reason == "stopped":
                    self._save_adapter(trainer)
                    self._export(trainer.step)  # the LoRA trained so far is usable
            raise
        self._finish(trainer)
        self.kept.put(model, trainer.pinned)

    def _log_peaks(self) -> None:
        self.reporter.log_peaks(planned_memory(self.run.settings()))

    def _progress(self, stage: str, n: int, total: int) -> None:
        """Report a stage's progress. Raises StopRequested at the user's request."""
        self.reporter.progress(stage, n, total)
        self._check_commands()

    def _check_commands(self) -> None:
        if request := self._take_request(("pause", "stop")):
            reasons: dict[str, events.StopReason] = {"pause": "paused", "stop": "stopped"}
            raise StopRequested(reasons[request["command"]])

    def _take_request(self, words: Sequence[str]) -> dict:
        """Return the pending request if it is one of `words`. A broken one is ignored and said."""
        try:
            return self.run.take_request(words)
        except BadFile as error:
            self.reporter.warn(error.title)
            return {}

    def _read_photos(self) -> list[Photo]:
        with self.reporter.stage(stages.PHOTOS):
            good, bad = read_photos(
                find_photos([self.run.photos_dir]), self.settings.subject_caption
            )
            for rejected in bad:
                self.reporter.write(
                    Note(text=f"{rejected.name} is left out: {rejected.reason}", level="warning")
                )
            self.reporter.progress(stages.PHOTOS, len(good), len(good))
        return identity.with_recorded_captions(good, self.info)

    def _encode(self, model: LoadedModel, photos: list[Photo], fingerprint: str) -> TrainingData:
        """Encode the training data, and cache preview prompts and the empty prompt in the model."""
        settings = self.settings
        captions = list(dict.fromkeys(photo.caption for photo in photos))
        prompts = [*dict.fromkeys(settings.preview_prompts), ""]
        with self.reporter.stage(stages.TEXT):
            wanted = list(dict.fromkeys([*captions, settings.class_caption, *prompts]))
            text = model.encode(wanted)
            model.cache_text(prompts, text.rows([wanted.index(p) for p in prompts]))
            self.reporter.progress(stages.TEXT, len(wanted), len(wanted))
        draws = build_schedule(photos, settings, model.family.pixel_multiple)
        path = self.run.cache_dir / "latents.safetensors"
        stamp = files.fingerprint(fingerprint, len(draws))  # the number of steps may grow
        with self.reporter.stage(stages.LATENTS):
            if path.exists() and safetensors_files.read_metadata(path).get("fingerprint") == stamp:
                latents = safetensors_files.load_tensors(path)["latents"]
            else:
                latents = model.encode_draws(
                    photos, draws, lambda n, total: self._progress(stages.LATENTS, n, total)
                )
                safetensors_files.save_tensors(
                    path, {"latents": latents}, {"fingerprint": stamp}, lasting=False
                )
        free_memory()
        trained = list(dict.fromkeys([*captions, settings.class_caption, ""]))
        text = model.family.trim_text(text.rows([wanted.index(caption) for caption in trained]))
        rows = [trained.index(photo.caption) for photo in photos]
        special = (trained.index(settings.class_caption), trained.index(""))
        return TrainingData(draws, latents, text, rows, *special)

    def _train(self, trainer: Trainer, previewer: Previewer) -> None:
        settings = self.settings

        def preview(prompts: Sequence[str] = ()) -> None:
            trainer.offload_middle()
            if prompts:
                previewer.sample_user_prompts(
                    trainer.step, prompts, trainer.lora, trainer.untrained_lora
                )
            else:
                previewer.sample_previews(trainer.step)
            self._save_adapter(trainer)

        def complete_step() -> None:  # all of it, or what a kill prevented
            if not previewer.has_previews(trainer.step):
                preview()
            self._save_adapter(trainer)

        if self._shows_previews(trainer.step):
            complete_step()
        first, began, watch = trainer.step, time.perf_counter(), slow_steps.detector(self.run)
        with self.reporter.stage(stages.TRAIN):
            for loss in trainer.run():
                step_s = (time.perf_counter() - began) / (loss.step - first)
                self.reporter.write(loss)
                log.info("step %d/%d loss %.4f", loss.step, settings.steps, loss.loss)
                left = settings.steps - loss.step
                slowdown = watch.check(loss.seconds) if left else None
                if not left or slowdown or loss.step % settings.checkpoint_every == 0:
                    self._save_checkpoint(trainer)
                self._handle_slow_steps(slowdown)
                if left and self._shows_previews(loss.step):
                    preview()
                if order := self._take_request(("preview",)):
                    preview(order.get("prompts", ()))
                self.reporter.progress(stages.TRAIN, loss.step, settings.steps, step_s * left)
                if left:
                    self._check_commands()
        complete_step()

    def _handle_slow_steps(self, slowdown: Slowdown | None) -> None:
        """Say why steps are slow, if they are, and plan again where that helps."""
        if slowdown:
            self.reporter.warn(slowdown.text)
            slow_steps.plan_again(self.run, slowdown, self.device)

    def _sample_large(self, trainer: Trainer, previewer: Previewer) -> None:
        """Sample the trained model's pictures in full size, unless those were or there are."""
        missing = not previewer.has_previews(trainer.step, large=True)
        if self.settings.finishes_large and missing:
            trainer.offload_middle()
            previewer.sample_previews(trainer.step, large=True)

    def _shows_previews(self, step: int) -> bool:
        every = self.settings.preview_every
        return step == 0 or bool(every) and step % every == 0

    def _save_checkpoint(self, trainer: Trainer) -> Path:
        path = self.run.checkpoints_dir / f"step-{trainer.step:05d}.safetensors"
        event_log.sync(self.run.events_path)  # no step of it is trained and told again
        trainer.save(path)
        self.reporter.write(
            Saved(
                kind="checkpoint",
                step=trainer.step,
                path=path.relative_to(self.run.folder).as_posix(),
            )
        )
        checkpoints.remove_old(self.run, MAX_CHECKPOINTS)
        return path

    def _save_adapter(self, trainer: Trainer) -> None:
        """Save the LoRA alone, so that a step with pictures can be chosen and exported later."""
        if trainer.step:
            tensors = {f"lora.{name}": tensor for name, tensor in trainer.lora.items()}
            stamp = {"step": str(trainer.step), "fingerprint": trainer.fingerprint}
            safetensors_files.save_tensors(
                checkpoints.adapter_path(self.run, trainer.step), tensors, stamp
            )

    def _export(self, step: int) -> str:
        with self.reporter.stage(stages.EXPORT):
            self.reporter.progress(stages.EXPORT, 0, 1)
            exported = results.export_run(self.run)
            relative = exported.path.relative_to(self.run.folder).as_posix()
            self.reporter.write(Saved(kind="export", path=relative, step=step))
            self.reporter.progress(stages.EXPORT, 1, 1)
        return relative

    def _finish(self, trainer: Trainer) -> None:
        checkpoints.remove_old(self.run, MAX_CHECKPOINTS)  # also what a kill left
        adapter = checkpoints.newest_checkpoint(self.run)
        exported = self._export(trainer.step)
        losses = [e.loss for e in self.run.events()[0] if isinstance(e, events.Loss)][-50:]
        self._log_peaks()
        self.run.append(
            Done(
                adapter=adapter.relative_to(self.run.folder).as_posix(),
                exported=exported,
                steps=trainer.step,
                seconds=round(time.perf_counter() - self.started, 2),
                stages={name: round(value, 2) for name, value in self.reporter.seconds.items()},
                final_loss=sum(losses) / max(1, len(losses)),
                peak_rss_gib=monitor.peak_rss_gib(),
                peak_vram_gib=max(self.reporter.peaks.held_gib.values()),
            )
        )


def _planned_disk_gib(settings: Settings) -> float:
    """Return the planned size of the run's folder in GiB, without quantised weights, which are
    stored elsewhere before training."""
    needs = planned_memory(settings.changed(precision="full"))
    return sum(need.disk_gib for need in needs.values())
