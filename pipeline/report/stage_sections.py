"""What the stages add to a run's page, as its template lays it out."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from tokenmill.pipeline.report.document_text import printable, text_of
from tokenmill.pipeline.report.report import Report
from tokenmill.pipeline.report.run_charts import stage_chart
from tokenmill.pipeline.report.stage_run import StageRunView
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.stages.report import Chart, DocumentPair, Heading, Paragraph, Part, Section, Snippets, Table
from tokenmill.stages.stage import Stage

PAIR_CHARACTERS = 1500
"""Of each text of a pair."""


@dataclass
class StageSections:
    """`shown`: titles with their parts, each with its `kind` and what the template shows of it; `charts`: by name."""

    shown: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    charts: dict[str, Any] = field(default_factory=dict)


def stage_sections(run: RunFolder, report: Report, stages: Mapping[str, Stage]) -> StageSections:
    """The sections of all stages, in the order of the DAG; the title names the stage where several have the same."""
    given = [
        (name, section)
        for name, stage in stages.items()
        for section in stage.report_sections(StageRunView(run, name, report.sources[name]))
    ]
    titles = Counter(section.title for _, section in given)
    rows = run.rows_of(_named(section for _, section in given))
    found = StageSections()
    for number, (name, section) in enumerate(given):
        title = f"{section.title} ({name})" if titles[section.title] > 1 else section.title
        parts = [
            _shown(run, part, rows, found.charts, f"section-{number}-{place}")
            for place, part in enumerate(section.parts)
        ]
        found.shown.append((title, parts))
    return found


def _named(sections: Iterable[Section]) -> set[str]:
    pairs = [part for section in sections for part in section.parts if isinstance(part, DocumentPair)]
    return {name for pair in pairs for name in (pair.kept, pair.dropped)}


def _shown(
    run: RunFolder, part: Part, rows: Mapping[str, dict[str, Any]], charts: dict[str, Any], chart_name: str
) -> dict[str, Any]:
    match part:
        case Chart():
            charts[chart_name] = stage_chart(part)
            return {"kind": "chart", "chart": chart_name}
        case Heading():
            return {"kind": "heading", "text": printable(part.text)}
        case Paragraph():
            return {"kind": "paragraph", "text": printable(part.text), "is_soft": part.is_soft}
        case Snippets():
            return {"kind": "snippets", "label": part.label, "texts": part.texts}
        case Table():
            return {"kind": "table", "columns": part.columns, "numeric": part.numeric, "rows": _cells(part)}
        case DocumentPair():
            kept, dropped = rows[part.kept], rows[part.dropped]
            sides = marked(text_of(run, kept)[:PAIR_CHARACTERS], text_of(run, dropped)[:PAIR_CHARACTERS])
            return {"kind": "pair", "pair": part, "kept": kept, "dropped": dropped, "texts": sides}


def _cells(table: Table) -> list[list[tuple[str, bool]]]:
    """The cells as texts, each with whether it is set to the right."""
    is_numeric = [column in table.numeric for column in table.columns]
    return [list(zip(map(_cell, row), is_numeric, strict=True)) for row in table.rows]


def _cell(value: str | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else value


def marked(left: str, right: str) -> tuple[Markup, Markup]:
    """Two texts, escaped, with the words marked that the other does not have."""
    words = left.split(" "), right.split(" ")
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, *spans in matcher.get_opcodes():
        for side, (begin, end), mine in zip(sides, (spans[:2], spans[2:]), words, strict=True):
            if begin < end:
                piece = escape(" ".join(mine[begin:end]))
                side.append(piece if kind == "equal" else Markup("<mark>{}</mark>").format(piece))
    return Markup(" ").join(sides[0]), Markup(" ").join(sides[1])
