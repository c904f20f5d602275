"""The report of a run: the funnel, the reasons, what failed, by its receipts; and what the stages say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenmill.pipeline.graph.routes import NOT_TAKEN, NOT_TAKEN_ROW
from tokenmill.pipeline.report.stage_run import StageRunView, load_stages
from tokenmill.pipeline.storage.receipts import FAILURES_NAMED, LEDGER, READ, Receipt, StageCount
from tokenmill.pipeline.storage.run_folder import RunFolder

SCHEMA_VERSION = 2

PAGE = "report.html"
"""A run's page, in its folder."""
REPORT_FILE = "report.json"
"""The same for machines."""


@dataclass
class StepCost:
    """What a step cost: tasks, seconds of work summed over tasks, and the largest peak memory of one task in bytes; and the
    documents that entered it (0 for a step that counts none)."""

    tasks: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    documents: int = 0

    @property
    def throughput(self) -> float | None:
        """Documents a second of work; None where none were counted or it took no time."""
        return self.documents / self.seconds if self.documents and self.seconds else None


@dataclass
class Report:
    """`stages`: counts by stage, in the order of the DAG, "read" first. `failures`: the first failed documents, with their
    partition. `metrics`: what corpus stages measured, by "node.phase" and task. `sources`: counts by stage and source.
    `sample`: documents asked for, where the run is on a sample. `splits`: documents, tokens, bytes and shards by node and
    split. What the stages say: `lines` and `notices`, in sentences; `facts`, by what they are; `figures`, by stage. `seconds`
    and `ran` (tasks by step): of the latest run only."""

    complete: bool
    stages: dict[str, StageCount]
    ledger: StageCount
    costs: dict[str, StepCost]
    failures: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, StageCount]]
    sample: int | None
    notices: list[str]
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float | None = None
    ran: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Records that failed or were cut short."""
        return sum(sum(count.failed.values()) for count in self.stages.values())

    @property
    def tasks_run(self) -> int:
        """Tasks that the latest run ran; 0 where nothing was to do."""
        return sum(self.ran.values())

    def _repr_html_(self) -> str:
        """What a notebook shows: the funnel and the shards."""
        from tokenmill.pipeline.report.html_page import fill

        return fill("notebook.html.j2", report=self)

    def as_json(self) -> dict[str, Any]:
        """The report for machines, as `report.json` has it; `schema` is raised when a field changes its meaning.

        `complete`: whether the run finished. `sample`: documents asked for, null where the run is on all. `documents`: records
        of the ledger as counts (`in`, `kept`, `dropped` and `failed` by rule, `bytes_in`, `bytes_kept`). `stages`: the same by
        `stage`, "read" first. `sources`: the same by source. `failed`: records that failed; `failures`: the first of them, with
        `partition`, `position`, `url`, `rule`, `message`. `splits`: what dataset cards say, by shard stage and split. `steps`:
        `step`, `tasks`, `ran` (of these, the last time), `seconds` of work, `documents` that entered, `peak_memory_bytes` of a
        task. `metrics`: what corpus stages measured, by step and task. `notices`: what people should know, in sentences.
        `figures`: by stage what else it says of the run (see `Stage.summary`). `seconds`: the last run's.
        """
        return {
            "schema": SCHEMA_VERSION,
            "complete": self.complete,
            "sample": self.sample,
            "documents": _counts(self.ledger),
            "stages": [{"stage": name, **_counts(count)} for name, count in self.stages.items()],
            "failed": self.failed,
            "failures": self.failures,
            "splits": self.splits,
            "sources": {
                name: {source: _counts(count) for source, count in counts.items()}
                for name, counts in self.sources.items()
            },
            "steps": [
                {
                    "step": name,
                    "tasks": cost.tasks,
                    "ran": self.ran.get(name, 0),
                    "seconds": round(cost.seconds, 3),
                    "documents": cost.documents,
                    "peak_memory_bytes": cost.peak_memory_bytes,
                }
                for name, cost in self.costs.items()
            ],
            "metrics": self.metrics,
            "notices": self.notices,
            "figures": self.figures,
            "seconds": self.seconds,
        }


def _counts(count: StageCount) -> dict[str, Any]:
    return {
        "in": count.entered,
        "kept": count.kept,
        "dropped": dict(sorted(count.dropped.items())),
        "failed": dict(sorted(count.failed.items())),
        "bytes_in": count.bytes_entered,
        "bytes_kept": count.bytes_kept,
    }


def build_report(run: RunFolder) -> Report:
    """Sums up a run. One that was cut short is reported as far as it came, `complete` False."""
    report = sum_up(run.described, run.receipts)
    report.splits = {name: dataset.splits for name, dataset in run.datasets.items()}
    stages, lost = load_stages(run)
    report.notices += lost
    for name, stage in stages.items():
        said = stage.summary(StageRunView(run, name, report.sources[name]))
        report.lines += said.lines
        report.notices += said.notices
        report.facts |= {
            f"{label} ({name})" if label in report.facts else label: fact for label, fact in said.facts.items()
        }
        report.figures |= {name: dict(said.figures)} if said.figures else {}
    return report


def sum_up(described: dict[str, Any], by_step: Mapping[str, Sequence[Receipt]]) -> Report:
    """The report of what `run.json` describes, as far as receipts are given, by step."""
    stages: dict[str, StageCount] = {READ: StageCount()}
    stages |= {name: StageCount() for name in described["nodes"]}
    costs: dict[str, StepCost] = {}
    failures: list[dict[str, Any]] = []
    metrics: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, StageCount]] = {name: {} for name in stages}
    ledger = StageCount()
    for step, found in by_step.items():
        cost = costs[step] = StepCost(len(found))
        for receipt in found:
            cost.seconds += receipt.seconds
            cost.documents += next((count.entered for count in receipt.stages.values()), 0)
            cost.peak_memory_bytes = max(cost.peak_memory_bytes, receipt.peak_memory_bytes)
            counted = dict(receipt.stages)
            if step == LEDGER:
                ledger.add(counted.pop(LEDGER))
                if lost := receipt.stages[LEDGER].dropped.get(NOT_TAKEN):
                    counted[NOT_TAKEN_ROW] = StageCount(lost, dropped={NOT_TAKEN: lost})
            for name, count in counted.items():
                stages.setdefault(name, StageCount()).add(count)
                if receipt.partition is not None:
                    source = receipt.partition.partition(":")[0]
                    sources.setdefault(name, {}).setdefault(source, StageCount()).add(count)
            room = FAILURES_NAMED * 5 - len(failures)
            failures += [{"partition": receipt.partition, **failure} for failure in receipt.failures[:room]]
            if receipt.metrics:
                metrics.setdefault(step, {})[receipt.task] = receipt.metrics
    _fill_passing(described, stages)
    return Report(
        described["complete"],
        stages,
        ledger,
        costs,
        failures,
        metrics,
        sources,
        described["config"].get("sample"),
        list(described.get("notices", ())),
    )


def take_latest(run: RunFolder, report: Report) -> None:
    """Adds what the run wrote of itself when it last ran: `seconds`, and `ran`."""
    if isinstance(written := run.store.read_json(REPORT_FILE), dict):
        report.seconds = written["seconds"]
        report.ran = {step["step"]: step["ran"] for step in written["steps"]}


def _fill_passing(described: dict[str, Any], stages: dict[str, StageCount]) -> None:
    """Stages that pass every document on count nothing themselves: what reaches them leaves them."""
    for name, node in described["nodes"].items():
        count = stages[name]
        if count.entered or any(source in described["sources"] for source in node["inputs"]):
            continue
        for parent in node["inputs"]:
            documents, size = stages[parent].kept_of(node.get("routes", {}).get(parent, ()))
            count.add(StageCount(documents, documents, bytes_entered=size, bytes_kept=size))
