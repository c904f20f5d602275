"""`tokenmill explain`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from tokenmill.pipeline.cli.options import AsJson, Run


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
    from tokenmill.pipeline.commands.printing import print_story
    from tokenmill.pipeline.storage.run_folder import open_run

    stories = find(open_run(run), document)
    if as_json:
        print(json.dumps(stories, indent=1, ensure_ascii=False, default=str))
        return
    for story in stories:
        print_story(Console(), story)
