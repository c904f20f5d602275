"""`tokenmill peek` and `tokenmill trace`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tokenmill.pipeline.cli.options import AsJson, Dataset, Run


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
    from tokenmill.pipeline.commands.printing import print_peek
    from tokenmill.pipeline.commands.windows import peek as look
    from tokenmill.pipeline.storage.run_folder import open_run

    seen = look(open_run(run), split, index, context_length, dataset, packing, seed)
    if as_json:
        print(json.dumps(seen, indent=1, ensure_ascii=False))
    else:
        print_peek(Console(), seen)


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
    from tokenmill.pipeline.commands.printing import print_documents
    from tokenmill.pipeline.commands.windows import trace as find

    rows = find(Path(training_run), step)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
    else:
        print_documents(Console(), rows)
