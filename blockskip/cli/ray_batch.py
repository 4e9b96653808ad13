"""Train a batch's runs on a Ray cluster: an actor on each of its cards, or on its processors where it
has no card. Ray is an optional package. It starts the actors, gives each the next run, and starts one
that was lost again; here is no scheduler of our own."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from types import ModuleType
from typing import Any

from blockskip.core.errors import BadInput, UserError
from blockskip.core.paths import ROOT, data_dir
from blockskip.runs import ray_worker
from blockskip.runs.run import Run

VERSION = "2.60.0"  # with which this was tried
LOCAL = "local"
_POLL_S = 0.5


class Cluster:
    """A connection to a cluster. workers: how many runs train at a time."""

    def __init__(self, ray: ModuleType) -> None:
        self.ray = ray
        total = ray.cluster_resources()
        self.has_cards = total.get("GPU", 0) >= 1
        self.workers = max(1, int(total["GPU"] if self.has_cards else total.get("CPU", 1)))

    def train(self, runs: Sequence[Run], watch: Callable[[], object]) -> None:
        """Train runs, each on the next worker that is free, and return when all have ended. watch: is
        called twice a second. Interrupted, pauses those that train.

        Raises UserError if a worker cannot even begin.
        """
        from ray.util import ActorPool

        words = secrets.token_hex(8)
        jobs = [ray_worker.new_mark(run.folder, words) for run in runs]
        trainers = self._trainers(min(len(jobs), self.workers), f"keeper {words}")
        pool = ActorPool(trainers)
        for job in jobs:
            pool.submit(lambda trainer, job: trainer.train.remote(job), job)
        try:
            while pool.has_next():
                with suppress(TimeoutError):
                    pool.get_next_unordered(timeout=_POLL_S)
                watch()
        except KeyboardInterrupt:
            self.ray.get([trainer.stop.remote() for trainer in trainers])
            while pool.has_next():
                pool.get_next_unordered()
            raise
        except self.ray.exceptions.RayError as error:
            raise UserError(f"Ray could not go on: {error}", "The runs can be resumed.") from error
        finally:
            for job in jobs:
                ray_worker.remove_mark(job)

    def _trainers(self, count: int, name: str) -> list[Any]:
        """Start the actors. name: of the keeper, whose handle is not kept for one that starts again."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        keeper = self.ray.remote(num_cpus=0)(ray_worker.Keeper)
        self._keeper = keeper.options(scheduling_strategy=here, name=name).remote()
        # two at a time: a run, and the order to stop it; started again wherever there is room
        options = {"num_gpus": 1, "num_cpus": 0} if self.has_cards else {"num_cpus": 1}
        lasting = {"max_restarts": -1, "max_task_retries": -1, "max_concurrency": 2}
        trainer = self.ray.remote(**options, **lasting)(ray_worker.Trainer)
        return [trainer.remote(name) for _ in range(count)]


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Context manager of a cluster. address: “local” for one on this computer alone, “auto”, or
    HOST:PORT of a cluster's head, on which this is run.

    Raises UserError if Ray is missing or there is no cluster.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    try:
        import ray
    except ImportError as error:
        raise BadInput(
            "Ray is not installed.", f"Install it: {sys.executable} -m pip install ray=={VERSION}"
        ) from error
    variables = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}
    variables |= {"TOKENIZERS_PARALLELISM": "false", "BLOCKSKIP_DATA": str(data_dir().absolute())}
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="warning",
            runtime_env={"env_vars": variables},
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"There is no Ray cluster at {address}: {error}",
            "Start one on its head by “ray start --head”, or use “local”.",
        ) from error
    try:
        with redirect_stdout(sys.stderr):  # where Ray tells of lost workers; --json has stdout
            yield Cluster(ray)
    finally:
        ray.shutdown()
