"""The command line: `tokenmill`."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from tokenmill.model.common.exit_codes import DONE, FAILED, INPUT_FAILED, INTERRUPTED, WRONG_USAGE
from tokenmill.pipeline.commands import training as model_commands
from tokenmill.pipeline.errors import ConfigError, RunError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Raw web crawls in, training-ready token shards out, and a model trained from them.

    **Try it**: `tokenmill run configs/quickstart.yaml`

    **Look at it**: `tokenmill report runs/quickstart`

    **Train from it**: `tokenmill train configs/train-laptop.yaml`

    **Ask it**: `tokenmill explain runs/quickstart URL`, `tokenmill locate runs/quickstart train 1000`

    Exit codes: 0 done; 1 failed; 2 wrong usage or config; 3 finished, but some input failed (named in the report);
    130 interrupted (run again to go on).
    """,
)

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="The YAML file that describes the run.", show_default=False)
]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder that a config names as `output:`.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change any key of the config, e.g. stages.language.min_score=0.8."
    ),
]
OutputFolder = Annotated[str | None, typer.Option("--output", help="Write here instead of the config's `output:`.")]
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        min=1,
        help="Try the config on about N documents, in a run of its own (OUTPUT-sample-N): of up to 16 partitions, chosen by a "
        "hash of their names, each source in turn, the first N/16 documents that reading keeps. Always the same ones; heads "
        "of files, so what stands further down in them is not seen.",
        show_default=False,
    ),
]
Dataset = Annotated[str | None, typer.Option(help="The shard stage, where the run has several.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one JSON value.")]


@app.command()
def run(
    config: Config,
    settings: Settings = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processors to use; default: all of this machine.")] = None,
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
    from tokenmill.pipeline.graph.config import load_config
    from tokenmill.pipeline.progress.progress_page import ProgressPage
    from tokenmill.pipeline.progress.terminal_progress import TerminalProgress
    from tokenmill.pipeline.report.report import PAGE
    from tokenmill.pipeline.report.terminal import print_report
    from tokenmill.pipeline.run.cluster import Cluster
    from tokenmill.pipeline.run.runner import python_paths
    from tokenmill.pipeline.run.runner import run as run_config
    from tokenmill.pipeline.storage.store import Store

    console = Console()
    loaded = load_config(config, settings or [], output, sample)
    if port is not None and not watch:
        raise ConfigError("--port says where --watch serves the page; give both")

    def tell(what: str, where: str) -> None:
        console.print(f"{what}: {escape(where)}", highlight=False, soft_wrap=True)

    cluster = Cluster(workers, address, lambda url: tell("Ray's dashboard", url))
    paths = python_paths()
    sys.path.extend(path for path in paths if path not in sys.path)
    where = loaded.output
    store = Store(where)
    progress = ProgressPage(store)
    server = None
    if watch:
        from tokenmill.pipeline.progress.page_server import PageServer

        server = PageServer(progress.html, port)
        tell("Watch", server.address)
    try:
        outcome = run_config(loaded, config, cluster, [TerminalProgress(console), progress], paths)
    except BaseException as error:
        is_interrupted = isinstance(error, KeyboardInterrupt)
        if is_interrupted:
            again = " ".join(["tokenmill", *sys.argv[1:]])
            console.print(f"\nInterrupted. What was committed stays; go on with: {escape(again)}", style="yellow")
        progress.stop("It was interrupted." if is_interrupted else str(error))
        cluster.stop()
        if server is not None:
            server.finish(progress.html())
        if is_interrupted:
            sys.exit(INTERRUPTED)
        raise
    progress.stop()
    if outcome.ran:
        print_report(console, outcome.report)
    if outcome.ran or progress.is_left():
        from tokenmill.pipeline.report.run_page import write_run_page

        tell("Page", write_run_page(store, outcome.report))
    if not outcome.ran:
        console.print(f"Nothing to do: {escape(where)} is up to date.")
    if server is not None:
        with store.open(PAGE) as file:
            server.finish(file.read().decode())
    if outcome.report.failed:
        console.print(
            f"Finished, but {outcome.report.failed:,} input records failed (exit code {INPUT_FAILED}).", style="red"
        )
    console.print(f"Next: tokenmill report {escape(where)}   tokenmill explain {escape(where)} URL", highlight=False)
    sys.stdout.flush()
    # Everything is committed; the embedded Ray ends with this process, and tidying it up would take another second
    os._exit(INPUT_FAILED if outcome.report.failed else DONE)


@app.command()
def plan(
    config: Config,
    settings: Settings = None,
    output: OutputFolder = None,
    sample: Sample = None,
    as_json: AsJson = False,
) -> None:
    """Shows the DAG and its steps: what is done, what is pending, and because of what. Runs nothing.

    `tokenmill plan my.yaml --set stages.quality.rules=[gopher]`
    """
    from tokenmill.pipeline.commands.plan import plan_status, print_plan
    from tokenmill.pipeline.graph.config import load_config
    from tokenmill.pipeline.run.runner import python_paths

    sys.path.extend(path for path in python_paths() if path not in sys.path)
    status = plan_status(load_config(config, settings or [], output, sample), config)
    if as_json:
        print(json.dumps(status.as_json(), indent=1))
    else:
        print_plan(Console(), status)


@app.command()
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
    is_training = model_commands.is_training_run(run)
    page = model_commands.report_training(run, as_json) if is_training else _report_run(run, as_json, prometheus)
    if page is not None:
        Console().print(f"Page: {escape(page)}", highlight=False, soft_wrap=True)
    if page is not None and opens:
        webbrowser.open(page if "://" in page else Path(page).resolve().as_uri())


def _report_run(run: str, as_json: bool, prometheus: Path | None) -> str | None:
    from tokenmill.pipeline.report.report import build_report, take_latest
    from tokenmill.pipeline.report.terminal import print_report
    from tokenmill.pipeline.storage.run_folder import open_run

    store = open_run(run)
    built = build_report(store)
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

    take_latest(store, built)
    return write_run_page(store, built)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's folder.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another's.", show_default=False)],
    as_json: AsJson = False,
    page: Annotated[
        Path | None, typer.Option(help="Write the comparison to this file too, as a page.", show_default=False)
    ] = None,
) -> None:
    """Shows what two runs have otherwise: config, funnel, reasons, languages, tokens, and the documents that changed sides.

    `tokenmill compare runs/june runs/july`

    `tokenmill compare runs/june runs/july --page july.html`
    """
    from tokenmill.pipeline.commands.compare import compare as find
    from tokenmill.pipeline.commands.compare import print_comparison
    from tokenmill.pipeline.storage.run_folder import open_run

    if page is not None and not page.parent.is_dir():
        raise ConfigError(f"--page {page}: there is no folder {page.parent}")
    stores = open_run(first), open_run(second)
    found = find(*stores)
    if page is not None:
        from tokenmill.pipeline.commands.compare_page import write_compare_page

        write_compare_page(page, *stores, found)
    if as_json:
        print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
        return
    console = Console()
    print_comparison(console, found)
    if page is not None:
        console.print(f"Page: {escape(str(page))}", highlight=False, soft_wrap=True)


