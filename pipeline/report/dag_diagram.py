"""The DAG of a run as a picture: boxes in rows from the sources down, each with what its steps cost."""

from __future__ import annotations

from typing import Any

from tokenmill.pipeline.report.report import Report

_WIDTH, _HEIGHT = 170, 64
_ACROSS, _DOWN = 190, 104
_MOST_ROUTES = 3
"""Values written beside an arrow."""


def dag_picture(described: dict[str, Any], report: Report) -> dict[str, Any]:
    """Boxes, arrows and the size of the picture in pixels, for the page's template.

    `described`: what `run.json` holds. A box stands in the row of its longest way from a source. Its `lines`: the name; the
    seconds of work of its steps and, where documents are counted, how many it took a second of that work; whether its tasks
    ran or were reused the last time. Stages that share their task share its cost: the first has the figures, the others name
    it. An arrow has the `route` it takes, where not all documents go along it.
    """
    depth: dict[str, int] = dict.fromkeys(described["sources"], 0)
    for name, node in described["nodes"].items():
        depth[name] = 1 + max(depth[parent] for parent in node["inputs"])
    rows: dict[int, list[str]] = {}
    for name, row in depth.items():
        rows.setdefault(row, []).append(name)
    widest = max(len(row) for row in rows.values())
    boxes = {
        name: {
            "x": int(_ACROSS * (place + (widest - len(row)) / 2)) + 10,
            "y": _DOWN * number + 10,
            "source": not number,
            "lines": _source_lines(name, report) if not number else _stage_lines(name, described, report),
        }
        for number, row in rows.items()
        for place, name in enumerate(row)
    }
    arrows = [
        {"begin": boxes[parent], "end": boxes[name], "route": _route(node["routes"].get(parent, ()))}
        for name, node in described["nodes"].items()
        for parent in node["inputs"]
    ]
    height = _DOWN * (len(rows) - 1) + _HEIGHT + 20
    return {
        "boxes": boxes,
        "box": {"width": _WIDTH, "height": _HEIGHT},
        "arrows": arrows,
        "width": _ACROSS * widest + 10,
        "height": height,
    }


def _source_lines(name: str, report: Report) -> list[str]:
    count = report.sources["read"].get(name)
    return [name, f"{count.entered:,} records" if count else "no records"]


def _stage_lines(name: str, described: dict[str, Any], report: Report) -> list[str]:
    own = [step for step in described["steps"] if name in step["nodes"]]
    shared = [step["nodes"][0] for step in own if step["nodes"][0] != name]
    if shared and len(own) == 1:
        return [name, f"in one task with {shared[0]}"]
    steps = [step["name"] for step in own if step["nodes"][0] == name and step["name"] in report.costs]
    seconds = sum(report.costs[step].seconds for step in steps)
    tasks = sum(report.costs[step].tasks for step in steps)
    lines = [name, f"{seconds:,.1f} s"]
    entered = report.stages[name].entered
    if entered and seconds:
        lines[1] += f" · {entered / seconds:,.0f} documents/s"
    if report.ran:
        ran = sum(report.ran.get(step, 0) for step in steps)
        lines.append("reused" if not ran else "ran" if ran == tasks else f"ran {ran:,} of {tasks:,} tasks")
    return lines


def _route(values: list[str]) -> str:
    more = f" and {len(values) - _MOST_ROUTES} more" if len(values) > _MOST_ROUTES else ""
    return ", ".join(values[:_MOST_ROUTES]) + more
