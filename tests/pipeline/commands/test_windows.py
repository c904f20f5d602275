"""Windows shown as the trainer sees them, and the documents of a training step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.runs import ledger, run, tokenmill
from tokenmill.model.data.data_log import record_steps
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.stages.tokens.tokenizer import END_OF_TEXT


@pytest.mark.parametrize("packing", ["none", "best_fit"])
def test_peek_decodes_what_the_trainer_is_given(finished_crawl: Path, packing: str) -> None:
    output = finished_crawl.parent / "run"
    arguments = ["--index", "2", "--context-length", "300", "--seed", "5", "--packing", packing]
    result = tokenmill("peek", output, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    dataset = TokenDataset(output / "shard", context_length=300, seed=5, packing=packing)  # type: ignore[arg-type]
    batch = dataset.read(np.array([2]))
    tokenizer = Tokenizer.from_file(str(output / "shard/tokenizer.json"))
    assert "".join(seen["text"]) == tokenizer.decode(batch.inputs[0].tolist(), skip_special_tokens=False)
    assert all(END_OF_TEXT not in piece.removeprefix(END_OF_TEXT) for piece in seen["text"] if piece.strip(END_OF_TEXT))
    assert sum(row["tokens"] for row in seen["documents"]) == batch.target_counts[0]
    rows = {row["id"]: row for row in ledger(output).to_pylist()}
    assert {rows[row["id"]]["url"] for row in seen["documents"]} == {row["url"] for row in seen["documents"]}
    shown = tokenmill("peek", output, *arguments)
    assert ("document end" in shown.stdout) == (len(seen["text"]) > 1)
    assert seen["documents"][0]["url"] in "".join(shown.stdout.split())


def test_a_window_that_is_not_there(finished_crawl: Path) -> None:
    for arguments, message in (
        (("--index", "100000"), "an epoch of 'train' has"),
        (("--split", "test"), "has no split 'test'"),
        (("--context-length", "100000000"), "less than a window"),
    ):
        result = tokenmill("peek", finished_crawl.parent / "run", *arguments)
        assert result.returncode == 2
        assert message in " ".join(result.stderr.split())


def test_trace_tells_what_a_step_was_fed(crawl: Path, tmp_path: Path) -> None:
    run(crawl)
    output = crawl.parent / "run"
    dataset = TokenDataset(output / "shard", context_length=64, batch_size=4)
    training = tmp_path / "training"
    training.mkdir()
    record_steps(training, dataset, 0, 4)
    batches = iter(dataset)
    fed = [next(batches) for _ in range(3)][-1]
    result = tokenmill("trace", training, "2", "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["sample"] for row in rows] == sorted(row["sample"] for row in rows)
    assert {row["sample"] for row in rows} == set(fed.samples.tolist())
    assert sum(row["tokens"] for row in rows) == int(fed.target_counts.sum())
    told = {row["id"]: row for row in ledger(output).to_pylist()}
    for row in rows:
        assert row["ledger"]["fate"] == "kept"
        for name in ("url", "source", "language_score", "words"):
            assert row["ledger"][name] == told[row["id"]][name]
    shown = tokenmill("trace", training, "2").stdout
    assert "measures" in shown
    (output / "run.json").rename(output / "elsewhere.json")
    assert "no measures" in tokenmill("trace", training, "2").stdout


def test_no_training_run(tmp_path: Path) -> None:
    result = tokenmill("trace", tmp_path, "2")
    assert result.returncode == 1
    assert "give the folder of a training run" in " ".join(result.stderr.split())
