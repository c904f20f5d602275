"""What `tokenmill plan` shows: the DAG, and for each step what is done, pending or invalid, and because of what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.routes import split_input
from tokenmill.pipeline.run.run_plan import LEDGER_STEP, RunState
from tokenmill.pipeline.storage import receipts

DONE, PENDING, INVALID, WAITING = "done", "pending", "invalid", "waits"


@dataclass
class StepSummary:
    """A step: its state, how many of its tasks are done of how many (None where the steps before decide that), and why."""

    step: str
    state: str
    done: int
    tasks: int | None
    because: str


@dataclass
class PlanStatus:
    """The edges of the DAG (node -> what it reads) and the status of every step."""

    edges: dict[str, list[str]]
    partitions: dict[str, int]
    steps: list[StepSummary]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "sources": self.partitions,
            "stages": self.edges,
            "steps": [vars(step) for step in self.steps],
        }


def plan_status(config: RunConfig, where: str) -> PlanStatus:
    """Looks at every step as far as it can be known before anything runs. Raises `ConfigError`."""
    state = RunState.of(config, where)
    steps: list[StepSummary] = []
    unfinished: dict[str, str] = {}
    for name in state.step_names:
        waits_for = [unfinished[node] for node in _reads(state, name) if node in unfinished]
        if waits_for:
            held = len([t for t in state.store.names(f"steps/{name}") if receipts.load(state.store, name, t)])
            because = f"{waits_for[0]} runs first"
            if held:
                because += f"; its {held} results stay where what it reads comes out the same"
            steps.append(StepSummary(name, WAITING, 0, None, because))
        else:
            found = state.status(name)
            tasks = len(found.done) + len(found.pending)
            if not found.pending:
                steps.append(StepSummary(name, DONE, tasks, tasks, ""))
                by_key = {work.key: receipt for work, receipt in found.done}
                state.enter(name, {work.key: by_key[work.key] for work in state.tasks(name)})
                continue
            causes = Counter(cause for _, cause in found.pending)
            cause, count = causes.most_common(1)[0]
            if len(causes) > 1:
                cause += f" ({count} tasks; {len(causes) - 1} other reasons)"
            new = all(reason == "not run yet" for reason in causes)
            steps.append(StepSummary(name, PENDING if new else INVALID, len(found.done), tasks, cause))
        for node in _gives(state, name):
            unfinished.setdefault(node, name)
    counts = Counter(partition.source for partition in state.partitions)
    edges = {name: [*node.inputs] for name, node in state.dag.nodes.items()}
    return PlanStatus(edges, dict(counts), steps)


def _reads(state: RunState, name: str) -> list[str]:
    """What must be finished before a step: the nodes that it reads, and the phases before its own."""
    if name == LEDGER_STEP:
        return [*state.dag.sources, *state.dag.nodes]
    step = next(step for step in state.steps if step.name == name)
    artifact = [node.artifact for node in step.nodes if node.artifact]
    return [
        *(split_input(i)[0] for i in step.inputs if i not in step.reads),
        *artifact,
        *(node.name for node in step.nodes),
    ]


def _gives(state: RunState, name: str) -> list[str]:
    if name == LEDGER_STEP:
        return []
    step = next(step for step in state.steps if step.name == name)
    return [node.name for node in step.nodes] or list(step.inputs)


def print_plan(console: Console, plan: PlanStatus) -> None:
    """The DAG and the steps as tables."""
    dag = Table(title="DAG", title_justify="left")
    for name in ("stage", "reads"):
        dag.add_column(name)
    for source, count in plan.partitions.items():
        dag.add_row(escape(source), f"source, {count:,} partition{'s' if count != 1 else ''}")
    for node, inputs in plan.edges.items():
        dag.add_row(escape(node), escape(", ".join(inputs)))
    console.print(dag)
    steps = Table(title="Steps", title_justify="left")
    for name in ("step", "state", "done", "because"):
        steps.add_column(name, justify="right" if name == "done" else "left")
    style = {DONE: "green", PENDING: "yellow", INVALID: "red", WAITING: "dim"}
    for step in plan.steps:
        done = "" if step.tasks is None else f"{step.done:,} of {step.tasks:,}"
        steps.add_row(escape(step.step), f"[{style[step.state]}]{step.state}[/]", done, escape(step.because))
    console.print(steps)
