"""`tokenmill export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tokenmill.pipeline.cli.options import Dataset, Run
from tokenmill.pipeline.commands import training
from tokenmill.pipeline.errors import ConfigError


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
    from tokenmill.pipeline.commands.printing import shown_progress
    from tokenmill.pipeline.storage.run_folder import open_run

    checkpoint = find_checkpoint(run)
    if checkpoint is not None:
        training.export_model(checkpoint, form, Path(to) if to is not None else Path(run) / "export" / form)
        return
    folder = open_run(run)
    if to is not None:
        target = Path(to)
    elif folder.store.local is not None:
        target = folder.store.local / "export" / form
    else:
        raise ConfigError(f"{run} is not on this machine: say where to write, with --to")
    console = Console()
    with shown_progress(console) as follow:
        hint = write(folder, form, target, dataset, follow)
    console.print(f"Written: {escape(str(target))}", highlight=False, soft_wrap=True)
    console.print(escape(hint), highlight=False, soft_wrap=True)
