"""What people see in the terminal: progress while a run goes on, and its report as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenmill.pipeline.report.document_text import printable
from tokenmill.pipeline.report.report import Report, deduplications
from tokenmill.pipeline.storage.receipts import StageCount

NAMED_FAILURES = 10
CURVE_AT = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Similarities at which the chance of a match is printed."""
FLAGGED_LOSS = 0.5
"""Share of a source's documents above which their loss to duplicates is pointed out."""
REPEATS_SHOWN = 5
"""Paragraphs named, of those that most documents held."""
BAR_WIDTH = 8


def print_report(console: Console, report: Report) -> None:
    """The funnel with its reasons, splits and failures."""
    if not report.complete:
        console.print("This run has not finished: the figures go as far as it came.", style="yellow")
    if report.sample is not None:
        console.print(
            f"This run is on a sample of about {report.sample:,} documents, the heads of its files.", style="yellow"
        )
    console.print(_funnel(report))
    for node, splits in report.splits.items():
        console.print(_splits(node, splits))
    for line in [*curves(report), *charset_lines(report), *repeated_paragraphs(report)]:
        console.print(escape(line), style="dim", highlight=False)
    for warning in warnings(report):
        console.print(f"Note: {escape(warning)}", style="yellow")
    if report.failed:
        _print_failures(console, report)


def _funnel(report: Report) -> Table:
    table = Table(title="Funnel", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("in", justify="right", no_wrap=True)
    table.add_column("kept", justify="right", no_wrap=True)
    table.add_column("", width=BAR_WIDTH, no_wrap=True)
    table.add_column("MB kept", justify="right", no_wrap=True)
    table.add_column("reasons", overflow="fold")
    first = max(report.stages["read"].entered, 1)
    for name, count in report.stages.items():
        table.add_row(
            escape(name),
            f"{count.entered:,}",
            f"{count.kept:,}",
            "█" * max(round(BAR_WIDTH * count.kept / first), 1 if count.kept else 0),
            f"{count.bytes_kept / 1e6:,.1f}",
            _reasons(count),
        )
    return table


def _reasons(count: StageCount) -> str:
    reasons = [(number, rule, "") for rule, number in count.dropped.items()]
    reasons += [(number, rule, "failed ") for rule, number in count.failed.items()]
    ordered = sorted(reasons, key=lambda reason: (-reason[0], reason[1]))
    return "\n".join(f"{number:,} {mark}{escape(rule)}" for number, rule, mark in ordered)


def _splits(node: str, splits: dict[str, dict[str, object]]) -> Table:
    table = Table(title=f"Shards ({escape(node)})", title_justify="left")
    for name in ("split", "documents", "tokens", "MB of text", "shards"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in splits.items():
        shards = split["shards"]
        assert isinstance(shards, list)
        table.add_row(
            name,
            f"{split['documents']:,}",
            f"{split['tokens']:,}",
            f"{float(str(split['bytes'])) / 1e6:,.2f}",
            f"{len(shards):,}",
        )
    return table


def curves(report: Report) -> list[str]:
    """How likely each deduplication was to find a pair, by the pair's similarity."""
    from tokenmill.stages.dedup.minhash import match_probability  # it comes with numba, which takes half a second

    found = []
    for node, bands, rows in deduplications(report):
        chances = (f"{at:g}: {match_probability(at, bands, rows):.1%}" for at in CURVE_AT)
        found.append(f"{node}: {bands} bands of {rows} rows find pairs by similarity {', '.join(chances)}")
    return found


def repeated_paragraphs(report: Report) -> list[str]:
    """The paragraphs that most documents held, by stage that took them out."""
    found = []
    for step, by_task in report.metrics.items():
        largest = [one for add_metrics in by_task.values() for one in add_metrics.get("largest_repeats", ())]
        largest.sort(key=lambda one: (-one["documents"], one["text"]))
        node = step.rpartition(".")[0]
        found += [
            f"{node}: {one['documents']:,} documents held: {printable(one['text'])}" for one in largest[:REPEATS_SHOWN]
        ]
    return found


def charset_lines(report: Report) -> list[str]:
    """How many pages are in another charset than they declare."""
    if report.charsets is None or not report.charsets.declared:
        return []
    count = report.charsets
    return [
        f"charsets: {count.lies:,} of {count.declared:,} pages that declare one are in another ({count.lie_rate:.1%})"
    ]


def warnings(report: Report) -> list[str]:
    """What somebody should know who looks at the run, beside the counts."""
    found = list(report.notices)
    for step, by_task in report.metrics.items():
        reasons = {
            add_metrics["encoder_reason"] for add_metrics in by_task.values() if add_metrics.get("encoder_reason")
        }
        found += [f"{step}: encoded with tokenizers, which is slower: {reason}" for reason in sorted(reasons)]
        found += [
            f"{step.rpartition('.')[0]}: has {add_metrics['vocabulary']:,} tokens, not {add_metrics['vocabulary_asked']:,}: "
            "there is too little text for more"
            for add_metrics in by_task.values()
            if "vocabulary_asked" in add_metrics and add_metrics["vocabulary"] < add_metrics["vocabulary_asked"]
        ]
    for node, *_ in deduplications(report):
        found += [
            f"{node}: source {source} loses {1 - count.kept / count.entered:.0%} of its documents: look at the largest clusters"
            for source, count in report.sources[node].items()
            if count.entered and 1 - count.kept / count.entered > FLAGGED_LOSS
        ]
    for node, splits in report.splits.items():
        found += [f"{node}: the {name} split is empty" for name, split in splits.items() if not split["documents"]]
    return found


def _print_failures(console: Console, report: Report) -> None:
    console.print(f"\n{report.failed:,} input record{'s' if report.failed > 1 else ''} failed:", style="bold red")
    for failure in report.failures[:NAMED_FAILURES]:
        place = f"{failure['partition']}#{failure['position']}"
        url = f" {failure['url']}" if failure.get("url") else ""
        message = f"  {place}{url}: {failure['rule']}: {failure['message']}"
        console.print(escape(message), highlight=False)
    if report.failed > NAMED_FAILURES:
        console.print(
            "  ... the others stand in the ledger: SELECT * FROM 'RUN/ledger/*.parquet' WHERE fate = 'failed'"
        )
