"""The charts of a run's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import FixedTicker, HoverTool
from bokeh.models.annotations import Span

from tokenmill.pipeline.report.chart_template import ChartTemplate, column_placeholder, placeholder
from tokenmill.pipeline.report.histogram import Histogram
from tokenmill.pipeline.report.html_page import COLORS, NEUTRAL, finish, plot
from tokenmill.pipeline.report.report import Report
from tokenmill.stages.report import Bars, Chart, Curve, Points

KEPT, DROPPED = COLORS[0], COLORS[1]
MOST_DIGITS = 16
"""Of a value on a logarithmic axis."""


def threshold_id(number: int) -> str:
    """The name of the chart of the histogram of this number."""
    return f"threshold-{number}"


def funnel_chart(report: Report) -> Any:
    """Documents that each stage kept and dropped."""
    names = list(report.stages)
    kept = [count.kept for count in report.stages.values()]
    dropped = [count.entered - count.kept for count in report.stages.values()]
    return _stacked_bars("documents", names, {"kept": kept, "dropped": dropped}, (KEPT, DROPPED), "{0,0}")


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


def threshold_charts(histograms: Sequence[Histogram]) -> dict[str, str]:
    """By name, each measure's values with the threshold drawn in; the line is called "threshold of NAME" and moves with the
    slider."""
    templates = {kind: _threshold_template(kind) for kind in {one.is_logarithmic for one in histograms}}
    charts = {}
    for number, one in enumerate(histograms):
        edges = place_of(one.edges, one.is_logarithmic).tolist()
        threshold = place_of(np.array([one.compares.threshold]), one.is_logarithmic)[0]
        charts[threshold_id(number)] = templates[one.is_logarithmic].render(
            threshold_id(number),
            {
                "left": edges[:-1],
                "right": edges[1:],
                "kept": one.kept.tolist(),
                "total": (one.kept + one.dropped).tolist(),
                "dropped": one.dropped.tolist(),
                "from": one.edges[:-1].tolist(),
                "to": one.edges[1:].tolist(),
                "label": one.of.column.replace("_", " "),
                "threshold": float(threshold),
                "name": f"threshold of {threshold_id(number)}",
            },
        )
    return charts


def _threshold_template(is_logarithmic: bool) -> ChartTemplate:
    chart = plot("", placeholder("label"), "documents", height=220)
    source = {name: column_placeholder(name) for name in ("left", "right", "kept", "total", "dropped", "from", "to")}
    chart.quad(
        "left",
        "right",
        "total",
        "kept",
        source=source,
        color=DROPPED,
        line_color=None,
        legend_label="dropped in the end",
    )
    chart.quad("left", "right", "kept", 0, source=source, color=KEPT, line_color=None, legend_label="kept in the end")
    chart.add_layout(
        Span(
            location=placeholder("threshold"),
            dimension="height",
            line_color=COLORS[4],
            line_width=2,
            line_dash="dashed",
            name=placeholder("name"),
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
        tool.tooltips = [
            ("from", "@from{0.[0000]} to @to{0.[0000]}"),
            ("kept", "@kept{0,0}"),
            ("dropped", "@dropped{0,0}"),
        ]
    chart.y_range.start = 0
    return ChartTemplate(finish(chart))


def place_of(values: npt.NDArray[np.float64], is_logarithmic: bool) -> npt.NDArray[np.float64]:
    """Where values lie on a chart's axis."""
    return np.log1p(values) if is_logarithmic else values


def stage_chart(described: Chart) -> Any:
    """A chart as a stage describes it."""
    chart = plot("", described.x_label, described.y_label, y_range=(0, described.top))
    hover = chart.select_one(HoverTool)
    hover.renderers = []
    for one in described.series:
        match one:
            case Bars():
                edges = one.edges
                bars = {"color": NEUTRAL, "alpha": 0.4, "legend_label": one.label}
                chart.quad(edges[:-1], edges[1:], one.heights, 0, **bars)
            case Curve():
                chart.line(one.x, one.y, color=KEPT, line_width=2, legend_label=one.label)
            case Points():
                _points(chart, hover, described, one)
    if not hover.renderers:
        chart.select(HoverTool).clear()
    finish(chart)
    chart.legend.orientation = "vertical"
    return chart


def _points(chart: Any, hover: Any, described: Chart, points: Points) -> None:
    ends = {
        "low": [y - reach for y, reach in zip(points.y, points.reach, strict=True)],
        "high": [y + reach for y, reach in zip(points.y, points.reach, strict=True)],
    }
    shown = {name: values for name, (_, values) in points.shown.items()}
    source = {"x": points.x, "y": points.y, **ends, **shown}
    chart.segment("x", "low", "x", "high", source=source, color=DROPPED, line_width=2)
    drawn = chart.scatter("x", "y", source=source, color=DROPPED, size=7, legend_label=points.label)
    hover.renderers = [*hover.renderers, drawn]
    hover.tooltips = [
        (described.x_label, "@x{0.000}"),
        (described.y_label, "@y{0.00}"),
        *((name, f"@{{{name}}}{{{form}}}") for name, (form, _) in points.shown.items()),
    ]
