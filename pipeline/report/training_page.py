"""A training run as a page: `report.html` in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import HoverTool
from rich.console import Console
from rich.table import Table

from tokenmill.model.common.files import write_whole
from tokenmill.model.training.run_folder import METRICS_FILE, SAMPLES_FILE
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.report.html_page import COLORS, finish, plot, render

PAGE = "report.html"
POINTS = 1500
"""Of a curve, at most: a longer one is shown by the means of equal stretches."""
SHOWN_SAMPLES = 20
SMOOTHED = 0.02
"""Share of the steps over which the loss is averaged for its second curve."""

Values = npt.NDArray[np.float64]


def write_training_page(folder: Path) -> Path:
    """Writes the page of a training run, as far as it has come. Raises `RunError` where nothing was logged yet."""
    steps, evaluations = _read(folder)
    measured = [line for line in steps if "tokens_per_second" in line]
    config = (folder / "config.yaml").read_text()
    samples = _json_lines(folder / SAMPLES_FILE)
    chosen: Any = np.unique(np.linspace(0, len(samples) - 1, SHOWN_SAMPLES).astype(int)) if samples else []
    page = render(
        "training_page.html.j2",
        _charts(steps, evaluations, measured),
        name=folder.name,
        folder=str(folder),
        outcome=_outcome(steps, evaluations),
        facts=_facts(steps, evaluations, measured),
        evaluations=evaluations,
        sources=_sources(evaluations),
        skipped=[line["step"] for line in steps if line["loss"] is None],
        samples=[samples[number] for number in chosen],
        config=config,
    )
    write_whole(folder / PAGE, page)
    return folder / PAGE


def _outcome(steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> str:
    losses = [line["loss"] for line in steps if line["loss"] is not None]
    if not losses:
        return f"{len(steps):,} steps, none of which had a finite loss."
    text = f"{steps[-1]['step'] + 1:,} steps took the loss from {losses[0]:.2f} to {losses[-1]:.2f} nats a token"
    if evaluations:
        last = evaluations[-1]
        text += (
            f"; on the validation split it is {last['validation_loss']:.2f}, {last['bits_per_byte']:.3f} bits per byte"
        )
    return text + "."


def _facts(
    steps: list[dict[str, Any]], evaluations: list[dict[str, Any]], measured: list[dict[str, Any]]
) -> dict[str, str]:
    facts = {"steps": f"{steps[-1]['step'] + 1:,}"}
    if evaluations:
        best = min(evaluations, key=lambda line: line["bits_per_byte"])
        facts["best bits per byte"] = f"{best['bits_per_byte']:.4f} (step {best['step'] + 1:,})"
    if measured:
        rates = np.array([line["tokens_per_second"] for line in measured])
        facts["tokens/s, median"] = f"{np.median(rates):,.0f}"
        facts["waiting for data"] = f"{np.mean([line['data_wait'] for line in measured]):.2%}"
        if "mfu" in measured[-1]:
            facts["MFU, median"] = f"{np.median([line.get('mfu', 0) for line in measured]):.1%}"
    skipped = sum(line["loss"] is None for line in steps)
    if skipped:
        facts["skipped steps"] = f"{skipped:,}"
    return facts


def _charts(
    steps: list[dict[str, Any]], evaluations: list[dict[str, Any]], measured: list[dict[str, Any]]
) -> dict[str, Any]:
    charts = {"loss": _loss(steps, evaluations)}
    if evaluations:
        chart = plot("bits per byte of the validation split", "step", "bits")
        sources = _sources(evaluations)
        numbers = _column(evaluations, "step") + 1
        _curve(
            chart, numbers, _column(evaluations, "bits_per_byte"), COLORS[0], "all" if sources else None, marked=True
        )
        for color, source in zip(COLORS[1:], sources, strict=False):
            values = [line.get("sources", {}).get(source, {}).get("bits_per_byte", np.nan) for line in evaluations]
            _curve(chart, numbers, np.array(values), color, source, marked=True)
        charts["bits"] = finish(chart)
    if measured:
        chart = plot("throughput", "step", "tokens/s", y_range=(0, 1.1 * max(_column(measured, "tokens_per_second"))))
        _curve(chart, _column(measured, "step") + 1, _column(measured, "tokens_per_second"), COLORS[0], None)
        charts["throughput"] = chart
    for name, title in (("gradient_norm", "gradient norm before clipping"), ("learning_rate", "learning rate")):
        chart = plot(title, "step", "")
        _curve(chart, _column(steps, "step") + 1, _column(steps, name), COLORS[0], None)
        charts[name] = chart
    return charts


def _loss(steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> Any:
    chart = plot("loss", "step", "nats a token")
    numbers, losses = _column(steps, "step") + 1, _column(steps, "loss")
    _curve(chart, numbers, losses, COLORS[0], "training", alpha=0.35)
    _curve(chart, numbers, _smoothed(losses), COLORS[0], f"mean of {max(int(SMOOTHED * len(losses)), 1)} steps")
    if evaluations:
        values = _column(evaluations, "validation_loss")
        _curve(chart, _column(evaluations, "step") + 1, values, COLORS[1], "validation", marked=True)
    return finish(chart)


def _curve(
    chart: Any, x: Values, y: Values, color: str, label: str | None, *, alpha: float = 1.0, marked: bool = False
) -> None:
    x, y = _thinned(x, y)
    options: dict[str, Any] = {"color": color, "alpha": alpha} | ({} if label is None else {"legend_label": label})
    chart.line(x, y, line_width=2, **options)
    if marked:
        chart.scatter(x, y, size=5, **options)
    for tool in chart.select(HoverTool):
        tool.tooltips = [("step", "@x{0,0}"), ("value", "@y{0.0000}")]


def _thinned(x: Values, y: Values) -> tuple[Values, Values]:
    if len(x) <= POINTS:
        return x, y
    edges = np.linspace(0, len(x), POINTS + 1).astype(int)[:-1]
    counts = np.diff(edges, append=len(x))
    finite = np.isfinite(y)
    there = np.maximum(np.add.reduceat(finite, edges), 1)
    return np.add.reduceat(x, edges) / counts, np.add.reduceat(np.where(finite, y, 0.0), edges) / there


def _smoothed(values: Values) -> Values:
    """The mean of the last values that are finite, `SMOOTHED` of all."""
    count = max(int(SMOOTHED * len(values)), 1)
    finite = np.isfinite(values)
    sums = np.cumsum(np.where(finite, values, 0.0))
    there = np.cumsum(finite).astype(np.float64)
    sums[count:] -= sums[:-count].copy()
    there[count:] -= there[:-count].copy()
    return np.divide(sums, there, out=np.full(len(values), np.nan), where=there > 0)


def _sources(evaluations: list[dict[str, Any]]) -> list[str]:
    """The sources that were evaluated apart; none where there is but one."""
    found = dict.fromkeys(source for line in evaluations for source in line.get("sources", {}))
    return list(found) if len(found) > 1 else []


def _column(lines: list[dict[str, Any]], name: str) -> Values:
    return np.array([np.nan if line[name] is None else line[name] for line in lines], np.float64)


def training_summary(folder: Path) -> dict[str, Any]:
    """A training run for machines: `steps`, `skipped` steps, `loss` of the last, `evaluations` as they were logged."""
    steps, evaluations = _read(folder)
    return {
        "steps": steps[-1]["step"] + 1,
        "skipped": [line["step"] for line in steps if line["loss"] is None],
        "loss": steps[-1]["loss"],
        "evaluations": evaluations,
    }


def print_training_report(console: Console, folder: Path) -> None:
    """The outcome and the evaluations, for the terminal. Raises `RunError` where nothing was logged yet."""
    steps, evaluations = _read(folder)
    console.print(_outcome(steps, evaluations), highlight=False)
    table = Table(box=None)
    for name in ("after step", "validation loss", "bits per byte"):
        table.add_column(name, justify="right")
    for line in evaluations[-SHOWN_SAMPLES:]:
        table.add_row(f"{line['step'] + 1:,}", f"{line['validation_loss']:.4f}", f"{line['bits_per_byte']:.4f}")
    if evaluations:
        console.print(table)


def _read(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A run's steps and its evaluations."""
    lines = _json_lines(folder / METRICS_FILE)
    steps = [line for line in lines if "loss" in line]
    if not steps:
        raise RunError(f"{folder}: no step was logged yet")
    return steps, [line for line in lines if "validation_loss" in line]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that may be written to while it is read; none where it is not there."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break  # the last line, half written
    return found
