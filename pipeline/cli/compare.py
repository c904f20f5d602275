"""`tokenmill compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tokenmill.pipeline.cli.options import AsJson
from tokenmill.pipeline.errors import ConfigError


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
    from tokenmill.pipeline.commands.printing import print_comparison
    from tokenmill.pipeline.storage.run_folder import open_run

    if page is not None and not page.parent.is_dir():
        raise ConfigError(f"--page {page}: there is no folder {page.parent}")
    runs = open_run(first), open_run(second)
    found = find(*runs)
    if page is not None:
        from tokenmill.pipeline.commands.compare_page import write_compare_page

        write_compare_page(page, *runs, found)
    if as_json:
        print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
        return
    console = Console()
    print_comparison(console, found)
    if page is not None:
        console.print(f"Page: {escape(str(page))}", highlight=False, soft_wrap=True)
