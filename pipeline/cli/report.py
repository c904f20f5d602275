"""`tokenmill report`."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tokenmill.pipeline.cli.options import AsJson, Run
from tokenmill.pipeline.commands import training


def report(
    run: Run,
    as_json: AsJson = False,
    opens: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    prometheus: Annotated[
        Path | None,
        typer.Option(help="Write a run's figures to this file, in Prometheus' text format.", show_default=False),
    ] = None,
) -> None:
    """Shows the funnel of a run, with the reasons, and writes its page: thresholds, languages, domains, duplicates, samples.

    Of a training run: its evaluations, and a page with its curves.

    `tokenmill report runs/quickstart --json | jq .stages`

    `tokenmill report train/laptop`
    """
    is_training = training.is_training_run(run)
    page = training.report_training(run, as_json) if is_training else _report_run(run, as_json, prometheus)
    if page is not None:
        Console().print(f"Page: {escape(page)}", highlight=False, soft_wrap=True)
    if page is not None and opens:
        webbrowser.open(page if "://" in page else Path(page).resolve().as_uri())


def _report_run(run: str, as_json: bool, prometheus: Path | None) -> str | None:
    from tokenmill.pipeline.report.report import build_report, take_latest
    from tokenmill.pipeline.report.terminal import print_report
    from tokenmill.pipeline.storage.run_folder import open_run

    folder = open_run(run)
    built = build_report(folder)
    if prometheus is not None:
        from tokenmill.model.common.files import write_whole
        from tokenmill.pipeline.report.prometheus import prometheus_text

        write_whole(prometheus, prometheus_text(built, run))
    if as_json:
        print(json.dumps(built.as_json(), indent=1))
        return None
    print_report(Console(), built)
    if not built.complete:
        return None
    from tokenmill.pipeline.report.run_page import write_run_page

    take_latest(folder, built)
    return write_run_page(folder, built)
