"""`tokenmill run`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tokenmill.model.common.exit_codes import DONE, INPUT_FAILED, INTERRUPTED
from tokenmill.pipeline.cli.options import Config, OutputFolder, Sample, Settings
from tokenmill.pipeline.errors import ConfigError


def run(
    config: Config,
    settings: Settings = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processors to use; default: all of this machine. 0 runs every task in this process, without Ray.",
            show_default=False,
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster (host:port, ray://..., auto) instead of this machine.")
    ] = None,
    output: OutputFolder = None,
    sample: Sample = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the run's page, as it goes on, to browsers here.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where --watch serves the page; default: a free port.")
    ] = None,
) -> None:
    """Runs what is pending: all the first time, what a change touches later, the rest after a crash.

    `tokenmill run configs/quickstart.yaml`

    `tokenmill run my.yaml --set stages.language.min_score=0.8 --workers 16`

    `tokenmill run my.yaml --sample 1000`

    `tokenmill run my.yaml --address ray://head:10001 --output s3://bucket/runs/june`

    `tokenmill run my.yaml --watch` prints the address of a page that tells how far the run is, and in the end its report.
    The page is also in the run's folder, written every few seconds: report.html.
    """
    from tokenmill.pipeline.progress.progress_page import ProgressPage
    from tokenmill.pipeline.progress.terminal_progress import TerminalProgress
    from tokenmill.pipeline.report.report import PAGE
    from tokenmill.pipeline.report.terminal import print_report
    from tokenmill.pipeline.run.pipeline import Pipeline, executor_for

    console = Console()
    pipeline = Pipeline(config, settings=settings or [], output=output, sample=sample)
    if port is not None and not watch:
        raise ConfigError("--port says where --watch serves the page; give both")

    def tell(what: str, where: str) -> None:
        console.print(f"{what}: {escape(where)}", highlight=False, soft_wrap=True)

    executor = executor_for(workers, address, lambda url: tell("Ray's dashboard", url))
    where = pipeline.config.output
    progress = ProgressPage(pipeline.store)
    server = None
    if watch:
        from tokenmill.pipeline.progress.page_server import PageServer

        server = PageServer(progress.html, port)
        tell("Watch", server.address)
    try:
        report = pipeline.run_on(executor, progress, [TerminalProgress(console)])
    except BaseException as error:
        if server is not None:
            server.finish(progress.html())
        if isinstance(error, KeyboardInterrupt):
            again = " ".join(["tokenmill", *sys.argv[1:]])
            console.print(f"\nInterrupted. What was committed stays; go on with: {escape(again)}", style="yellow")
            sys.exit(INTERRUPTED)
        raise
    if report.tasks_run:
        print_report(console, report)
        tell("Page", pipeline.store.url_of(PAGE))
    else:
        console.print(f"Nothing to do: {escape(where)} is up to date.")
    if server is not None:
        with pipeline.store.open(PAGE) as file:
            server.finish(file.read().decode())
    if report.failed:
        console.print(f"Finished, but {report.failed:,} input records failed (exit code {INPUT_FAILED}).", style="red")
    console.print(f"Next: tokenmill report {escape(where)}   tokenmill explain {escape(where)} URL", highlight=False)
    sys.stdout.flush()
    # Everything is committed; the embedded Ray ends with this process, and tidying it up would take another second
    os._exit(INPUT_FAILED if report.failed else DONE)
