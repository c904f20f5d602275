"""Published shards in the formats of other trainers: `tokenmill export`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tokenmill.model.data.shard_format import Shard
from tokenmill.pipeline.commands.export_formats import FORMATS, ShardExporter, SplitShard
from tokenmill.pipeline.errors import ConfigError, nearest
from tokenmill.pipeline.storage.dataset import Dataset
from tokenmill.pipeline.storage.parquet_io import read_parquet
from tokenmill.pipeline.storage.run_folder import RunFolder

Follow = Callable[[list[str], str], Iterable[str]]
"""Given shards and what they are, gives them back one by one, as they are asked for."""


def export(
    run: RunFolder, form: str, target: Path, dataset: str | None, follow: Follow = lambda shards, what: shards
) -> str:
    """Writes a run's dataset to the folder `target`, which must not exist yet, and says how to use it there.

    `follow` sees the shards go by. The folder appears whole or not at all. Raises `ConfigError` for an unknown format, a
    dataset that the format cannot hold, or a folder that is there already.
    """
    if form not in FORMATS:
        raise ConfigError(f"there is no format {form!r}; {nearest(form, FORMATS)}")
    if target.exists():
        raise ConfigError(f"{target} is there already; remove it, or give another folder with --to")
    chosen = run.choose_dataset(dataset)
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        exporter = FORMATS[form](unfinished, np.dtype(chosen.card["dtype"]), chosen.tokenizer)
        _write_shards(run, chosen, exporter, follow)
        (unfinished / "tokenizer.json").write_bytes(chosen.tokenizer_file)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return exporter.hint.format(folder=target)


def _write_shards(run: RunFolder, dataset: Dataset, exporter: ShardExporter, follow: Follow) -> None:
    for split, described in dataset.splits.items():
        names = [shard["name"] for shard in described["shards"]]
        for number, name in enumerate(follow(names, f"shards of {split}")):
            base = f"{dataset.name}/{name}"
            with run.on_disk(f"{base}.bin", f"{base}.idx") as folder:
                shard = Shard(folder / f"{base}.bin")
                with run.store.open(dataset.documents_table(name)) as file:
                    table = read_parquet(file)
                exporter.write(SplitShard(split, number, len(names), shard.tokens, np.array(shard.lengths), table))
    exporter.close()
