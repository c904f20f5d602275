"""The charts of a run's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import FixedTicker, HoverTool
from bokeh.models.annotations import Span

from tokenmill.pipeline.report.band_agreement import Agreement, agreeing_bands
from tokenmill.pipeline.report.chart_template import ChartTemplate, mark, marks
from tokenmill.pipeline.report.html_page import COLORS, NEUTRAL, finish, plot
from tokenmill.pipeline.report.ledger_statistics import Histogram
from tokenmill.pipeline.report.report import Report
from tokenmill.stages.dedup.minhash import match_probability

KEPT, GONE = COLORS[0], COLORS[1]
MOST_DIGITS = 16
"""Of a value on a logarithmic axis."""


def cut_id(number: int) -> str:
    """The name of the chart of the histogram of this number."""
    return f"cut-{number}"


def funnel_chart(report: Report) -> Any:
    """Documents that stay and that go, by stage."""
    names = list(report.stages)
    kept = [count.kept for count in report.stages.values()]
    gone = [count.entered - count.kept for count in report.stages.values()]
    return _stacked_bars("documents", names, {"kept": kept, "gone": gone}, (KEPT, GONE), "{0,0}")


def steps_chart(report: Report) -> Any:
    """Seconds of work by step, over all its tasks."""
    seconds = [cost.seconds for cost in report.costs.values()]
    return _stacked_bars("seconds of work", list(report.costs), {"seconds": seconds}, (KEPT,), "{0,0.00}")


def _stacked_bars(
    label: str, names: list[str], values: dict[str, list[Any]], colors: tuple[str, ...], form: str
) -> Any:
    chart = plot("", label, "", height=60 + 32 * len(names), y_range=names[::-1])
    source = {"name": names, **values}
    chart.hbar_stack(list(values), y="name", height=0.7, color=list(colors), source=source)
    for tool in chart.select(HoverTool):
        tool.tooltips = [("", "@name"), *((name, f"@{name}{form}") for name in values)]
    chart.x_range.start = 0
    chart.ygrid.grid_line_color = None
    return chart


def cut_charts(histograms: Sequence[Histogram]) -> dict[str, str]:
    """By name, each measure's values with the threshold drawn in; the line is called "threshold of NAME" and moves with the
    slider."""
    moulds = {kind: _cut_mould(kind) for kind in {one.is_logarithmic for one in histograms}}
    charts = {}
    for number, one in enumerate(histograms):
        edges = place_of(one.edges, one.is_logarithmic).tolist()
        threshold = place_of(np.array([one.cut.threshold]), one.is_logarithmic)[0]
        charts[cut_id(number)] = moulds[one.is_logarithmic].filled(
            cut_id(number),
            {
                "left": edges[:-1],
                "right": edges[1:],
                "kept": one.kept.tolist(),
                "total": (one.kept + one.gone).tolist(),
                "gone": one.gone.tolist(),
                "from": one.edges[:-1].tolist(),
                "to": one.edges[1:].tolist(),
                "label": one.column.replace("_", " "),
                "threshold": float(threshold),
                "name": f"threshold of {cut_id(number)}",
            },
        )
    return charts


def _cut_mould(is_logarithmic: bool) -> ChartTemplate:
    chart = plot("", mark("label"), "documents", height=220)
    source = {name: marks(name) for name in ("left", "right", "kept", "total", "gone", "from", "to")}
    chart.quad(
        "left", "right", "total", "kept", source=source, color=GONE, line_color=None, legend_label="gone in the end"
    )
    chart.quad("left", "right", "kept", 0, source=source, color=KEPT, line_color=None, legend_label="kept in the end")
    chart.add_layout(
        Span(
            location=mark("threshold"),
            dimension="height",
            line_color=COLORS[4],
            line_width=2,
            line_dash="dashed",
            name=mark("name"),
        )
    )
    if is_logarithmic:
        ticks = np.array([0.0, *10.0 ** np.arange(MOST_DIGITS)])  # those beyond the values are not drawn
        places = place_of(ticks, True).tolist()
        chart.xaxis.ticker = FixedTicker(ticks=places)
        chart.xaxis.major_label_overrides = {
            place: f"{tick:,.0f}" for place, tick in zip(places, ticks.tolist(), strict=True)
        }
    for tool in chart.select(HoverTool):
        tool.tooltips = [("from", "@from{0.[0000]} to @to{0.[0000]}"), ("kept", "@kept{0,0}"), ("gone", "@gone{0,0}")]
    chart.y_range.start = 0
    return ChartTemplate(finish(chart))


def place_of(values: npt.NDArray[np.float64], is_logarithmic: bool) -> npt.NDArray[np.float64]:
    """Where values lie on a chart's axis."""
    return np.log1p(values) if is_logarithmic else values


def match_chart(bands: int, rows: int, similarities: npt.NDArray[np.int64]) -> Any:
    """The share of pairs that bands find by their similarity, and the similarities of the duplicates that were found."""
    chart = plot("", "similarity", "share", y_range=(0, 1.05))
    at = np.linspace(0, 1, 101)
    found = [match_probability(float(value), bands, rows) for value in at]
    edges = np.linspace(0, 1, len(similarities) + 1)
    shares = similarities / similarities.max()
    chart.quad(
        edges[:-1],
        edges[1:],
        shares,
        0,
        color=NEUTRAL,
        alpha=0.4,
        legend_label="duplicates, of the fullest bar",
    )
    label = f"chance to be found: 1 - (1 - s^{rows})^{bands}"
    chart.line(at, found, color=KEPT, line_width=2, legend_label=label)
    chart.select(HoverTool).clear()
    finish(chart)
    chart.legend.orientation = "vertical"
    return chart


def agreement_chart(measured: Agreement) -> Any:
    """Bands that agree in the pairs that were found, by similarity: the means measured, over the mean that theory has."""
    bins = measured.bins()
    bands, rows = measured.bands, measured.rows
    chart = plot("", "similarity", "bands that agree", y_range=(0, bands + 0.5))
    at = np.linspace(min(0.5, bins[0].similarity), 1, 201)
    label = f"theory: {bands} s^{rows} / (1 - (1 - s^{rows})^{bands})"
    chart.line(at, agreeing_bands(at, bands, rows)[0], color=KEPT, line_width=2, legend_label=label)
    source = {
        "similarity": [one.similarity for one in bins],
        "agreeing": [one.agreeing for one in bins],
        "low": [one.agreeing - 2 * one.error for one in bins],
        "high": [one.agreeing + 2 * one.error for one in bins],
        "pairs": [one.pairs for one in bins],
    }
    chart.segment("similarity", "low", "similarity", "high", source=source, color=GONE, line_width=2)
    label = "measured, with two standard errors"
    points = chart.scatter("similarity", "agreeing", source=source, color=GONE, size=7, legend_label=label)
    for tool in chart.select(HoverTool):
        tool.renderers = [points]
        tool.tooltips = [("similarity", "@similarity{0.000}"), ("bands", "@agreeing{0.00}"), ("pairs", "@pairs{0,0}")]
    finish(chart)
    chart.legend.orientation = "vertical"
    return chart
