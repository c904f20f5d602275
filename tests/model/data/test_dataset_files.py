"""Files of a dataset: their bytes, checksums, cards that contradict themselves, and Megatron as their reader."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.datasets import END, documents, write_dataset
from tokenmill.model.data.shard_format import Shard, ShardWriter, check_card, file_checksum, read_card, token_dtype

lengths_of_documents = st.lists(st.integers(1, 40), max_size=30)


def write_shard(folder: Path, held: list[Any], dtype: np.dtype[Any], at_a_time: int = 1) -> Any:
    with (folder / "s.bin").open("wb") as bin_file, (folder / "s.idx").open("wb") as index_file:
        writer = ShardWriter(bin_file, index_file, dtype)
        for begin in range(0, len(held), at_a_time):
            some = held[begin : begin + at_a_time]
            writer.write(np.concatenate(some), np.array([len(document) for document in some]))
        return writer.close()


@given(
    lengths=lengths_of_documents, vocabulary=st.sampled_from([2, 65_499, 65_500, 2**31]), at_a_time=st.integers(1, 5)
)
@settings(max_examples=60)
def test_any_documents_come_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], vocabulary: int, at_a_time: int
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    held = documents(lengths, vocabulary)
    info = write_shard(folder, held, token_dtype(vocabulary), at_a_time)
    shard = Shard(folder / "s.bin")
    assert len(shard) == info.documents == len(held)
    assert all(np.array_equal(shard.document(number), document) for number, document in enumerate(held))
    assert info.tokens == len(shard.tokens) == sum(lengths)
    assert info.largest_id == max((int(document.max()) for document in held), default=-1)
    assert info.checksum == file_checksum(folder / "s.bin")
    assert shard.validate(END, info.checksum) == []


def test_the_bytes_of_an_index(tmp_path: Path) -> None:
    write_shard(tmp_path, [np.array([7, 8, 0]), np.array([9, 0])], token_dtype(100))
    assert (tmp_path / "s.bin").read_bytes() == struct.pack("<5H", 7, 8, 0, 9, 0)
    assert (tmp_path / "s.idx").read_bytes() == b"MMIDIDX\0\0" + struct.pack(
        "<QBQQ2i2q3q", 1, 8, 2, 3, 3, 2, 0, 6, 0, 1, 2
    )


@given(data=st.data())
@settings(max_examples=60)
def test_a_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("shard")
    info = write_shard(folder, documents([5, 1, 9]), token_dtype(50_000))
    path = folder / data.draw(st.sampled_from(["s.bin", "s.idx"]))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        problems = Shard(folder / "s.bin").validate(END, info.checksum)
    except ValueError as error:
        problems = [str(error)]
    assert problems


@pytest.mark.parametrize("name", ["s.bin", "s.idx"])
def test_a_file_cut_anywhere_is_found(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path, documents([5, 1, 9]), token_dtype(50_000))
    content = (tmp_path / name).read_bytes()
    for size in range(len(content)):
        (tmp_path / name).write_bytes(content[:size])
        try:
            assert Shard(tmp_path / "s.bin").validate(END)
        except ValueError as error:
            assert name in str(error)


def test_a_card_comes_back(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": [documents([4, 5])], "validation": []})
    card = read_card(folder)
    assert card["splits"]["train"]["tokens"] == 9
    assert card["splits"]["validation"] == {"tokens": 0, "documents": 0, "bytes": 0, "shards": []}


def change_shard(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda card: card["splits"]["train"]["shards"][0].__setitem__(field, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.__setitem__("version", 2), "not a dataset card of version 1"),
        (lambda card: card.pop("end_of_text"), "no field 'end_of_text'"),
        (lambda card: card.__setitem__("end_of_text", 50_000), "not in the vocabulary"),
        (lambda card: card.__setitem__("vocab_size", "many"), "no field 'vocab_size' that is int"),
        (lambda card: card.__setitem__("dtype", "int32"), "is not stored as 'int32'"),
        (lambda card: card.__setitem__("fingerprint", "0" * 32), "does not follow"),
        (lambda card: card.__setitem__("tokenizer_hash", "0" * 32), "does not follow"),
        (lambda card: card["splits"].__setitem__("train", []), "not a JSON object"),
        (lambda card: card["splits"]["train"].pop("shards"), "no field 'shards'"),
        (lambda card: card["splits"]["train"].__setitem__("bytes", 1), "not the sum"),
        (change_shard("tokens", 8), "not the sum"),
        (change_shard("tokens", -1), "tokens is -1"),
        (change_shard("name", "../x"), "not a shard's name"),
        (change_shard("largest_id", 50_000), "beyond the vocabulary"),
        (change_shard("checksum", "0" * 32), "does not follow"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    folder = write_dataset(tmp_path / "d", {"train": [documents([4, 5])], "validation": []})
    card = json.loads((folder / "dataset.json").read_bytes())
    check_card(card, "card")
    change(card)
    with pytest.raises(ValueError, match=message):
        check_card(card, "card")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe\x00"])
def test_a_card_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"dataset\.json"):
        read_card(tmp_path)


@pytest.mark.parametrize("vocabulary", [50_000, 100_000])
def test_megatron_reads_the_pair(tmp_path: Path, vocabulary: int) -> None:
    indexed_dataset = pytest.importorskip(
        "megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed"
    )
    held = documents([5, 1, 300], vocabulary)
    write_shard(tmp_path, held, token_dtype(vocabulary))
    dataset = indexed_dataset.IndexedDataset(str(tmp_path / "s"))
    assert len(dataset) == 3
    assert dataset.document_indices.tolist() == [0, 1, 2, 3]
    assert dataset[0].dtype == token_dtype(vocabulary)
    assert all(np.array_equal(dataset[number], document) for number, document in enumerate(held))
