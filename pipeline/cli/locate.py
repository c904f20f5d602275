"""`tokenmill locate`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from tokenmill.pipeline.cli.options import AsJson, Dataset, Run


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
    from tokenmill.pipeline.commands.printing import print_place
    from tokenmill.pipeline.storage.run_folder import open_run

    place = find(open_run(run), split, offset, dataset)
    if as_json:
        print(json.dumps(place, indent=1, ensure_ascii=False))
    else:
        print_place(Console(), place)
