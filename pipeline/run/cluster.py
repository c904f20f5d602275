"""Ray, as far as tokenmill uses it: start or join a cluster, run tasks with a bounded number in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.stage_spec import StageSpec
from tokenmill.pipeline.run.executor import task_failed
from tokenmill.pipeline.storage.receipts import Receipt
from tokenmill.pipeline.tasks.kernel_warmup import warm_up
from tokenmill.pipeline.tasks.task import Task

IN_FLIGHT_PER_CPU = 2
"""Tasks submitted per processor: one runs, one waits, so that no worker idles and no queue grows."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Cluster:
    """The workers of a run. Ray starts with the first task, so a run with nothing to do starts nothing."""

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        tell_dashboard: Callable[[str], None] | None = None,
    ) -> None:
        """`tell_dashboard` is told the URL of the dashboard of the cluster at the address, if it has one."""
        self._workers = workers
        self._address = address
        self._tell_dashboard = tell_dashboard
        self._ray: Any = None
        self._execute: Any = None
        self.cpus = 0

    def start(self) -> None:
        """Starts the embedded Ray (or joins the cluster at the address). Raises `RunError` if there is none."""
        if self._ray is not None:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        if self._address:
            try:
                context = ray.init(
                    address=self._address,
                    log_to_driver=False,
                    logging_level="error",
                    runtime_env={"env_vars": ONE_THREAD},
                )
            except (ConnectionError, ValueError) as error:
                raise RunError(
                    f"no Ray cluster answers at {self._address}: {error} (one that asks for a token, as Ray's do where "
                    "`ray get-auth-token` has one, is joined with RAY_AUTH_MODE=token)"
                ) from error
            if context.dashboard_url and self._tell_dashboard is not None:
                self._tell_dashboard(f"http://{context.dashboard_url}")
        else:
            # The embedded cluster inherits the environment: cheaper than a runtime environment for each worker
            os.environ.update(ONE_THREAD)
            os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves the workers on a shared machine
            os.environ.setdefault("RAY_preload_python_modules", "tokenmill.pipeline.tasks.worker_preload")
            os.environ.setdefault("RAY_enable_worker_prestart", "true")  # before this process joins: half a second
            ray.init(
                num_cpus=self._workers or os.cpu_count(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
        self._ray = ray
        self._execute = ray.remote(execute)
        self.cpus = int(ray.cluster_resources().get("CPU", 1))
        if self._workers:
            self.cpus = min(self.cpus, self._workers)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Receipt]]:
        """Runs tasks, yields each with its receipt as it ends. Raises `RunError` naming the task that failed."""
        self.start()
        ray = self._ray
        waiting = deque(tasks)
        running: dict[Any, Task] = {}
        in_flight = self.cpus * IN_FLIGHT_PER_CPU
        folder = str(Path.cwd())
        shared: tuple[Any, list[Any]] = (None, [])
        while waiting or running:
            while waiting and len(running) < in_flight:
                work = waiting.popleft()
                if work.threads == 0:
                    work = replace(work, threads=self.cpus)
                if work.shared is not shared[0]:  # once for all tasks of a step
                    shared = work.shared, [ray.put(work.shared)]
                sent = replace(work, shared=None)
                reference = self._execute.options(num_cpus=1, max_retries=3).remote(sent, folder, shared[1])
                running[reference] = work
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                work = running.pop(reference)
                try:
                    yield work, ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause if isinstance(error.cause, Exception) else error
                    raise task_failed(work, cause, _last_frames(str(error))) from error
                except ray.exceptions.RayError as error:
                    raise RunError(
                        f"step {work.step}, task {work.key}: its worker died and so did three more tries "
                        f"(out of memory? give fewer --workers): {type(error).__name__}"
                    ) from error

    def warm_up(self, specs: Sequence[StageSpec]) -> None:
        """See `Executor`."""
        self.start()
        make = self._ray.remote(warm_up)
        self._ray.wait([make.remote(spec) for spec in specs], num_returns=len(specs))

    def stop(self) -> None:
        """Ends the embedded Ray, or leaves the cluster; tasks in flight are given up (they commit whole or not at all)."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None


def execute(task: Task, folder: str, shared: Sequence[Any] = ()) -> Receipt:
    """The body of every Ray task. Relative paths begin at the folder of who submits it: a cluster's workers start elsewhere.

    `shared`: a reference to what the task's step shares. In a list, Ray leaves it to the worker, which fetches it once a step.
    """
    with suppress(OSError):  # on another machine, whose inputs have URLs or whole paths
        os.chdir(folder)
    return replace(task, shared=_fetched(shared[0])).execute() if shared else task.execute()


@lru_cache(maxsize=1)
def _fetched(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def _last_frames(trace: str) -> str:
    lines = [line for line in trace.splitlines() if line.strip() and "\x1b[" not in line]
    return "\n".join(lines[-7:-1])
