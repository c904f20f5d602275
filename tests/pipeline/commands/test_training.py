"""From a crawl to a model that writes, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer

from tests.paths import CONFIGS
from tests.runs import tokenmill, tokenmill_here
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.stages.tokens.tokenizer import END_OF_TEXT


@pytest.fixture
def training(finished_crawl: Path, tmp_path: Path) -> Path:
    """A training config over the shards of a run."""
    content = {
        "base": str(CONFIGS / "tiny.yaml"),
        "output": str(tmp_path / "train"),
        "data": {"path": str(finished_crawl.parent / "run/shard")},
        "model": {"context_length": 64},
        "schedule": {"steps": 40, "warmup_steps": 5},
        "checkpoint": {"every": 20},
    }
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_train_trace_generate_export(training: Path, finished_crawl: Path, tmp_path: Path) -> None:
    result = tokenmill("train", training, "--set", "evaluation.every=20")
    assert result.returncode == 0, result.stderr
    assert "step 40/40" in result.stdout
    assert "bits per byte" in result.stdout
    assert "attention by the flash kernel" in result.stdout

    assert (tmp_path / "train/report.html").stat().st_size > 1_000_000
    reported = tokenmill_here("report", tmp_path / "train", "--json")
    assert [line["step"] for line in json.loads(reported.stdout)["evaluations"]] == [19, 39]
    assert "40 steps took the loss from" in " ".join(tokenmill_here("report", tmp_path / "train").stdout.split())

    traced = tokenmill_here("trace", tmp_path / "train", "7", "--json")
    rows = json.loads(traced.stdout)
    assert sum(row["tokens"] for row in rows) == 16 * 64
    assert all(row["ledger"]["id"] == row["id"] and row["url"] for row in rows)
    # the documents of a sample hold its text
    first = [row for row in rows if row["sample"] == 7 * 16]
    dataset = TokenDataset(finished_crawl.parent / "run/shard", context_length=64, seed=0)
    tokenizer = Tokenizer.from_file(str(finished_crawl.parent / "run/shard/tokenizer.json"))
    text = tokenizer.decode(dataset.read(np.array([7 * 16])).targets[0].tolist(), skip_special_tokens=False)
    longest = max(text.split(END_OF_TEXT), key=len)
    stories = (
        json.loads(tokenmill_here("explain", finished_crawl.parent / "run", row["id"], "--json").stdout)[0]
        for row in first
    )
    assert any(longest[:40].strip() in text for story in stories for text in story["texts"].values())

    arguments = ("generate", tmp_path / "train", "--prompt", "The bread", "--tokens", "20")
    written = [command(*arguments) for command in (tokenmill, tokenmill_here)]
    assert written[0].returncode == 0, written[0].stderr
    assert written[0].stdout.startswith("The bread")
    assert written[0].stdout == written[1].stdout
    several = tokenmill_here("generate", tmp_path / "train", "--samples", "3", "--seed", "2", "--top-p", "0.9")
    assert several.stdout.count("sample ") == 3

    exported = tokenmill("export", tmp_path / "train", "--format", "huggingface", "--to", tmp_path / "hf")
    assert exported.returncode == 0, exported.stderr
    assert json.loads((tmp_path / "hf/config.json").read_text())["model_type"] == "llama"
    assert (
        tokenmill_here("export", tmp_path / "train", "--format", "huggingface", "--to", tmp_path / "hf").returncode == 2
    )
    assert tokenmill_here("export", tmp_path / "train", "--format", "nanogpt").returncode == 2


def test_steps_that_are_not_finite_end_with_their_documents(training: Path, tmp_path: Path) -> None:
    settings = [
        "optimizer.learning_rate=1e25",
        "optimizer.grad_clip=0",
        "schedule.warmup_steps=0",
        "stop_after_bad_steps=3",
    ]
    result = tokenmill("train", training, *(part for setting in settings for part in ("--set", setting)))
    assert result.returncode == 1
    assert "3 steps in a row had no finite loss or gradient, from step 1 on" in " ".join(result.stderr.split())
    step = json.loads(tokenmill_here("trace", tmp_path / "train", "1", "--json").stdout)
    assert all(row["url"][:15] in result.stdout for row in step if row["url"])  # the table folds the rest
    assert (tmp_path / "train/report.html").exists()


def test_wrong_usage_is_told(training: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("train", training, "--set", "model.n_layer=3"), "model.n_layer: unknown key; did you mean 'n_layers'?"),
        (
            ("train", training, "--set", "data.path=/nowhere"),
            "is not there; give the folder that a shard stage published",
        ),
        (("generate", tmp_path), "holds no checkpoint; give the folder of a training run"),
        (("budget",), "give one budget above 0"),
    ):
        result = tokenmill_here(*arguments)
        assert result.returncode == 2, arguments
        assert message in " ".join(result.stderr.split())


def test_budget_gives_a_config_that_can_be_trained(training: Path, tmp_path: Path) -> None:
    result = tokenmill_here("budget", "--flops", "1e13", "--context-length", "64", "--vocab-size", "500")
    assert result.returncode == 0, result.stderr
    assert "Kaplan 2020" in result.stderr
    (tmp_path / "budget.yaml").write_text(result.stdout)
    data = yaml.safe_load(training.read_text())["data"]["path"]
    settings = ["--set", f"data.path={data}", "--set", "schedule.steps=1", "--set", "schedule.warmup_steps=1"]
    trained = tokenmill_here("train", tmp_path / "budget.yaml", *settings, "--output", tmp_path / "budget")
    assert trained.returncode == 0, trained.stderr


def test_the_schema_of_a_training_config() -> None:
    result = tokenmill_here("schema", "--training")
    assert result.returncode == 0, result.stderr
    schema = json.loads(result.stdout)
    assert schema["properties"]["micro_batch_size"]["default"] == 16
    assert "description" in schema["$defs"]["ModelConfig"]["properties"]["d_model"]
    assert "sources" not in schema["properties"]
