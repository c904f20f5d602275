"""The shard format: round trips, bounds, and what is found wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.model.data.shard_format import Shard, ShardWriter, check_card, fingerprint_of, read_card, token_dtype

END = 0


def write(folder: Path, documents: list[list[int]], dtype: type = np.uint16) -> Shard:
    with (folder / "s.bin").open("wb") as bin_file, (folder / "s.idx").open("wb") as index_file:
        writer = ShardWriter(bin_file, index_file, dtype)
        for document in documents:
            writer.write(np.array([*document, END]), np.array([len(document) + 1]))
        info = writer.close()
    assert info.tokens == sum(len(document) + 1 for document in documents)
    assert info.largest_id == max((max([*document, END]) for document in documents), default=-1)
    return Shard(folder / "s.bin")


@given(st.lists(st.lists(st.integers(1, 65_499), max_size=20), max_size=20))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]) -> None:
    shard = write(tmp_path_factory.mktemp("shard"), documents)
    assert [shard.document(number)[:-1].tolist() for number in range(len(shard))] == documents
    assert shard.validate(END) == []


@given(st.lists(st.lists(st.integers(1, 2**31 - 1), max_size=9), min_size=1, max_size=9))
def test_round_trip_of_large_vocabularies(tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]) -> None:
    shard = write(tmp_path_factory.mktemp("shard"), documents, np.int32)
    assert shard.dtype == np.dtype("<i4")
    assert [shard.document(number)[:-1].tolist() for number in range(len(shard))] == documents


def test_dtype_changes_where_readers_disagree() -> None:
    assert token_dtype(65_499) == np.dtype("<u2")
    assert token_dtype(65_500) == np.dtype("<i4")


@given(st.data())
def test_any_flipped_bit_of_the_index_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("shard")
    write(folder, [[1, 2], [], [3, 4, 5]])
    content = bytearray((folder / "s.idx").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "s.idx").write_bytes(bytes(content))
    try:
        assert Shard(folder / "s.bin").validate(END) != []
    except ValueError as error:
        assert "s." in str(error)


def test_a_bin_cut_short_and_ends_that_are_none_are_found(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2], [3]])
    whole = (tmp_path / "s.bin").read_bytes()
    (tmp_path / "s.bin").write_bytes(whole[:-2])
    assert "the .bin holds 4" in Shard(tmp_path / "s.bin").validate(END)[0]
    (tmp_path / "s.bin").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="not a whole number"):
        Shard(tmp_path / "s.bin")
    (tmp_path / "s.bin").write_bytes(whole)
    assert "2 documents do not end with 9" in Shard(tmp_path / "s.bin").validate(9)[0]


def test_writer_refuses_what_does_not_fit() -> None:
    writer = ShardWriter(io.BytesIO(), io.BytesIO(), np.uint16)
    with pytest.raises(ValueError, match="do not fit"):
        writer.write(np.array([70_000]), np.array([1]))
    with pytest.raises(ValueError, match="do not fit"):
        writer.write(np.array([-1]), np.array([1]))
    with pytest.raises(ValueError, match="cannot be 1 documents"):
        writer.write(np.array([1, 2]), np.array([3]))
    with pytest.raises(ValueError, match="uint16 or int32"):
        ShardWriter(io.BytesIO(), io.BytesIO(), np.uint32)


def test_cards_that_are_wrong_are_refused(tmp_path: Path) -> None:
    shard = {"name": "train-00000", "tokens": 5, "documents": 2, "bytes": 9, "largest_id": 3, "checksum": "x"}
    card = {
        "version": 1,
        "tokenizer": "tokenizer.json",
        "tokenizer_hash": "x",
        "dtype": "uint16",
        "vocab_size": 4,
        "end_of_text": 0,
        "fingerprint": fingerprint_of("x", ["x"]),
        "splits": {"train": {"tokens": 5, "documents": 2, "bytes": 9, "shards": [shard]}},
    }
    check_card(card, "card")
    for changed, says in (
        (card | {"version": 2}, "version 1"),
        (card | {"vocab_size": 3}, "beyond the vocabulary"),
        ({name: value for name, value in card.items() if name != "dtype"}, "'dtype'"),
        (card | {"splits": {"train": {"tokens": 6, "documents": 2, "bytes": 9, "shards": [shard]}}}, "not the sum"),
    ):
        (tmp_path / "dataset.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=says):
            read_card(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"dataset\.json: is not there; give the folder"):
        read_card(tmp_path)
