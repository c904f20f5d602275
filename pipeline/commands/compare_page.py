"""Two runs side by side as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bokeh.models import HoverTool
from bokeh.transform import dodge

from tokenmill.model.common.files import write_whole
from tokenmill.pipeline.commands.compare import Comparison, changed
from tokenmill.pipeline.report.html_page import COLORS, finish, plot, render
from tokenmill.pipeline.storage.run_folder import RunFolder

MOST_BARS = 20
"""Rules drawn: those that changed most; the table has them all."""


def write_compare_page(path: Path, first: RunFolder, second: RunFolder, found: Comparison) -> None:
    """Writes the page of a comparison of two runs."""
    charts = {"stages": _pairs_chart(found.stages)}
    if rules := changed(found.rules):
        most = sorted(rules, key=lambda rule: -abs(rules[rule][1] - rules[rule][0]))[:MOST_BARS]
        charts["rules"] = _pairs_chart({rule: rules[rule] for rule in rules if rule in most})
    tables = {"Tokens": changed(found.tokens)}
    tables |= {f"Kept by {column}": changed(pairs) for column, pairs in found.categories.items()}
    page = render(
        "compare_page.html.j2",
        charts,
        roots=(first.root, second.root),
        names=[run.name for run in (first, second)],
        outcome=_outcome(found),
        config={key: [_shown(value) for value in values] for key, values in found.config.items()},
        stages=found.stages,
        rules=rules,
        tables={title: pairs for title, pairs in tables.items() if pairs},
        moved={"Kept now": found.newly_kept, "Dropped now": found.newly_dropped},
    )
    write_whole(path, page)


def _outcome(found: Comparison) -> str:
    tokens = [sum(pair[run] for pair in found.tokens.values()) for run in (0, 1)]
    text = f"{found.kept[0]:,} documents were kept in the first run, {found.kept[1]:,} in the second"
    text += f" ({tokens[0]:,} and {tokens[1]:,} tokens)" if any(tokens) else ""
    kept, dropped = found.newly_kept.documents, found.newly_dropped.documents
    text += f". Of the documents of both, {kept:,} are kept now that were not, {dropped:,} are dropped now."
    if found.only_first or found.only_second:
        text += f" {found.only_first:,} records are in the first run alone, {found.only_second:,} in the second."
    return text


def _shown(value: Any) -> str:
    """A value of a config; nothing where the run has no such key."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs_chart(pairs: dict[str, tuple[int, int]]) -> Any:
    """Documents of both runs, a bar each, by stage or rule."""
    names = list(pairs)
    source = {"name": names, "first": [one for one, _ in pairs.values()], "second": [two for _, two in pairs.values()]}
    chart = plot("", "documents", "", height=110 + 40 * len(names), y_range=names[::-1])
    for run, offset, color in (("first", 0.2, COLORS[5]), ("second", -0.2, COLORS[0])):
        where = dodge("name", offset, range=chart.y_range)
        chart.hbar(y=where, right=run, height=0.36, color=color, source=source, legend_label=run)
    for tool in chart.select(HoverTool):
        tool.tooltips = [("", "@name"), ("first", "@first{0,0}"), ("second", "@second{0,0}")]
    chart.x_range.start = 0
    chart.ygrid.grid_line_color = None
    return finish(chart)
