"""What the shard stage publishes over a whole run."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.runs import STAGES, config_file, crawl_file, jsonl_file, ledger, published, run, text_of, tokenmill
from tokenmill.model.data.shard_format import Shard
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.errors import ConfigError, RunError
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.stages.tokens.tokenizer import load_tokenizer

SHUFFLED = {**STAGES, "shard": {**STAGES["shard"], "shuffle": "documents"}}


def small_config(folder: Path, stages: dict[str, Any]) -> Path:
    crawl_file(folder / "in/bread.warc.gz", "bread", range(14))
    jsonl_file(folder / "in/maps.jsonl", [{"text": text_of("maps", number)} for number in range(14)])
    sources = {"web": {"path": str(folder / "in/*.gz")}, "texts": {"path": str(folder / "in/*.jsonl")}}
    return config_file(folder / "c.yaml", folder / "run", sources, stages)


def document_rows(shards: Path) -> list[dict[str, Any]]:
    """Rows of the documents tables of the training split, in order."""
    return [row for file in sorted(shards.glob("train-documents-*")) for row in pq.read_table(file).to_pylist()]


def test_shuffled_documents_are_the_same_ones_in_another_order(tmp_path: Path) -> None:
    config = small_config(tmp_path, SHUFFLED)
    run(config)
    result = tokenmill("run", config, "--workers", "1", "--output", tmp_path / "one")
    assert result.returncode == 0, result.stderr
    assert published(tmp_path / "one") == published(tmp_path / "run")
    assert verify(open_run(str(tmp_path / "run"))).problems == []
    shuffled = [row["id"] for row in document_rows(tmp_path / "run/shard")]
    validation = pq.read_table(tmp_path / "run/shard/validation-documents-00000.parquet")
    run(config, "stages.shard.shuffle=none")
    straight = [row["id"] for row in document_rows(tmp_path / "run/shard")]
    assert sorted(shuffled) == sorted(straight)
    assert validation == pq.read_table(tmp_path / "run/shard/validation-documents-00000.parquet")
    assert straight == sorted(straight, key=lambda name: (name.split("#")[0], int(name.split("#")[1])))
    assert len({name.split("#")[0] for name in shuffled[:8]}) > 1, "both files are mixed"


def test_the_card_tells_what_the_tokens_tell(tmp_path: Path) -> None:
    run(small_config(tmp_path, STAGES))
    shards = tmp_path / "run/shard"
    card = json.loads((shards / "dataset.json").read_text())
    kept = sum(row["fate"] == "kept" for row in ledger(tmp_path / "run").to_pylist())
    assert card["round_trip"] == {"documents": kept, "exact": kept}
    assert len(card["inputs"]) == 32
    tokenizer = load_tokenizer((shards / "tokenizer.json").read_bytes(), "tokenizer.json")
    for split, content in card["splits"].items():
        tokens = np.concatenate([Shard(shards / f"{shard['name']}.bin").tokens for shard in content["shards"]])
        assert len(tokens) == content["tokens"] > 0, split
        ids, counts = np.unique(tokens, return_counts=True)
        shares = counts / counts.sum()
        assert content["entropy"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-4)
        frequent = content["most_frequent"]
        assert counts[ids == frequent["id"]] == counts.max()
        assert frequent["share"] == pytest.approx(shares.max(), abs=1e-6)
        assert frequent["token"] == tokenizer.decode([frequent["id"]])
        assert content["order"] == "by source"
        rows = [row for file in sorted(shards.glob(f"{split}-documents-*")) for row in pq.read_table(file).to_pylist()]
        for name, counts in content["sources"].items():
            mine = [row for row in rows if row["source"] == name]
            assert counts == {
                "documents": len(mine),
                **{field: sum(row[field] for row in mine) for field in ("tokens", "bytes")},
            }
        assert [row["source"] for row in rows] == [
            name for name, counts in content["sources"].items() for _ in range(counts["documents"])
        ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.shard.validation=0.0000001", "no document fell into the validation split"),
        ("stages.language.keep=[ja]", "no document is left for the training split"),
    ],
)
def test_an_empty_split_is_an_error(tmp_path: Path, setting: str, message: str) -> None:
    stages = {**STAGES, "tokenizer": {"path": str(trained_tokenizer(tmp_path))}}
    config = small_config(tmp_path, stages)
    with pytest.raises(RunError, match=message):
        run(config, setting)


def trained_tokenizer(folder: Path) -> Path:
    run(small_config(folder / "first", STAGES))
    return folder / "first/run/shard/tokenizer.json"


def test_no_near_duplicate_crosses_the_split(tmp_path: Path) -> None:
    """Of each planted cluster one document is kept, so its texts are in one split."""
    rows = []
    for number in range(40):
        text = text_of("tides", number, 14)
        rows += [{"text": text + tail, "url": f"https://t.example/{number}"} for tail in ("", " The end.", " An end!")]
    jsonl_file(tmp_path / "in/rows.jsonl", rows)
    stages = {**STAGES, "shard": {"validation": 0.3}}
    run(config_file(tmp_path / "c.yaml", tmp_path / "run", {"all": {"path": str(tmp_path / "in/*")}}, stages))
    by_split = {
        split: [
            row["url"] for row in pq.read_table(tmp_path / f"run/shard/{split}-documents-00000.parquet").to_pylist()
        ]
        for split in ("train", "validation")
    }
    assert len(by_split["train"]) > 10
    assert len(by_split["validation"]) > 3
    assert not set(by_split["train"]) & set(by_split["validation"])
    kept = by_split["train"] + by_split["validation"]
    assert len(kept) == len(set(kept)), "one of each cluster"


def test_documents_that_stand_for_several_are_written_several_times(tmp_path: Path) -> None:
    stages = {**SHUFFLED, "shard": {**SHUFFLED["shard"], "rehydrate": {1: 1, 2: 2, 3: 4}}}
    jsonl_file(tmp_path / "in/copies.jsonl", [{"text": text_of("maps", number % 6)} for number in range(14)])
    config = small_config(tmp_path, stages)
    run(config)
    rows = [row for row in ledger(tmp_path / "run").to_pylist() if row["fate"] == "kept"]
    assert {row["copies"] for row in rows} == {1, 3, 4}
    written = [row["id"] for row in document_rows(tmp_path / "run/shard")]
    for row in rows:
        times = 4 if row["copies"] > 2 and row["split"] == "train" else 1
        assert row["times_written"] == times
        assert written.count(row["id"]) == (times if row["split"] == "train" else 0)
    assert sum(one == other for one, other in pairwise(written)) < 5, "copies do not stand beside each other"
    assert verify(open_run(str(tmp_path / "run"))).problems == []
    result = tokenmill("run", config, "--workers", "1", "--output", tmp_path / "one")
    assert result.returncode == 0, result.stderr
    assert published(tmp_path / "one") == published(tmp_path / "run")


def test_upsampling_needs_to_know_of_copies(tmp_path: Path) -> None:
    stages = {**SHUFFLED, "shard": {**SHUFFLED["shard"], "rehydrate": {1: 1}}}
    del stages["deduplicate"]
    with pytest.raises(ConfigError, match=r"needs 'copies'.*deduplicate"):
        run(small_config(tmp_path, stages))
