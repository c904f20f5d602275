"""What others read from the shards: nanoGPT's way, Megatron's, and DuckDB and pandas over the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from tests.megatron import read_by_megatron
from tests.runs import ledger, receipts_of, run
from tokenmill.pipeline.storage.documents import Stored
from tokenmill.pipeline.storage.store import Store


def kept_texts(output: Path) -> dict[str, str]:
    """Id -> text of the documents that the ledger keeps, from what extraction and reading left."""
    texts = {}
    store = Store(str(output))
    for receipt in receipts_of(output, "read+extract"):
        for batch in Stored(receipt.outputs["documents"].path).batches(store, ["position", "text"], None):
            for row in batch.to_pylist():
                texts[f"{receipt.partition}#{row['position']}"] = row["text"]
    kept = {row["id"] for row in ledger(output).to_pylist() if row["fate"] == "kept"}
    return {name: text for name, text in texts.items() if name in kept}


def test_megatron_reads_every_kept_text(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    card = json.loads((output / "shard/dataset.json").read_text())
    tokenizer = Tokenizer.from_file(str(output / "shard/tokenizer.json"))
    decoded = {}
    shards = [(split, shard) for split, content in card["splits"].items() for shard in content["shards"]]
    read = read_by_megatron(output / "shard" / shard["name"] for _, shard in shards)
    for (split, shard), documents in zip(shards, read, strict=True):
        table = pq.read_table(output / "shard" / f"{split}-documents-{shard['name'][-5:]}.parquet")
        assert table.num_rows == len(documents) == shard["documents"]
        for row, name in enumerate(table.column("id").to_pylist()):
            tokens = documents[row]
            assert tokens[-1] == card["end_of_text"] == tokenizer.token_to_id("<|endoftext|>")
            assert card["end_of_text"] not in tokens[:-1]
            decoded[name] = tokenizer.decode(tokens[:-1].tolist(), skip_special_tokens=False)
    assert decoded == kept_texts(output)


def test_nanogpt_reads_the_bin_as_it_is(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    card = json.loads((output / "shard/dataset.json").read_text())
    shard = card["splits"]["train"]["shards"][0]
    data = np.memmap(output / "shard" / f"{shard['name']}.bin", dtype=np.uint16, mode="r")
    assert len(data) == shard["tokens"] <= 4000
    assert int(data.max()) == shard["largest_id"] < card["vocab_size"]
    assert int((data == card["end_of_text"]).sum()) == shard["documents"]


def test_ledger_accounts_for_every_record(crawl: Path) -> None:
    report, _ = run(crawl)
    output = crawl.parent / "run"
    rows = duckdb.sql(
        f"SELECT fate, count(*), sum(tokens), count(DISTINCT id) FROM '{output}/ledger/*.parquet' GROUP BY fate ORDER BY fate"
    ).fetchall()
    by_fate = {row[0]: row for row in rows}
    counts = report.ledger
    assert by_fate["kept"][1] == by_fate["kept"][3] == counts.kept
    assert sum(row[1] for row in rows) == counts.entered == 61
    card = json.loads((output / "shard/dataset.json").read_text())
    assert by_fate["kept"][2] == sum(split["tokens"] for split in card["splits"].values())
    frame = pd.read_parquet(output / "ledger")
    dropped = frame[frame.fate == "dropped"]
    assert dropped.rule.notna().all()
    duplicates = dropped[dropped.stage == "deduplicate"]
    assert len(duplicates) >= 5
    assert set(duplicates.survivor) <= set(frame[frame.fate == "kept"].id)
    assert (duplicates.similarity >= 0.8).all()
    for name in ("source", "offset", "url", "digest", "bytes", "language", "language_score", "words", "split"):
        assert name in frame.columns


def test_every_stage_balances(crawl: Path) -> None:
    report, _ = run(crawl)
    before = None
    for count in report.stages.values():
        assert count.balances()
        assert before is None or count.entered == before
        before = count.kept
    assert before == report.ledger.kept
