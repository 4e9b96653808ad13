"""The GPU measurements, each a command: `blockskip lab bench --gpu NAME --work DIR`.

Each part runs in its own process, which has the GPU to itself; this process never initialises CUDA.
With `tiny`, everything runs on small models, with or without a GPU, and only proves that it works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from blockskip.core.errors import BadInput, UserError, command
from blockskip.lab.bench import bench
from blockskip.lab.bench.contenders import Plan
from blockskip.lab.demo_world.pretrain import KINDS
from blockskip.lab.gpu import demo, predict, quantisation, sampling, smoke, stages
from blockskip.lab.measuring.subprocess_job import run_in_subprocess
from blockskip.memory.planning import measured_speed
from blockskip.memory.planning.measured_speed import Speed

BUDGETS_GIB = (24.0, 16.0, 12.0, 10.0, 8.0, 6.0, 4.0)
FAMILIES = ("sana-1.6b", "flux2-klein-4b", "z-image", "qwen-image")
CAPS_GIB = (0.0, 8.0, 12.0)  # of the benchmark; 0: none
OURS = ("ours", "ours-int8", "ours-int8-products")
RIVALS = ("lora", "lora-checkpointed", "qlora", "swap", "swap-28", "ours-together", *OURS)
SWAPPING = ("swap", "swap-together", "swap-products", "swap-28", "swap-28-products")
CAPPED = ("qlora-checkpointed", *SWAPPING, *OURS)
LogFn = Callable[[str], None]
SavePartial = Callable[[dict], None]  # receives the partial report after each part of a long one


@dataclass(frozen=True, kw_only=True)
class GpuJob:
    """The options. budgets: in GiB, () for the line's own. models: () for the line's own. share:
    the measured share of the published rate, 0 for none. measured: also predict for this computer.
    rounds, contenders: of the benchmark, () for all. minutes, total, times: as in demo.Job. tiny:
    use small models."""

    work: Path
    budgets: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    device: str = "auto"
    share: float = 0.0
    measured: bool = False
    rounds: int = 1
    contenders: tuple[str, ...] = ()
    minutes: float = 10.0
    total: float = 1500.0
    times: int = 8
    tiny: bool = False


@dataclass(frozen=True)
class Measurement:
    """A line of gpu.md. about: what it shows. run: measures and returns a JSON-ready report."""

    about: str
    run: Callable[[GpuJob, LogFn, SavePartial], dict]


def measure(name: str, plan: GpuJob, say: LogFn, keep: SavePartial = lambda report: None) -> dict:
    """Measure a line and return its report. Raises UserError for an unknown line, a full disk, or a
    part that fails."""
    if name not in MEASUREMENTS:
        raise BadInput(
            f"There is no “{name}” to be measured.", f"Known: {', '.join(MEASUREMENTS)}."
        )
    return MEASUREMENTS[name].run(plan, say, keep)


def _run_subprocess(plan: GpuJob, name: str, part: str, job: object, say: LogFn) -> dict:
    say(name)
    job = job if isinstance(job, dict) else asdict(job)
    job = {"what": part, "job": job}
    return run_in_subprocess(
        "blockskip.lab.gpu.worker", job, plan.work / "jobs", name, plan.work / "data"
    )


def _run_or_failure(plan: GpuJob, name: str, part: str, job: object, say: LogFn) -> dict:
    """Run one of several parts, returning its failure instead of raising it."""
    known = {"name": job.name, "model": job.model, "budget_gib": job.budget_gib}
    try:
        return known | _run_subprocess(plan, name, part, job, say)
    except UserError as error:
        return known | {"failed": error.title}


def _rates(plan: GpuJob, say: LogFn) -> dict:
    job = {"device": plan.device, "tiny": plan.tiny}
    return _run_subprocess(plan, "rates", "rates", job, say)


def _model(plan: GpuJob, name: str, say: LogFn) -> str:
    """Return the folder of a model with random weights, written if it does not exist."""
    folder = str((plan.work / "models" / name).absolute())
    job = {"model": name, "folder": folder, "device": plan.device}
    _run_subprocess(plan, f"weights-{name}", "model", job, say)
    return folder


def _caps(
    plan: GpuJob, say: LogFn, keep: SavePartial, default: tuple[str, ...] = ("flux-dev",)
) -> dict:
    runs = []
    for model in plan.models or (("demo",) if plan.tiny else default):
        try:
            folder = _model(plan, model, say)
        except UserError as error:  # e.g. a full disk; other models may be smaller
            runs.append({"name": model, "model": model, "budget_gib": 0, "failed": error.title})
            continue
        for budget in plan.budgets or ((8.0,) if plan.tiny else BUDGETS_GIB):
            job = stages.Job(
                name=f"{model}-{budget:g}",
                model=model,
                budget_gib=budget,
                folder=folder,
                device=plan.device,
                steps=4 if plan.tiny else 0,
                picture_steps=2 if plan.tiny else 0,
            )
            runs.append(_run_or_failure(plan, f"caps-{job.name}", "stages", job, say))
            keep({"runs": runs})
    return {"runs": runs}


def _families(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    return _caps(plan, say, keep, FAMILIES)


def _spill(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    """Run with plans for 1.5 times the budget, so that memory must run out."""
    model = (plan.models or (("demo",) if plan.tiny else ("flux-dev",)))[0]
    folder, runs = _model(plan, model, say), []
    for budget in plan.budgets or ((8.0,) if plan.tiny else (8.0, 12.0)):
        job = stages.Job(
            name=f"{model}-{budget:g}-planned-for-{1.5 * budget:g}",
            model=model,
            budget_gib=budget,
            planned_gib=1.5 * budget,
            folder=folder,
            device=plan.device,
            steps=4 if plan.tiny else 20,
            picture_steps=2,
        )
        runs.append(_run_or_failure(plan, f"spill-{job.name}", "stages", job, say))
        keep({"runs": runs})
    return {"runs": runs}


def _pictures(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    model = (plan.models or (("demo",) if plan.tiny else ("flux-dev",)))[0]
    folder, runs = _model(plan, model, say), []
    for budget in plan.budgets or ((8.0,) if plan.tiny else (4.0, 8.0, 12.0)):
        job = sampling.Job(
            name=f"{model}-{budget:g}",
            model=model,
            budget_gib=budget,
            folder=folder,
            steps=6 if plan.tiny else 0,
        )
        runs.append(_run_or_failure(plan, f"previews-{job.name}", "pictures", job, say))
        keep({"runs": runs})
    return {"runs": runs}


def _bench(plan: GpuJob, **overrides: object) -> Plan:
    # with enough tokens for products in 8 bits (int8_products.allowed)
    small = {"size": "tiny", "side_px": 160, "text_tokens": 24, "draws": 4, "baseline_draws": 2}
    small |= {"rounds": 1, "threads": 1}
    full = {"size": "full", "draws": 64, "baseline_draws": 8, "rounds": plan.rounds}
    full |= {"text_tokens": 256}
    return Plan(
        work=plan.work / "bench", device=plan.device, **((small if plan.tiny else full) | overrides)
    )


def _weights_folder(plan: GpuJob, say: LogFn) -> dict[str, Path]:
    """Return the weights that other lines use too, since not every disk holds two copies."""
    return {} if plan.tiny else {"folder": Path(_model(plan, "flux-dev", say))}


def _speed(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    """Benchmark under each cap: skipping beside swapping. BlockSkip also runs as planned for the
    cap, at plain LoRA's side."""
    report: dict = {"rates": _rates(plan, say), "caps": {}}
    weights = _weights_folder(plan, say)
    for gib in plan.budgets or (CAPS_GIB[:2] if plan.tiny else CAPS_GIB):
        keep(report)
        names = _chosen(CAPPED if gib else RIVALS, plan.contenders)
        rungs = (gib,) if gib and not plan.tiny and not plan.contenders else ()
        capped = _bench(plan, contenders=names, cap_gib=gib, rungs=rungs, **weights)
        report["caps"][f"{gib:g}"] = bench.run_bench(capped, say)
    return report


