"""A run as a page: `report.html` in its folder, from its receipts and its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from tokenmill.pipeline.report.dag_diagram import dag_picture
from tokenmill.pipeline.report.document_text import text_of
from tokenmill.pipeline.report.histogram import Threshold
from tokenmill.pipeline.report.html_page import render
from tokenmill.pipeline.report.ledger_statistics import LedgerStatistics, ledger_statistics
from tokenmill.pipeline.report.report import PAGE, Report
from tokenmill.pipeline.report.run_charts import funnel_chart, steps_chart, threshold_charts, threshold_id
from tokenmill.pipeline.report.stage_run import categorical_columns, column_of_one, load_stages
from tokenmill.pipeline.report.stage_sections import stage_sections
from tokenmill.pipeline.storage.ledger_columns import ENDS
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.stages.stage import Stage

SHOWN = 20
"""Languages, domains and failures named."""
CLIPPED = 700
"""Characters of a document's text."""


def write_run_page(run: RunFolder, report: Report) -> str:
    """Writes the page of a finished run, and gives back where it is. Raises `RunError` where receipts are gone."""
    page = run_page(run, report)
    with run.store.create(PAGE) as file:
        file.write(page.encode())
    return run.store.url_of(PAGE)


def run_page(run: RunFolder, report: Report) -> str:
    """The page."""
    stages, _ = load_stages(run)
    found = ledger_statistics(
        run,
        _thresholds(run, stages),
        categorical_columns(run, stages),
        column_of_one(run, {name: stage.tokens_measure for name, stage in stages.items()}),
        column_of_one(run, {name: stage.text_bytes_measure for name, stage in stages.items()}),
    )
    groups = _rules(found)
    ids = {document["id"] for group in groups for side in (group["kept"], group["dropped"]) for document in side}
    sections = stage_sections(run, report, stages)
    charts: dict[str, Any] = {"funnel": funnel_chart(report), "steps": steps_chart(report)}
    charts |= threshold_charts(found.histograms) | sections.charts
    domains = found.domains.table()
    return render(
        "run_page.html.j2",
        charts,
        name=run.name,
        root=run.root,
        outcome=_outcome(report),
        facts=_facts(report),
        report=report,
        dag=dag_picture(run.described, report),
        thresholds=[(threshold_id(number), one, _slider(one)) for number, one in enumerate(found.histograms)],
        categories={column: _most(counts.table(), "documents") for column, counts in found.categories.items()},
        domains=_most(domains, "documents"),
        domains_dropped=_most(domains, "dropped"),
        domain_count=domains.num_rows,
        rules=groups,
        stories={name: _story(run, row) for name, row in sorted(run.rows_of(ids).items())},
        sections=sections.shown,
        config=yaml.safe_dump(run.described["config"], sort_keys=False, allow_unicode=True),
        versions=run.described["versions"],
    )


def _thresholds(run: RunFolder, stages: Mapping[str, Stage]) -> list[Threshold]:
    """Each rule that compares a measure that the ledger has."""
    found = []
    for name, stage in stages.items():
        columns = {measure: column for column, measure in run.measure_columns(name).items()}
        for rule in stage.thresholds():
            if rule.measure in columns:
                where = columns.get(rule.where[0]) if rule.where else None
                found.append(Threshold(name, columns[rule.measure], where, rule))
    return found


def _outcome(report: Report) -> str:
    entered, kept = report.ledger.entered, report.ledger.kept
    tokens = sum(split["tokens"] for splits in report.splits.values() for split in splits.values())
    text = "" if report.sample is None else f"Sample of about {report.sample:,} documents: "
    text += f"{entered:,} records came in, {kept:,} documents were kept ({kept / max(entered, 1):.1%})"
    text += f" as {tokens:,} tokens" if tokens else ""
    text += f", in {report.seconds:,.0f} s" if report.seconds is not None else ""
    return text + (f". {report.failed:,} records failed: see below." if report.failed else "; nothing failed.")


def _facts(report: Report) -> dict[str, str]:
    splits = [split for splits in report.splits.values() for split in splits.values()]
    tokens, size = sum(split["tokens"] for split in splits), sum(split["bytes"] for split in splits)
    facts = {"records in": f"{report.ledger.entered:,}", "documents kept": f"{report.ledger.kept:,}"}
    if tokens:
        facts |= {"tokens": f"{tokens:,}", "bytes a token": f"{size / tokens:.2f}"}
    peak = max((cost.peak_memory_bytes for cost in report.costs.values()), default=0)
    facts["peak memory of a task"] = f"{peak / 1e6:,.0f} MB"
    return {**facts, **report.facts, "failed": f"{report.failed:,}"}


def _slider(one: Any) -> dict[str, Any]:
    return {
        "edges": one.edges.tolist(),
        "at": one.compares.threshold,
        "logarithmic": one.is_logarithmic,
        "counts": (one.kept + one.dropped).tolist(),
        "least": one.compares.is_least,
    }


def _most(counts: pa.Table, by: str) -> list[dict[str, Any]]:
    """The values with most `documents` or most `dropped`, with all that is counted of them."""
    counts = counts.append_column("dropped", pc.subtract(counts.column("documents"), counts.column("kept")))
    counts = counts.filter(pc.greater(counts.column(by), 0)).sort_by([(by, "descending"), ("value", "ascending")])
    return list(counts.slice(0, SHOWN).to_pylist())


def _rules(found: LedgerStatistics) -> list[dict[str, Any]]:
    """Of each rule the documents named: nearest to its threshold on both sides, or the first that it ended."""

    def shown(rows: Iterable[tuple[float, str, str | None, float]]) -> list[dict[str, Any]]:
        return [{"id": name, "url": url, "value": value} for _, name, url, value in rows]

    groups = [
        {
            "rule": one.compares.rule + (f" ({one.compares.where[1]})" if one.compares.where else ""),
            "threshold": one.compares.threshold,
            "kept": shown(kept.rows),
            "dropped": shown(dropped.rows),
        }
        for one, kept, dropped in zip(found.histograms, found.near_kept, found.near_dropped, strict=True)
    ]
    for rule, documents in sorted(found.first_ended.items()):
        dropped = [{"id": name, "url": url, "value": None} for name, url in documents]
        groups.append({"rule": rule, "threshold": None, "kept": [], "dropped": dropped})
    return groups


def _story(run: RunFolder, row: dict[str, Any]) -> dict[str, Any]:
    hidden = {"id", "position", "url", "source", "path", "fate", *ENDS}
    text = text_of(run, row)
    return {
        "row": row,
        "measures": {
            name: value[:CLIPPED] if isinstance(value, str) else value
            for name, value in row.items()
            if name not in hidden and value is not None
        },
        "text": text[:CLIPPED] + (" ..." if len(text) > CLIPPED else ""),
    }
