"""The command line: `tokenmill`. One module a command beside this one; each imports what it needs only when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from tokenmill.model.common.exit_codes import DONE, FAILED, INTERRUPTED, WRONG_USAGE
from tokenmill.pipeline.cli.compare import compare
from tokenmill.pipeline.cli.explain import explain
from tokenmill.pipeline.cli.export import export
from tokenmill.pipeline.cli.locate import locate
from tokenmill.pipeline.cli.plan import plan
from tokenmill.pipeline.cli.report import report
from tokenmill.pipeline.cli.run import run
from tokenmill.pipeline.cli.schema import schema
from tokenmill.pipeline.cli.verify import verify
from tokenmill.pipeline.cli.what_if import what_if
from tokenmill.pipeline.cli.windows import peek, trace
from tokenmill.pipeline.commands.training import budget, generate, train
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


def _show_version(asked: bool) -> None:
    if asked:
        print(f"tokenmill {version('tokenmill')}")
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


COMMANDS: tuple[Callable[..., None], ...] = (
    *(run, plan, report, compare, explain, what_if, locate, peek, trace, verify, export),
    *(train, generate, budget, schema),
)
for function in COMMANDS:
    app.command(name=function.__name__.replace("_", "-"))(function)


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
