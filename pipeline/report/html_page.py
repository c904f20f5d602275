"""Pages: one self-contained HTML file each, which asks no network and runs nothing but what it was written with.

Text in it comes from crawls and models, so all of it is escaped (Jinja's autoescape), and a content policy lets no script run
but the two that are named by their digests: Bokeh, as its package ships it, and the line that draws the charts.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import bokeh
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import BasicTickFormatter
from bokeh.plotting import figure
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

COLORS = ("#3b7dd8", "#d9822b", "#2f9e6e", "#b05cc6", "#c9433f", "#8a8f98")
"""Of curves: told apart on white and on black, and by those who see few colours."""
NEUTRAL = "#8a8f98"
"""Of axes and labels, readable on both."""

DRAW = """
const places = new Map();
for (const place of document.querySelectorAll('script[type="application/json"][data-chart]'))
  places.set(place.dataset.chart, place);
function draw(within) {
  for (const [name, place] of places)
    if (within.contains(place) && !place.closest("details:not([open])")) {
      places.delete(name);
      Bokeh.embed.embed_item(JSON.parse(place.textContent), name);
    }
}
for (const folded of document.querySelectorAll("details"))
  folded.addEventListener("toggle", () => draw(folded));
draw(document);

for (const input of document.querySelectorAll("input[data-slider]")) {
  const {edges, counts, least, logarithmic} = JSON.parse(input.dataset.slider);
  const total = counts.reduce((sum, count) => sum + count, 0);
  input.addEventListener("input", () => {
    const at = Number(input.value);
    const dropped = (least ? counts.slice(0, at) : counts.slice(at)).reduce((sum, count) => sum + count, 0);
    const label = input.closest("label");
    label.querySelector(".at").textContent = String(Number(edges[at].toPrecision(4)));
    label.querySelector(".dropped").textContent =
      dropped.toLocaleString("en") + " documents (" + (100 * dropped / Math.max(total, 1)).toFixed(1) + "%)";
    for (const shown of Bokeh.documents) {
      const line = shown.get_model_by_name("threshold of " + input.dataset.chart);
      if (line) line.location = logarithmic ? Math.log1p(edges[at]) : edges[at];
    }
  });
}

function unfold() {
  const story = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (story instanceof HTMLDetailsElement) story.open = true;
}
addEventListener("hashchange", unfold);
unfold();
"""
"""Draws charts as they come to sight, answers sliders from their histograms, unfolds the story that a link leads to."""


def render(template: str, charts: Mapping[str, Any], **content: Any) -> str:
    """A page from a template beside this file, which places each chart with `chart(name)`.

    `charts`: Bokeh's models, or the JSON that a `ChartTemplate` made of one, by the names that the template knows them by.
    """
    scripts = [_library(), DRAW] if charts else []
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {_digests(scripts)}"

    def chart(name: str) -> Markup:
        # in a script element nothing is markup but its end
        drawn = charts[name]
        item = drawn if isinstance(drawn, str) else json.dumps(json_item(drawn, ID(name)))
        item = item.replace("<", "\\u003c")
        place = Markup('<div class="chart" id="{0}"></div><script type="application/json" data-chart="{0}">').format(
            name
        )
        return place + Markup(item) + Markup("</script>")

    return fill(
        template, policy=policy, scripts=[Markup(script) for script in scripts], chart=chart, charts=charts, **content
    )


def fill(template: str, **content: Any) -> str:
    """A template of `templates/` with its names replaced; what is not markup of ours is escaped."""
    return _templates().get_template(template).render(**content)


def plot(title: str, x_label: str, y_label: str, height: int = 260, **options: Any) -> Any:
    """An empty chart as wide as its place, on whatever background the page has."""
    chart: Any = figure(
        title=title,
        x_axis_label=x_label,
        y_axis_label=y_label,
        height=height,
        sizing_mode="stretch_width",
        tools="hover,box_zoom,reset",
        toolbar_location="above",
        **options,
    )
    chart.toolbar.logo = None
    chart.toolbar.autohide = True
    chart.background_fill_alpha = chart.border_fill_alpha = 0
    chart.outline_line_color = None
    chart.title.text_color = NEUTRAL
    chart.title.text_font = "system-ui"
    for axis in (chart.xaxis, chart.yaxis):
        axis.axis_label_text_color = axis.major_label_text_color = NEUTRAL
        axis.axis_line_color = axis.major_tick_line_color = NEUTRAL
        axis.minor_tick_line_color = None
        axis.axis_label_text_font_style = "normal"
        for one in axis:
            if isinstance(one.formatter, BasicTickFormatter):
                one.formatter.use_scientific = False
    chart.grid.grid_line_color = NEUTRAL
    chart.grid.grid_line_alpha = 0.2
    return chart


def finish(chart: Any) -> Any:
    """Dresses the legend, once all is drawn."""
    if chart.legend:
        chart.legend.background_fill_alpha = 0
        chart.legend.border_line_color = None
        chart.legend.label_text_color = NEUTRAL
        chart.legend.orientation = "horizontal"
        chart.add_layout(chart.legend[0], "below")
    return chart


@cache
def _templates() -> Environment:
    """The templates beside this file, each compiled once (40 ms, against 3 to render the page of a running run)."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


@cache
def _library() -> str:
    return (Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js").read_text(encoding="utf-8")


def _digests(scripts: list[str]) -> str:
    """What a content policy names scripts by."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