def _chosen(known: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of `known` that were asked for, by default all."""
    chosen = tuple(name for name in known if not asked or name in asked)
    if not chosen:
        raise BadInput("None of these contenders runs there.", f"Known: {', '.join(known)}.")
    return chosen


def _overlap(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    rungs = () if plan.tiny else plan.budgets[:1] or (8.0,)
    options = {"timeline": str(plan.work / "trace"), "rungs": rungs, "contenders": ("ours",)}
    report = bench.run_bench(_bench(plan, **options, **_weights_folder(plan, say)), say)
    return {"rates": _rates(plan, say), "contenders": report["contenders"]} | {
        "timeline": report["timeline"]
    }


def _single_job(name: str, kind: type) -> Callable[[GpuJob, LogFn, SavePartial], dict]:
    """Return the function of a line that is a single job of that kind."""

    def do(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
        job = kind(work=str(plan.work.absolute()), device=plan.device, tiny=plan.tiny)
        return _run_subprocess(plan, name, name, job, say)

    return do


def _demo(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    """Pretrain in this process, which Ctrl-C reaches."""
    family = (plan.models or ("flux",))[0]
    if family not in KINDS:
        raise BadInput(f"There is no demo model of the family “{family}”.", "flux or sana.")
    job = demo.Job(
        work=str(plan.work),
        family=family,
        minutes=plan.minutes,
        total=plan.total,
        times=plan.times,
        device=plan.device,
        tiny=plan.tiny,
    )
    return demo.work(job, say)


def _predict(plan: GpuJob, say: LogFn, keep: SavePartial) -> dict:
    say("counting")
    model = (plan.models or ("flux-dev",))[0]
    return predict.work(model, plan.share, _measured_card() if plan.measured else None)


def _measured_card() -> Speed:
    """Return the measured speed of this computer's card. Raises BadInput without one."""
    speed = measured_speed.load()
    if speed is None or speed.wide is None:
        raise BadInput(
            "No graphics card of this computer was measured.",
            f"Measure it first: {command('doctor --measure')}. The other cards need no --measured.",
        )
    return speed


MEASUREMENTS = {
    "smoke": Measurement(
        "the demo model trains on the card as on the processor", _single_job("smoke", smoke.Job)
    ),
    "caps": Measurement("no stage takes more than its budget, and as much as planned", _caps),
    "speed": Measurement(
        "seconds a draw beside the rivals, in parts of what the card can do", _speed
    ),
    "overlap": Measurement("how much of the copying hides behind computing", _overlap),
    "quant": Measurement("8 and 4 bits on the card", _single_job("quant", quantisation.Job)),
    "families": Measurement("as caps, of other models", _families),
    "previews": Measurement("seconds a sample picture under caps", _pictures),
    "spill": Measurement("what happens when memory runs out", _spill),
    "demo": Measurement("the demo model's pretraining goes on on the card", _demo),
    "predict": Measurement("minutes on cards that nobody measured here; takes no card", _predict),
}
