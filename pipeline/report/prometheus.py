"""A run's figures in Prometheus' text format, for the node exporter's textfile collector or a push gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from tokenmill.pipeline.report.report import Report

Samples = Sequence[tuple[tuple[str, ...], float]]
"""Values, each with those of its labels."""


def prometheus_text(report: Report, run: str) -> str:
    """The report as gauges, each with the label `run`: documents and bytes by stage, reasons, seconds and memory by step,
    tokens by split."""
    registry = CollectorRegistry()
    registry.register(_Figures(report, run))
    return generate_latest(registry).decode()


class _Figures:
    """A collector of `prometheus_client`: it is asked for all figures at once."""

    def __init__(self, report: Report, run: str) -> None:
        self._report = report
        self._run = run

    def collect(self) -> Iterator[GaugeMetricFamily]:
        stages, steps = self._report.stages.items(), self._report.costs.items()
        entered = [((name,), count.entered) for name, count in stages]
        yield self._gauge("documents_in", "Documents that reached a stage.", ["stage"], entered)
        kept = [((name,), count.kept) for name, count in stages]
        yield self._gauge("documents_kept", "Documents that a stage kept.", ["stage"], kept)
        dropped = [((name, rule), number) for name, count in stages for rule, number in count.dropped.items()]
        yield self._gauge("documents_dropped", "Documents that a rule dropped.", ["stage", "rule"], dropped)
        failed = [((name, rule), number) for name, count in stages for rule, number in count.failed.items()]
        yield self._gauge("documents_failed", "Records that failed.", ["stage", "rule"], failed)
        size = [((name,), count.bytes_kept) for name, count in stages]
        yield self._gauge("bytes_kept", "Bytes of the documents that a stage kept.", ["stage"], size)
        seconds = [((name,), cost.seconds) for name, cost in steps]
        yield self._gauge("step_seconds", "Seconds of work of a step's tasks.", ["step"], seconds)
        peaks = [((name,), cost.peak_memory_bytes) for name, cost in steps]
        yield self._gauge("step_peak_memory_bytes", "Largest peak memory of a task of a step.", ["step"], peaks)
        tokens = [
            ((name, split), content["tokens"])
            for name, splits in self._report.splits.items()
            for split, content in splits.items()
        ]
        yield self._gauge("tokens", "Tokens of a split.", ["dataset", "split"], tokens)
        yield self._gauge("complete", "1 for a run that has finished.", [], [((), self._report.complete)])

    def _gauge(self, name: str, help_text: str, labels: Sequence[str], samples: Samples) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"tokenmill_{name}", help_text, labels=["run", *labels])
        for values, value in samples:
            family.add_metric([self._run, *values], value)
        return family