@app.command()
def explain(
    run: Run,
    document: Annotated[
        str, typer.Argument(metavar="URL_OR_ID", help="A document's URL or ledger id.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Tells one document's whole story: where it came from, what was measured, what became of it and why.

    `tokenmill explain runs/quickstart https://bread.example/sourdough`
    """
    from tokenmill.pipeline.commands.explain import explain as find
    from tokenmill.pipeline.commands.explain import print_story
    from tokenmill.pipeline.storage.run_folder import open_run

    stories = find(open_run(run), document)
    if as_json:
        print(json.dumps(stories, indent=1, ensure_ascii=False, default=str))
        return
    for story in stories:
        print_story(Console(), story)


@app.command(name="what-if")
def what_if(run: Run, settings: Settings = None, as_json: AsJson = False) -> None:
    """Tells what a stage would keep and drop with other thresholds, from the ledger alone: nothing runs.

    For thresholds of quality and language stages; anything else must be run.

    `tokenmill what-if runs/quickstart --set stages.quality.rules.gopher.min_words=100`
    """
    from tokenmill.pipeline.commands.what_if import print_answer
    from tokenmill.pipeline.commands.what_if import what_if as answer_for
    from tokenmill.pipeline.run.runner import python_paths
    from tokenmill.pipeline.storage.run_folder import open_run

    sys.path.extend(path for path in python_paths() if path not in sys.path)
    answer = answer_for(open_run(run), settings or [])
    if as_json:
        print(json.dumps(answer.as_json(), indent=1, ensure_ascii=False))
    else:
        print_answer(Console(), answer)


@app.command()
def locate(
    run: Run,
    split: Annotated[str, typer.Argument(metavar="SPLIT", help="train or validation.", show_default=False)],
    offset: Annotated[
        int, typer.Argument(metavar="OFFSET", help="Token of the split, from 0.", min=0, show_default=False)
    ],
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Leads from a token to its shard, document, URL, source file and record offset, with the text around it.

    `tokenmill locate runs/quickstart train 123456`
    """
    from tokenmill.pipeline.commands.locate import locate as find
    from tokenmill.pipeline.commands.locate import print_place
    from tokenmill.pipeline.storage.run_folder import open_run

    place = find(open_run(run), split, offset, dataset)
    if as_json:
        print(json.dumps(place, indent=1, ensure_ascii=False))
    else:
        print_place(Console(), place)


@app.command()
def peek(
    run: Run,
    split: Annotated[str, typer.Option(help="train or validation.")] = "train",
    index: Annotated[int, typer.Option(min=0, help="The window's number in the first epoch.")] = 0,
    context_length: Annotated[int, typer.Option(min=1, help="Tokens in a window.")] = 1024,
    packing: Annotated[str, typer.Option(help="none or best_fit, as the trainer's config says.")] = "none",
    seed: Annotated[int, typer.Option(help="The trainer's seed.")] = 0,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Shows a window as a trainer will see it: decoded, document ends marked, with the documents' URLs.

    `tokenmill peek runs/quickstart --split validation --index 3 --context-length 256`
    """
    from tokenmill.pipeline.commands.windows import peek as look
    from tokenmill.pipeline.commands.windows import print_peek
    from tokenmill.pipeline.storage.run_folder import open_run

    seen = look(open_run(run), split, index, context_length, dataset, packing, seed)
    if as_json:
        print(json.dumps(seen, indent=1, ensure_ascii=False))
    else:
        print_peek(Console(), seen)


@app.command()
def trace(
    training_run: Annotated[
        str,
        typer.Argument(
            metavar="TRAINING_RUN", help="A training run's folder (it holds data_log.json).", show_default=False
        ),
    ],
    step: Annotated[int, typer.Argument(metavar="STEP", help="The step, from 0.", min=0, show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Tells which documents were in a training step's batch, with URL, source and what the filters measured.

    `tokenmill trace train/first 1234`
    """
    from tokenmill.pipeline.commands.windows import print_documents
    from tokenmill.pipeline.commands.windows import trace as find

    rows = find(Path(training_run), step)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
    else:
        print_documents(Console(), rows)


@app.command()
def verify(run: Run, as_json: AsJson = False) -> None:
    """Checks a run: checksums, conservation, index against tokens, decoding of a sample. Exit code 1 if anything is wrong.

    `tokenmill verify runs/quickstart`
    """
    from tokenmill.pipeline.commands.verify import verify as check
    from tokenmill.pipeline.storage.run_folder import open_run

    result = check(open_run(run))
    if as_json:
        print(json.dumps({"problems": result.problems, "checked": result.checked}, indent=1, ensure_ascii=False))
    else:
        console = Console()
        for problem in result.problems:
            console.print(f"[red]wrong[/]: {escape(problem)}", highlight=False)
        console.print(", ".join(f"{count:,} {what}" for what, count in result.checked.items()) + " checked.")
        console.print("All is well." if not result.problems else f"{len(result.problems)} problems.")
    sys.exit(FAILED if result.problems else DONE)


@app.command()
def export(
    run: Run,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="llmc, megatron, nanogpt, parquet or huggingface; for a model huggingface.",
            show_default=False,
        ),
    ],
    to: Annotated[str | None, typer.Option(help="The folder to write; default: RUN/export/FORMAT.")] = None,
    dataset: Dataset = None,
) -> None:
    """Writes a run's shards in the format of another trainer, or a trained model in that of transformers and vLLM.

    `tokenmill export runs/quickstart --format nanogpt`

    `tokenmill export train/laptop --format huggingface`

    `tokenmill export runs/june --format huggingface --to my-dataset`
    """
    from tokenmill.model.training.run_folder import find_checkpoint
    from tokenmill.pipeline.commands.export import export as write
    from tokenmill.pipeline.storage.run_folder import open_run

    checkpoint = find_checkpoint(run)
    if checkpoint is not None:
        model_commands.export_model(checkpoint, form, Path(to) if to is not None else Path(run) / "export" / form)
        return
    store = open_run(run)
    if to is not None:
        target = Path(to)
    elif store.local is not None:
        target = store.local / "export" / form
    else:
        raise ConfigError(f"{run} is not on this machine: say where to write, with --to")
    console = Console()
    hint = write(store, form, target, dataset, console)
    console.print(f"Written: {escape(str(target))}", highlight=False, soft_wrap=True)
    console.print(escape(hint), highlight=False, soft_wrap=True)


for command in (model_commands.train, model_commands.generate, model_commands.budget):
    app.command()(command)


@app.command()
def schema(
    training: Annotated[
        bool, typer.Option("--training", help="Of a training run's config (`tokenmill train`).")
    ] = False,
) -> None:
    """Prints the JSON schema of a config, every stage's keys included (for editors and for reading).

    `tokenmill schema > tokenmill.schema.json`

    `tokenmill schema --training > training.schema.json`
    """
    from tokenmill.model.training.config import train_config_schema
    from tokenmill.pipeline.graph.schema import config_schema

    print(json.dumps(train_config_schema() if training else config_schema(), indent=1))


def fail(message: str, code: int) -> NoReturn:
    """Ends with a message for people on standard error."""
    Console(stderr=True).print(f"[bold red]error[/]: {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(code)


def main() -> None:
    """The entry point: turns errors into messages and exit codes."""
    command: Callable[..., Any] = typer.main.get_command(app)
    try:
        command(standalone_mode=True)
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)
    except RunError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.close(sys.stdout.fileno())
        sys.exit(DONE)


if __name__ == "__main__":
    main()
