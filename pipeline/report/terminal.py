"""The report of a run in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenmill.pipeline.report.document_text import printable
from tokenmill.pipeline.report.report import Report
from tokenmill.pipeline.storage.receipts import StageCount

NAMED_FAILURES = 10
BAR_WIDTH = 8


def print_report(console: Console, report: Report) -> None:
    """The funnel with its reasons, splits and failures."""
    if not report.complete:
        console.print("This run has not finished: the figures are of what it has done so far.", style="yellow")
    if report.sample is not None:
        console.print(
            f"This run is on a sample of about {report.sample:,} documents, the heads of its files.", style="yellow"
        )
    console.print(_funnel(report))
    for node, splits in report.splits.items():
        console.print(_splits(node, splits))
    for line in report.lines:
        console.print(escape(printable(line)), style="dim", highlight=False)
    for notice in report.notices:
        console.print(f"Note: {escape(printable(notice))}", style="yellow")
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
    return "\n".join(f"{number:,} {prefix}{escape(rule)}" for number, rule, prefix in ordered)


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


def _print_failures(console: Console, report: Report) -> None:
    console.print(f"\n{report.failed:,} input record{'s' if report.failed > 1 else ''} failed:", style="bold red")
    for failure in report.failures[:NAMED_FAILURES]:
        place = f"{failure['partition']}#{failure['position']}"
        url = f" {failure['url']}" if failure.get("url") else ""
        message = f"  {place}{url}: {failure['rule']}: {failure['message']}"
        console.print(escape(message), highlight=False)
    if report.failed > NAMED_FAILURES:
        console.print("  ... the others are in the ledger: SELECT * FROM 'RUN/ledger/*.parquet' WHERE fate = 'failed'")
