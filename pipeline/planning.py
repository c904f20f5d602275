"""What `tokenmill plan` shows: the DAG, and for each step what is done, pending or invalid, and because of what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import receipts
from pipeline.config import RunConfig
from pipeline.plan import LEDGER_STEP, RunState
from pipeline.routes import split_input

DONE, PENDING, INVALID, WAITING = "done", "pending", "invalid", "waits"


@dataclass
class StepStatus:
    """A step: its state, how many of its tasks are done of how many (None where the steps before decide that), and why."""

    step: str
    state: str
    done: int
    tasks: int | None
    because: str


@dataclass
class PlanSurvey:
    """The edges of the DAG (node -> what it reads) and the status of every step."""

    edges: dict[str, list[str]]
    partitions: dict[str, int]
    statuses: list[StepStatus]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "sources": self.partitions,
            "stages": self.edges,
            "steps": [vars(status) for status in self.statuses],
        }


def survey_plan(config: RunConfig, where: str) -> PlanSurvey:
    """Looks at every step as far as it can be known before anything runs. Raises `ConfigError`."""
    state = RunState.of(config, where)
    statuses: list[StepStatus] = []
    unfinished: dict[str, str] = {}
    for name in state.step_names:
        waits_for = [unfinished[node] for node in _reads(state, name) if node in unfinished]
        if waits_for:
            held = len([t for t in state.store.names(f"steps/{name}") if receipts.load(state.store, name, t)])
            because = f"{waits_for[0]} runs first"
            if held:
                because += f"; its {held} results stay where what it reads comes out the same"
            statuses.append(StepStatus(name, WAITING, 0, None, because))
        else:
            survey = state.survey(name)
            tasks = len(survey.done) + len(survey.pending)
            if not survey.pending:
                statuses.append(StepStatus(name, DONE, tasks, tasks, ""))
                by_key = {work.key: receipt for work, receipt in survey.done}
                state.enter(name, {work.key: by_key[work.key] for work in state.tasks(name)})
                continue
            causes = Counter(cause for _, cause in survey.pending)
            cause, count = causes.most_common(1)[0]
            if len(causes) > 1:
                cause += f" ({count} tasks; {len(causes) - 1} other reasons)"
            new = all(reason == "not run yet" for reason in causes)
            statuses.append(StepStatus(name, PENDING if new else INVALID, len(survey.done), tasks, cause))
        for node in _gives(state, name):
            unfinished.setdefault(node, name)
    counts = Counter(partition.source for partition in state.partitions)
    edges = {name: [*node.inputs] for name, node in state.dag.nodes.items()}
    return PlanSurvey(edges, dict(counts), statuses)


def _reads(state: RunState, name: str) -> list[str]:
    """What must be finished before a step: the nodes that it reads, and the phases before its own."""
    if name == LEDGER_STEP:
        return [*state.dag.sources, *state.dag.nodes]
    step = next(step for step in state.steps if step.name == name)
    wired = [node.wired for node in step.nodes if node.wired]
    return [
        *(split_input(i)[0] for i in step.inputs if i not in step.reads),
        *wired,
        *(node.name for node in step.nodes),
    ]


def _gives(state: RunState, name: str) -> list[str]:
    if name == LEDGER_STEP:
        return []
    step = next(step for step in state.steps if step.name == name)
    return [node.name for node in step.nodes] or list(step.inputs)


def print_plan(console: Console, survey: PlanSurvey) -> None:
    """The DAG and the steps as tables."""
    dag = Table(title="DAG", title_justify="left")
    for name in ("stage", "reads"):
        dag.add_column(name)
    for source, count in survey.partitions.items():
        dag.add_row(escape(source), f"source, {count:,} partition{'s' if count != 1 else ''}")
    for node, inputs in survey.edges.items():
        dag.add_row(escape(node), escape(", ".join(inputs)))
    console.print(dag)
    steps = Table(title="Steps", title_justify="left")
    for name in ("step", "state", "done", "because"):
        steps.add_column(name, justify="right" if name == "done" else "left")
    style = {DONE: "green", PENDING: "yellow", INVALID: "red", WAITING: "dim"}
    for status in survey.statuses:
        done = "" if status.tasks is None else f"{status.done:,} of {status.tasks:,}"
        steps.add_row(escape(status.step), f"[{style[status.state]}]{status.state}[/]", done, escape(status.because))
    console.print(steps)
