"""Charts out of a template: what Bokeh makes of each one by itself, with identifiers of their own."""

from __future__ import annotations

import json
from typing import Any

from bokeh.models.annotations import Span
from bokeh.plotting import figure

from tokenmill.pipeline.report.chart_template import ChartTemplate, column_placeholder, placeholder


def drawn(label: Any, left: Any, at: Any) -> Any:
    chart: Any = figure(x_axis_label=label)
    chart.line("left", "left", source={"left": left})
    chart.add_layout(Span(location=at, dimension="height", name="line"))
    return chart


def models(item: str) -> list[Any]:
    """Every identifier in a chart."""
    found: list[Any] = []

    def look(value: Any) -> Any:
        found.extend([value["id"]] if "id" in value else [])
        return value

    json.loads(item, object_hook=look)
    return found


def test_a_rendered_template_is_the_chart_that_bokeh_makes() -> None:
    label = 'words "<of> \\ @left@'
    template = ChartTemplate(drawn(placeholder("label"), column_placeholder("left"), placeholder("at")))
    one = template.render("cut-1", {"left": [1.5, 2.0], "at": 0.25, "label": label})
    other = template.render("cut-2", {"left": [3.0], "at": 4.0, "label": "another"})
    assert not set(models(one)) & set(models(other))
    direct = ChartTemplate(drawn(label, [1.5, 2.0], 0.25)).render("cut-1", {})
    numbers = [{name: number for number, name in enumerate(dict.fromkeys(models(item)))} for item in (one, direct)]
    shapes = []
    for item, number in zip((one, direct), numbers, strict=True):
        text = str(item)
        for name, place in number.items():
            text = text.replace(f'"{name}"', f'"model {place}"')
        shapes.append(json.loads(text))
    assert shapes[0] == shapes[1]
    assert shapes[0]["target_id"] == "cut-1"
    assert json.loads(other)["target_id"] == "cut-2"
