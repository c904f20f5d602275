"""A run as a page: `report.html` in its folder, from its receipts and its ledger."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from markupsafe import Markup, escape

from tokenmill.pipeline.graph.stage_spec import stage_class
from tokenmill.pipeline.report.band_agreement import measure_agreement
from tokenmill.pipeline.report.dag_diagram import dag_picture
from tokenmill.pipeline.report.document_text import original_text, text_in
from tokenmill.pipeline.report.html_page import render
from tokenmill.pipeline.report.ledger_statistics import LedgerStatistics, ledger_statistics
from tokenmill.pipeline.report.report import PAGE, Report, deduplications
from tokenmill.pipeline.report.run_charts import (
    agreement_chart,
    cut_charts,
    cut_id,
    funnel_chart,
    match_chart,
    steps_chart,
)
from tokenmill.pipeline.report.terminal import curves, repeated_paragraphs, warnings
from tokenmill.pipeline.storage.dataset import Dataset
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.stages.stage import Stage, ThresholdRule

SHOWN = 20
"""Languages, domains and failures named."""
CLIPPED = 700
"""Characters of a document's text."""
PAIR_CHARACTERS = 1500
LONGEST_TOKENS = 12


def write_run_page(run: RunFolder, report: Report) -> str:
    """Writes the page of a finished run, and gives back where it is. Raises `RunError` where receipts are gone."""
    page = run_page(run, report)
    with run.store.create(PAGE) as file:
        file.write(page.encode())
    return run.store.url_of(PAGE)


def run_page(run: RunFolder, report: Report) -> str:
    """The page."""
    described = run.described
    found = ledger_statistics(run, _cuts(run), _measures_in_words(run))
    groups = _rules(found)
    clusters = _clusters(run, found)
    ids = {document["id"] for group in groups for side in (group["kept"], group["gone"]) for document in side}
    charts: dict[str, Any] = {"funnel": funnel_chart(report), "steps": steps_chart(report)}
    charts |= cut_charts(found.histograms)
    if (shapes := deduplications(report)) and found.similarities.sum():
        charts["match"] = match_chart(*shapes[0][1:], found.similarities)
    agreement = measure_agreement(run.store, run.receipts, list(found.pairs.values()))
    if agreement is not None:
        charts["agreement"] = agreement_chart(agreement)
    domains = found.domains.table()
    cards = {node: dataset.card for node, dataset in run.datasets.items()}
    return render(
        "run_page.html.j2",
        charts,
        name=run.name,
        root=run.root,
        outcome=_outcome(report),
        facts=_facts(report),
        warnings=warnings(report),
        curves=curves(report),
        repeated=repeated_paragraphs(report),
        report=report,
        dag=dag_picture(described, report),
        thresholds=[(cut_id(number), one, _slider(one)) for number, one in enumerate(found.histograms)],
        words={column: _most(counts.table(), "documents") for column, counts in found.words.items()},
        domains=_most(domains, "documents"),
        domains_gone=_most(domains, "gone"),
        domain_count=domains.num_rows,
        rules=groups,
        stories={name: _story(run, row) for name, row in sorted(run.rows_of(ids).items())},
        agreement=agreement,
        clusters=clusters,
        cards=cards,
        longest={node: _longest_tokens(dataset) for node, dataset in run.datasets.items()},
        config=yaml.safe_dump(described["config"], sort_keys=False, allow_unicode=True),
        versions=described["versions"],
    )


def _cuts(run: RunFolder) -> list[tuple[str, str, str | None, ThresholdRule]]:
    """Stage, column, column of `where`, and the rule itself, for each rule that compares a measure."""
    found = []
    for name, node in run.described["nodes"].items():
        columns = {measure: column for column, measure in run.measure_columns(name).items()}
        for cut in _stage(run.described, name, node["uses"]).thresholds():
            if cut.measure in columns:
                where = columns.get(cut.where[0]) if cut.where else None
                found.append((name, columns[cut.measure], where, cut))
    return found


def _stage(described: dict[str, Any], name: str, uses: str) -> Stage:
    keys = described["config"]["stages"][name] or {}
    return stage_class(uses).model_validate({key: value for key, value in keys.items() if key not in ("uses", "from")})


