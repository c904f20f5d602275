"""Exports, read back by their consumers' own readers where those install, else as their formats are described."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from datatrove.utils.dataset import DatatroveFileDataset
from tokenizers import Tokenizer

from tests.megatron import read_by_megatron
from tests.runs import STAGES, config_file, jsonl_file, run, text_of, tokenmill
from tokenmill.model.data.shard_format import Shard

SPLITS = {"train": "train", "validation": "val"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with several shards."""
    folder = tmp_path_factory.mktemp("export")
    jsonl_file(folder / "in.jsonl", [{"text": text_of("maps", n), "url": f"https://m.example/{n}"} for n in range(40)])
    run(config_file(folder / "c.yaml", folder / "run", {"maps": {"path": str(folder / "in.jsonl")}}, STAGES))
    return folder / "run"


@pytest.fixture(scope="module")
def large_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tokens are no uint16."""
    folder = tmp_path_factory.mktemp("large")
    special = [f"<|extra {number}|>" for number in range(66_000)]
    jsonl_file(folder / "in.jsonl", [{"text": text_of("maps", number)} for number in range(4)])
    stages = {"tokenizer": {"vocab_size": 66_600, "special_tokens": special}, "shard": {"validation": 0}}
    run(config_file(folder / "c.yaml", folder / "run", {"a": {"path": str(folder / "in.jsonl")}}, stages))
    return folder / "run"


@pytest.fixture(scope="module")
def llm_c(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export for llm.c."""
    return exported(finished, "llmc", tmp_path_factory.mktemp("exported"))


def exported(finished: Path, form: str, to: Path) -> Path:
    result = tokenmill("export", finished, "--format", form, "--to", to / form)
    assert result.returncode == 0, result.stderr
    assert str(to / form) in result.stdout.replace("\n", "")
    return to / form


def documents(finished: Path, split: str) -> list[npt.NDArray[Any]]:
    """The ids of every document of a split, in order."""
    shards = [Shard(path) for path in sorted((finished / "shard").glob(f"{split}-*.bin"))]
    assert len(shards) > 1 or split == "validation"
    return [shard.document(number) for shard in shards for number in range(len(shard))]


def rows(finished: Path, split: str) -> list[dict[str, Any]]:
    return [
        row for file in sorted((finished / "shard").glob(f"{split}-doc*")) for row in pq.read_table(file).to_pylist()
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_nanogpt_and_datatrove(finished: Path, tmp_path: Path, split: str) -> None:
    path = exported(finished, "nanogpt", tmp_path) / f"{SPLITS[split]}.bin"
    expected = documents(finished, split)
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    assert np.array_equal(tokens, np.concatenate(expected))
    window = 16
    dataset = DatatroveFileDataset(str(path), seq_len=window, token_size=2, return_positions=True)
    positions = np.concatenate([np.arange(len(ids)) for ids in expected])
    for number in range(len(dataset)):
        item = dataset[number]
        here = slice(number * (window + 1), (number + 1) * (window + 1))
        assert torch.equal(item["input_ids"], torch.tensor(tokens[here].astype(np.int64)))
        in_window = np.minimum(positions[here], np.arange(window + 1))  # it counts from the window's begin
        assert item["positions"].tolist() == in_window.tolist()


@pytest.mark.parametrize("split", SPLITS)
def test_llm_c(llm_c: Path, finished: Path, split: str) -> None:
    """Read as llm.c's dataloader.h does: a header of 256 ints, checked, then `header[2]` uint16."""
    found = []
    for path in sorted(llm_c.glob(f"{SPLITS[split]}_*.bin")):
        content = path.read_bytes()
        header = struct.unpack("<256i", content[:1024])
        assert header[:2] == (20240520, 1)
        assert len(content) == 1024 + 2 * header[2]
        found.append(np.frombuffer(content, np.uint16, header[2], 1024))
    assert np.array_equal(np.concatenate(found), np.concatenate(documents(finished, split)))


def test_megatron_reads_its_own_and_the_files_of_llm_c(
    llm_c: Path, finished: Path, large_vocabulary: Path, tmp_path: Path
) -> None:
    """All at once: its reader takes long to begin."""
    own, large = exported(finished, "megatron", tmp_path), exported(large_vocabulary, "megatron", tmp_path / "large")
    prefixes = {split: [own / split] for split in SPLITS} | {"large": [large / "train"]}
    for split, name in SPLITS.items():
        prefixes[f"{split} of llm.c"] = [path.with_suffix("") for path in sorted(llm_c.glob(f"{name}_*.bin"))]
    read = iter(read_by_megatron(prefix for several in prefixes.values() for prefix in several))
    found = {name: [ids for _ in several for ids in next(read)] for name, several in prefixes.items()}
    assert found.pop("large")[0].dtype == np.int32
    for name, ids in found.items():
        expected = documents(finished, name.partition(" ")[0])
        assert len(ids) == len(expected) > 0
        assert all(map(np.array_equal, ids, expected))


@pytest.mark.parametrize("split", SPLITS)
def test_parquet(finished: Path, tmp_path: Path, split: str) -> None:
    files = sorted(exported(finished, "parquet", tmp_path).glob(f"{split}-*.parquet"))
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [row["tokens"] for row in found] == [ids.tolist() for ids in documents(finished, split)]
    assert [row["url"] for row in found] == [row["url"] for row in rows(finished, split)]


def test_huggingface(finished: Path, tmp_path: Path) -> None:
    folder = exported(finished, "huggingface", tmp_path)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert set(loaded) == set(SPLITS)
    for split in SPLITS:
        expected = documents(finished, split)
        assert loaded[split]["input_ids"][:] == [ids.tolist() for ids in expected]
        assert loaded[split]["id"][:] == [row["id"] for row in rows(finished, split)]
        assert loaded[split]["text"][:] == [tokenizer.decode(ids[:-1].tolist()) for ids in expected]
    card = (folder / "README.md").read_text()
    assert f"| train | {loaded['train'].num_rows:,} |" in card


def test_a_vocabulary_too_large_for_llm_c(large_vocabulary: Path) -> None:
    result = tokenmill("export", large_vocabulary, "--format", "llmc")
    assert result.returncode == 2
    assert "hold uint16 tokens" in " ".join(result.stderr.split())
    assert not (large_vocabulary / "export/llmc").exists()
    assert list((large_vocabulary / "export").iterdir()) == []


def test_wrong_formats_and_folders_are_named(finished: Path, tmp_path: Path) -> None:
    result = tokenmill("export", finished, "--format", "megatrom", "--to", tmp_path / "x")
    assert result.returncode == 2
    assert "did you mean 'megatron'" in result.stderr
    result = tokenmill("export", finished, "--format", "megatron", "--to", tmp_path)
    assert result.returncode == 2
    assert "is there already" in result.stderr
