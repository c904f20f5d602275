"""Published shards in the formats of other trainers: `tokenmill export`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tokenmill.model.data.shard_format import Shard
from tokenmill.pipeline.commands.export_formats import FORMATS, SplitShard
from tokenmill.pipeline.errors import ConfigError, nearest
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import choose_dataset, documents_table, on_disk, read_dataset_card
from tokenmill.pipeline.storage.store import Store
from tokenmill.stages.tokens.tokenizer import load_tokenizer


def export(store: Store, form: str, target: Path, dataset: str | None, console: Console) -> str:
    """Writes a run's dataset to the folder `target`, which must not exist yet, and says how to use it there.

    The folder appears whole or not at all. Raises `ConfigError` for an unknown format, a dataset that the format cannot
    hold, or a folder that is there already.
    """
    if form not in FORMATS:
        raise ConfigError(f"there is no format {form!r}; {nearest(form, FORMATS)}")
    if target.exists():
        raise ConfigError(f"{target} is there already; remove it, or give another folder with --to")
    node = choose_dataset(store, dataset)
    card = read_dataset_card(store, node)
    with store.open(f"{node}/{card['tokenizer']}") as file:
        content = file.read()
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        writer = FORMATS[form](unfinished, np.dtype(card["dtype"]), load_tokenizer(content, "tokenizer.json"))
        with Progress(*columns, console=console, transient=True) as progress:
            for split, described in card["splits"].items():
                names = [shard["name"] for shard in described["shards"]]
                for number, name in enumerate(progress.track(names, description=f"shards of {split}")):
                    base = f"{node}/{name}"
                    with on_disk(store, f"{base}.bin", f"{base}.idx") as folder:
                        shard = Shard(folder / f"{base}.bin")
                        with store.open(documents_table(node, name)) as file:
                            table = read_parquet(file)
                        writer.write(
                            SplitShard(split, number, len(names), shard.tokens, np.array(shard.lengths), table)
                        )
        writer.close()
        (unfinished / "tokenizer.json").write_bytes(content)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return writer.hint.format(folder=target)