def _measures_in_words(run: RunFolder) -> list[str]:
    """Columns whose values are few words: all measures that are strings, but for ids of documents."""
    measured = {column for name in ("read", *run.described["nodes"]) for column in run.measure_columns(name)}
    strings: dict[str, None] = {}
    for path in run.ledger_paths:  # a file of which no document came to a stage lacks its measures
        with run.store.open(path) as file:
            strings |= dict.fromkeys(column.name for column in pq.read_schema(file) if column.type == pa.string())
    return [name for name in strings if name in measured and name not in ("survivor", "repeated_from")]


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
    if report.charsets is not None:
        facts["declared charset wrong"] = f"{report.charsets.lie_rate:.1%}"
    facts["failed"] = f"{report.failed:,}"
    return facts


def _slider(one: Any) -> dict[str, Any]:
    return {
        "edges": one.edges.tolist(),
        "at": one.cut.threshold,
        "logarithmic": one.is_logarithmic,
        "counts": (one.kept + one.gone).tolist(),
        "least": one.cut.is_least,
    }


def _most(counts: pa.Table, by: str) -> list[dict[str, Any]]:
    """The values with most `documents` or most `gone`, with all that is counted of them."""
    counts = counts.append_column("gone", pc.subtract(counts.column("documents"), counts.column("kept")))
    counts = counts.filter(pc.greater(counts.column(by), 0)).sort_by([(by, "descending"), ("value", "ascending")])
    return list(counts.slice(0, SHOWN).to_pylist())


def _longest_tokens(dataset: Dataset) -> list[str]:
    """The tokens of most characters, decoded, ties by id."""
    every = [[number] for number in range(dataset.card["vocab_size"])]
    decoded = dataset.tokenizer.decode_batch(every, skip_special_tokens=True)
    return sorted(decoded, key=len, reverse=True)[:LONGEST_TOKENS]


def _rules(found: LedgerStatistics) -> list[dict[str, Any]]:
    """Of each rule the documents named: nearest to its threshold on both sides, or the first that it ended."""

    def shown(rows: Iterable[tuple[float, str, str | None, float]]) -> list[dict[str, Any]]:
        return [{"id": name, "url": url, "value": value} for _, name, url, value in rows]

    groups = [
        {
            "rule": one.cut.rule + (f" ({one.cut.where[1]})" if one.cut.where else ""),
            "threshold": one.cut.threshold,
            "kept": shown(kept.rows),
            "gone": shown(gone.rows),
        }
        for one, kept, gone in zip(found.histograms, found.near_kept, found.near_gone, strict=True)
    ]
    for rule, documents in sorted(found.first_gone.items()):
        gone = [{"id": name, "url": url, "value": None} for name, url in documents]
        groups.append({"rule": rule, "threshold": None, "kept": [], "gone": gone})
    return groups


def text_of(run: RunFolder, row: dict[str, Any]) -> str:
    """A document's text as the last step left it that wrote it, else as it stands in its source; empty where both are gone."""
    for path in reversed(run.text_files.get(row["id"].rpartition("#")[0], {}).values()):
        text = text_in(run.store, path, row["position"])
        if text is not None:
            return text
    return original_text(run, row) or ""


def _story(run: RunFolder, row: dict[str, Any]) -> dict[str, Any]:
    hidden = {"id", "position", "url", "source", "path", "fate", "stage", "rule", "value", "threshold", "message"}
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


def _clusters(run: RunFolder, found: LedgerStatistics) -> list[dict[str, Any]]:
    """The largest clusters, each with one of its copies beside the document that stays, their differences marked."""
    survivors = {name: copies for copies, name in found.largest}
    rows = run.rows_of([*survivors, *found.copies_of.values()])
    clusters = []
    for name, copies in survivors.items():
        if name in found.copies_of:
            stays, goes = rows[name], rows[found.copies_of[name]]
            left, right = marked(text_of(run, stays)[:PAIR_CHARACTERS], text_of(run, goes)[:PAIR_CHARACTERS])
            clusters.append({"copies": copies, "stays": stays, "goes": goes, "left": left, "right": right})
    return clusters


def marked(left: str, right: str) -> tuple[Markup, Markup]:
    """Two texts, escaped, with the words marked that the other does not have."""
    words = left.split(" "), right.split(" ")
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, *spans in matcher.get_opcodes():
        for side, (begin, end), held in zip(sides, (spans[:2], spans[2:]), words, strict=True):
            if begin < end:
                piece = escape(" ".join(held[begin:end]))
                side.append(piece if kind == "equal" else Markup("<mark>{}</mark>").format(piece))
    return Markup(" ").join(sides[0]), Markup(" ").join(sides[1])
