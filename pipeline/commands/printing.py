"""What the commands find, for people in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tokenmill.pipeline.report.document_text import printable
from tokenmill.pipeline.storage.ledger_columns import ENDS, IDENTITY

if TYPE_CHECKING:  # of one command only: each imports what it needs
    from tokenmill.pipeline.commands.compare import Comparison
    from tokenmill.pipeline.commands.export import Follow
    from tokenmill.pipeline.commands.plan import PlanStatus
    from tokenmill.pipeline.commands.verify import Verification
    from tokenmill.pipeline.commands.what_if import Answer

SHOWN_CHARACTERS = 1200
"""Of the text of each state of a document."""
NO_MEASURES = (*IDENTITY, *ENDS, "fate", "tokens", "split")
"""Columns of the ledger that a table of documents does not show."""


def print_plan(console: Console, plan: PlanStatus) -> None:
    """The DAG and the steps as tables."""
    from tokenmill.pipeline.commands.plan import DONE, INVALID, PENDING, WAITING

    dag = Table(title="DAG", title_justify="left")
    for name in ("stage", "reads"):
        dag.add_column(name)
    for source, count in plan.partitions.items():
        dag.add_row(escape(source), f"source, {count:,} partition{'s' if count != 1 else ''}")
    for node, inputs in plan.edges.items():
        dag.add_row(escape(node), escape(", ".join(inputs)))
    console.print(dag)
    steps = Table(title="Steps", title_justify="left")
    for name in ("step", "state", "done", "because"):
        steps.add_column(name, justify="right" if name == "done" else "left")
    style = {DONE: "green", PENDING: "yellow", INVALID: "red", WAITING: "dim"}
    for step in plan.steps:
        done = "" if step.tasks is None else f"{step.done:,} of {step.tasks:,}"
        steps.add_row(escape(step.step), f"[{style[step.state]}]{step.state}[/]", done, escape(step.because))
    console.print(steps)


def print_comparison(console: Console, found: Comparison) -> None:
    """For people: what differs."""
    from tokenmill.pipeline.commands.compare import changed

    _print_pairs(console, "Config", found.config)
    for title, pairs in (("Kept after", found.stages), ("Dropped or failed by", found.rules), ("Tokens", found.tokens)):
        _print_pairs(console, title, changed(pairs))
    for column, pairs in found.categories.items():
        _print_pairs(console, f"Kept by {column}", changed(pairs))
    for moved, title in ((found.newly_kept, "kept now"), (found.newly_dropped, "dropped now")):
        console.print(f"\n{moved.documents:,} documents are {title}", style="bold", highlight=False)
        for example in moved.examples:
            name = printable(example["url"] or example["id"])
            console.print(Text(f"  {name}  {'was ' if moved is found.newly_kept else ''}{example['rule']}"))
    if found.only_first or found.only_second:
        text = f"{found.only_first:,} records are in the first run alone, {found.only_second:,} in the second."
        console.print(text, style="yellow", highlight=False)


def _print_pairs(console: Console, title: str, pairs: dict[str, tuple[Any, Any]]) -> None:
    if not pairs:
        return
    table = Table(title=title, title_justify="left", box=None)
    for name in ("", "first", "second", "change"):
        table.add_column(name, justify="left" if not name else "right", overflow="fold", no_wrap=not name)
    for key, (first, second) in pairs.items():
        counts = isinstance(first, int) and isinstance(second, int) and not isinstance(first, bool)
        shown = [f"{value:,}" if counts else str(value) for value in (first, second)]
        table.add_row(
            Text(printable(key)), *map(Text, shown), f"{second - first:+,}" if counts and title != "Config" else ""
        )
    console.print(table)


def print_story(console: Console, story: dict[str, Any]) -> None:
    """A story, for people."""
    fate = {"kept": "green", "dropped": "yellow", "failed": "red"}[story["fate"]]
    console.rule(escape(story["identity"]["id"]), align="left")
    for name, value in story["identity"].items():
        console.print(f"[bold]{name:14}[/] {escape(printable(str(value)))}", highlight=False)
    ended = story["ended"]
    text = f"[{fate}]{story['fate']}[/]"
    if ended.get("rule"):
        text += f" at {escape(ended['stage'])} by {escape(ended['rule'])}"
    if "value" in ended:
        text += f": {ended['value']:g}"
        text += f" against {ended['threshold']:g}" if "threshold" in ended else ""
    if "message" in ended:
        text += f": {escape(ended['message'])}"
    console.print(f"[bold]{'fate':14}[/] {text}", highlight=False)
    for name, value in story["measures"].items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        console.print(f"  {name:28} {escape(shown)}", highlight=False)
    for place in story["tokens"]:
        console.print(
            f"[bold]{'tokens':14}[/] {place['tokens']:,} in {place['shard']} from {place['token_start']:,} "
            f"(tokenmill locate RUN {place['split']} {place['split_offset']})",
            highlight=False,
        )
    for name, text in story["texts"].items():
        clipped = text[:SHOWN_CHARACTERS] + (" ..." if len(text) > SHOWN_CHARACTERS else "")
        console.print(f"\n[bold]after {escape(name)}[/]" if name != "source" else "\n[bold]in its source[/]")
        console.print(escape(printable(clipped)), highlight=False)


def print_answer(console: Console, answer: Answer) -> None:
    """An answer, for people."""
    before, after = answer.before, answer.after
    console.print(f"[bold]{escape(answer.stage)}[/] with {escape(', '.join(answer.settings))}\n", highlight=False)
    table = Table(box=None, pad_edge=False)
    for title in ("documents", "now", "then", "change"):
        table.add_column(title, justify="left" if title == "documents" else "right")
    rows = [("kept", before.kept, after.kept)]
    rules = sorted(
        before.dropped | after.dropped, key=lambda rule: (-max(before.dropped[rule], after.dropped[rule]), rule)
    )
    rows += [(f"dropped by {rule}", before.dropped[rule], after.dropped[rule]) for rule in rules]
    for label, one, other in rows:
        table.add_row(escape(label), f"{one:,}", f"{other:,}", f"{other - one:+,}" if other != one else "")
    megabytes = before.bytes_kept / 1e6, after.bytes_kept / 1e6
    table.add_row("MB of text kept", *(f"{size:,.2f}" for size in megabytes), f"{megabytes[1] - megabytes[0]:+,.2f}")
    console.print(table)
    for title, movers in (("newly dropped", answer.newly_dropped), ("newly kept", answer.newly_kept)):
        text = f"\n[bold]{movers.documents:,} {title}[/], {movers.bytes / 1e6:,.2f} MB of text"
        if movers is answer.newly_dropped and answer.tokens is not None:
            text += f", {answer.tokens_lost:,} of the {answer.tokens:,} tokens in the shards"
        console.print(text, highlight=False)
        for _, example in movers.examples:
            shown = escape(printable(example["url"] or example["id"]))
            numbers = f"{example['value']:g} against {example['threshold']:g}" if example["value"] is not None else ""
            console.print(f"  {shown}  [dim]{escape(example['rule'])} {numbers}[/]", highlight=False, soft_wrap=True)
    if answer.unknown:
        console.print("\nNot known from the ledger:")
    for sentence in answer.unknown:
        console.print(f"- {escape(sentence)}", highlight=False)


def print_place(console: Console, place: dict[str, Any]) -> None:
    """A place, for people; the token stands out in its text."""
    for name in ("shard", "offset_in_shard", "document", "url", "source", "path", "record_offset"):
        console.print(f"[bold]{name.replace('_', ' '):16}[/] {escape(str(place[name]))}", highlight=False)
    within = f"token {place['offset_in_document']:,} of {place['document_tokens']:,}, id {place['token_id']}"
    console.print(f"[bold]{'in the document':16}[/] {within}", highlight=False)
    token = place["token"].replace("\n", "\\n") if place["token"].isspace() else place["token"]
    console.print(
        f"\n{escape(place['before'])}[reverse]{escape(token)}[/reverse]{escape(place['after'])}", highlight=False
    )


def print_peek(console: Console, seen: dict[str, Any]) -> None:
    """A window, for people: each document's end marked, then the documents."""
    console.print(
        f"window {seen['index']:,} of {seen['windows']:,} of {seen['split']}\n", highlight=False, style="bold"
    )
    for number, piece in enumerate(seen["text"]):
        if number:
            console.print(Text("─── document end ───", "reverse"))
        console.print(Text(piece))
    console.print()
    print_documents(console, seen["documents"])


