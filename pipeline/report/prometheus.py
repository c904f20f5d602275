"""A run's figures in Prometheus' text format, for the node exporter's textfile collector or a push gateway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenmill.pipeline.report.report import Report


def prometheus_text(report: Report, run: str) -> str:
    """The report as gauges, each with the label `run`: documents and bytes by stage, reasons, seconds and memory by step,
    tokens by split."""
    stages = report.stages.items()
    families: list[tuple[str, str, Iterable[tuple[dict[str, str], float]]]] = [
        (
            "documents_in",
            "Documents that reached a stage.",
            [({"stage": name}, count.entered) for name, count in stages],
        ),
        ("documents_kept", "Documents that left a stage.", [({"stage": name}, count.kept) for name, count in stages]),
        (
            "documents_dropped",
            "Documents that a rule dropped.",
            [
                ({"stage": name, "rule": rule}, number)
                for name, count in stages
                for rule, number in count.dropped.items()
            ],
        ),
        (
            "documents_failed",
            "Records that failed.",
            [
                ({"stage": name, "rule": rule}, number)
                for name, count in stages
                for rule, number in count.failed.items()
            ],
        ),
        ("bytes_kept", "Bytes that left a stage.", [({"stage": name}, count.bytes_kept) for name, count in stages]),
        (
            "step_seconds",
            "Seconds of work of a step's tasks.",
            [({"step": n}, c.seconds) for n, c in report.costs.items()],
        ),
        (
            "step_peak_memory_bytes",
            "Largest peak memory of a task of a step.",
            [({"step": name}, cost.peak_memory_bytes) for name, cost in report.costs.items()],
        ),
        (
            "tokens",
            "Tokens of a split.",
            [
                ({"dataset": n, "split": s}, held["tokens"])
                for n, splits in report.splits.items()
                for s, held in splits.items()
            ],
        ),
        ("complete", "1 for a run that has finished.", [({}, int(report.complete))]),
    ]
    lines = []
    for name, help_text, samples in families:
        lines += [f"# HELP tokenmill_{name} {help_text}", f"# TYPE tokenmill_{name} gauge"]
        lines += [f"tokenmill_{name}{{{_labels({'run': run, **labels})}}} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, Any]) -> str:
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
