"""What `tokenmill plan` shows: the DAG, and for each step what is done, pending or invalid, and because of what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tokenmill.pipeline.graph.config import RunConfig
from tokenmill.pipeline.graph.routes import split_input
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage.receipts import LEDGER
from tokenmill.pipeline.storage.step_folder import StepFolder

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
    plan = RunPlan.of(config, where)
    steps: list[StepSummary] = []
    unfinished: dict[str, str] = {}
    for name in plan.step_names:
        waits_for = [unfinished[node] for node in _reads(plan, name) if node in unfinished]
        if waits_for:
            results = len(StepFolder(plan.store, name).receipts())
            because = f"{waits_for[0]} runs first"
            if results:
                because += f"; its {results} results are kept where its inputs come out the same"
            steps.append(StepSummary(name, WAITING, 0, None, because))
        else:
            found = plan.status(name)
            if not found.pending:
                steps.append(StepSummary(name, DONE, found.total, found.total, ""))
                plan.enter(found)
                continue
            causes = Counter(cause for _, cause in found.pending)
            cause, count = causes.most_common(1)[0]
            if len(causes) > 1:
                cause += f" ({count} tasks; {len(causes) - 1} other reasons)"
            new = all(reason == "not run yet" for reason in causes)
            steps.append(StepSummary(name, PENDING if new else INVALID, len(found.done), found.total, cause))
        for node in _gives(plan, name):
            unfinished.setdefault(node, name)
    counts = Counter(partition.source for partition in plan.partitions)
    edges = {name: [*node.inputs] for name, node in plan.dag.nodes.items()}
    return PlanStatus(edges, dict(counts), steps)


def _reads(plan: RunPlan, name: str) -> list[str]:
    """What must be finished before a step: the nodes that it reads, and the phases before its own."""
    if name == LEDGER:
        return [*plan.dag.sources, *plan.dag.nodes]
    step = plan.steps_by_name[name]
    artifact = [node.artifact for node in step.nodes if node.artifact]
    return [
        *(split_input(i)[0] for i in step.inputs if i not in step.reads),
        *artifact,
        *(node.name for node in step.nodes),
    ]


def _gives(plan: RunPlan, name: str) -> list[str]:
    if name == LEDGER:
        return []
    step = plan.steps_by_name[name]
    return [node.name for node in step.nodes] or list(step.inputs)
