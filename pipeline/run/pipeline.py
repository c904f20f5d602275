"""A pipeline as a Python object: what `tokenmill run` does, for a script or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenmill.pipeline.errors import ConfigError
from tokenmill.pipeline.graph.config import RunConfig, config_of, load_config
from tokenmill.pipeline.progress.observer import RunObserver
from tokenmill.pipeline.progress.progress_page import ProgressPage
from tokenmill.pipeline.report.report import Report
from tokenmill.pipeline.run.executor import Executor, InProcess
from tokenmill.pipeline.run.runner import python_paths
from tokenmill.pipeline.run.runner import run as run_config
from tokenmill.pipeline.storage.store import Store


class Pipeline:
    """A run that a config describes.

        from tokenmill import Pipeline

        report = Pipeline("configs/quickstart.yaml").run()
        report = Pipeline({"output": "runs/mine", "sources": {...}, "stages": {...}}).run(workers=0)

    `config`: a YAML file's path, or the same as a mapping. `settings`: as `--set` (`"stages.language.min_score=0.8"`).
    `output`: a folder in place of the config's. `sample`: try it on about so many documents. Raises `ConfigError`.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, Any],
        *,
        settings: Sequence[str] = (),
        output: str | Path | None = None,
        sample: int | None = None,
    ) -> None:
        folder = None if output is None else str(output)
        self.config: RunConfig
        if isinstance(config, Mapping):
            self.where = "config"
            self.config = config_of(config, self.where, settings, folder, sample)
        else:
            self.where = str(config)
            self.config = load_config(self.where, settings, folder, sample)
        self.store = Store(self.config.output)

    def run(
        self, *, workers: int | None = None, address: str | None = None, observers: Sequence[RunObserver] = ()
    ) -> Report:
        """Runs what is pending, writes the run's page, and returns the report (which a notebook shows).

        `workers`: processes of an embedded Ray, by default one a processor; 0 runs every task in this process, without Ray.
        `address`: a Ray cluster in place of this machine. Raises `ConfigError` before anything runs, `RunError` where a task
        fails; what was committed until then stays, and the next run goes on there.
        """
        executor = executor_for(workers, address)
        try:
            return self.run_on(executor, ProgressPage(self.store), observers)
        finally:
            executor.stop()

    def run_on(self, executor: Executor, page: ProgressPage, observers: Sequence[RunObserver] = ()) -> Report:
        """As `run`, by an executor of the caller's, stopped where the run fails. `page` keeps the run's page meanwhile."""
        paths = python_paths()
        sys.path.extend(path for path in paths if path not in sys.path)
        try:
            outcome = run_config(self.config, self.where, executor, [*observers, page], paths)
        except BaseException as error:
            page.stop("It was interrupted." if isinstance(error, KeyboardInterrupt) else str(error))
            executor.stop()
            raise
        page.stop()
        if outcome.report.tasks_run or page.is_left():
            from tokenmill.pipeline.report.run_page import write_run_page

            write_run_page(outcome.folder, outcome.report)
        return outcome.report


def executor_for(
    workers: int | None, address: str | None, tell_dashboard: Callable[[str], None] | None = None
) -> Executor:
    """`workers` 0 is this process, None all processors of this machine; `address` is that of a Ray cluster.

    `tell_dashboard` is told the URL of that cluster's dashboard. Raises `ConfigError` where the two do not go together.
    """
    if workers == 0:
        if address is not None:
            raise ConfigError("--workers 0 runs in this process, --address on a cluster; give one of them")
        return InProcess()
    from tokenmill.pipeline.run.cluster import Cluster

    return Cluster(workers, address, tell_dashboard)