def print_documents(console: Console, rows: list[dict[str, Any]]) -> None:
    """Documents of samples as a table, with what the ledger has measured of them."""
    table = Table(box=None)
    for name in ("sample", "tokens"):
        table.add_column(name, justify="right")
    has_ledger = any("ledger" in row for row in rows)
    for name in ("document", "url", *["measures"] * has_ledger):
        table.add_column(name, overflow="fold")
    for row in rows:
        ledger = row.get("ledger") or {}
        measures = (
            f"{name} {_short(value)}" for name, value in ledger.items() if name not in NO_MEASURES and value is not None
        )
        cells = [f"{row['sample']:,}", f"{row['tokens']:,}", row["id"], row["url"] or "", ", ".join(measures)]
        table.add_row(*(Text(cell) for cell in cells[: 4 + has_ledger]))
    console.print(table)
    if any("ledger" in row and row["ledger"] is None for row in rows):
        console.print("(no measures: the dataset does not lie in the run that made it)", style="dim")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_verification(console: Console, result: Verification) -> None:
    """What is wrong with a run, and how much was checked."""
    for problem in result.problems:
        console.print(f"[red]wrong[/]: {escape(problem)}", highlight=False)
    console.print(", ".join(f"{count:,} {what}" for what, count in result.checked.items()) + " checked.")
    console.print("All is well." if not result.problems else f"{len(result.problems)} problems.")


@contextmanager
def shown_progress(console: Console) -> Iterator[Follow]:
    """A bar for what goes by."""
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield lambda shards, what: progress.track(shards, description=what)
