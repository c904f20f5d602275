"""The shuffled order of documents, and what the card says of a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from tokenmill.stages.tokens.card import OCCURRENCES, added, as_table, check_splits, describe_split, unknown_token
from tokenmill.stages.tokens.shuffle import BUCKETS, lay_shuffled, shuffle_keys, shuffled_batches, sorted_runs

SCHEMA = pa.schema({"split": pa.int8(), "key": pa.float64(), "length": pa.int32(), "name": pa.string()})


def part(number: int, lengths: list[int], batch_rows: int, run_bytes: int) -> list[pa.RecordBatch]:
    """The sorted runs of a part whose documents all are in split 0."""

    def batches() -> Iterator[pa.RecordBatch]:
        positions = np.arange(len(lengths))
        keys = shuffle_keys(f"part {number}", positions)
        for begin in range(0, len(lengths), batch_rows):
            rows = slice(begin, begin + batch_rows)
            names = [f"{number}#{position}" for position in positions[rows]]
            columns = [np.zeros(len(names), np.int8), keys[rows], np.array(lengths[rows], np.int32)]
            yield pa.record_batch([*map(pa.array, columns), pa.array(names, pa.string())], schema=SCHEMA)

    return list(sorted_runs(batches(), 0, run_bytes))


@given(
    parts=st.lists(st.lists(st.integers(1, 9), max_size=30), min_size=1, max_size=5),
    size=st.integers(1, 40),
    batch_rows=st.integers(1, 12),
    run_bytes=st.integers(1, 1000),
)
def test_each_document_once_in_the_order_of_keys(
    parts: list[list[int]], size: int, batch_rows: int, run_bytes: int
) -> None:
    runs = [(number, part(number, lengths, batch_rows, run_bytes)) for number, lengths in enumerate(parts)]
    keys = [shuffle_keys(f"part {number}", np.arange(len(lengths))) for number, lengths in enumerate(parts)]
    places = lay_shuffled(
        "train", [(mine, np.array(lengths, np.int64)) for mine, lengths in zip(keys, parts, strict=True)], size
    )
    seen = []
    for place in places:
        mine = []
        for numbers, batch in shuffled_batches(runs, place, 0):
            mine += batch.to_pylist()
            assert [int(name.split("#")[0]) for name in batch.column("name").to_pylist()] == numbers.tolist()
        assert len(mine) == place.documents > 0
        assert sum(row["length"] for row in mine) == place.tokens
        assert place.tokens <= size or len({int(row["key"] * BUCKETS) for row in mine}) == 1
        seen += mine
    expected = sorted(
        (key, f"{number}#{row}") for number, mine in enumerate(keys) for row, key in enumerate(mine.tolist())
    )
    assert [(row["key"], row["name"]) for row in seen] == expected


def test_the_order_is_shuffled() -> None:
    order = np.argsort(shuffle_keys("part", np.arange(10_000)))
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


def words(*vocabulary: str, unknown: str | None = None) -> Tokenizer:
    return Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token=unknown))


def occurrences(*ids: int) -> pa.Table:
    return as_table(np.bincount(ids).astype(np.int64))


def test_a_split_described() -> None:
    tokenizer = words("zero", "one", "two", "<unk>", unknown="<unk>")
    content = tokenizer.to_str().encode()
    assert unknown_token(tokenizer, content) == 3
    assert unknown_token(words("a"), words("a").to_str().encode()) in (None, tokenizer.token_to_id("none"))
    found = describe_split(tokenizer, 3, [occurrences(0, 0, 1), occurrences(0, 2, 0, 1, 3)])
    assert found["entropy"] == 1.75  # shares 1/2, 1/4, 1/8, 1/8
    assert found["most_frequent"] == {"id": 0, "token": "zero", "share": 0.5}
    assert found["unknown_share"] == 0.125
    assert describe_split(words("a", "b"), None, [occurrences(0, 1)])["unknown_share"] is None
    assert describe_split(tokenizer, 3, [])["entropy"] is None


@given(st.lists(st.integers(0, 50), max_size=60), st.lists(st.integers(0, 50), max_size=60))
def test_counts_add_up(one: list[int], other: list[int]) -> None:
    total = added(np.bincount(one).astype(np.int64), np.bincount(other).astype(np.int64))
    assert total.tolist() == np.bincount(one + other).tolist()
    table = as_table(total)
    assert table.schema == OCCURRENCES
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {
        token: (one + other).count(token) for token in set(one + other)
    }


def test_a_degenerate_split_is_an_error() -> None:
    tokenizer = words("a", "b", "c", "<unk>", unknown="<unk>")
    sound = describe_split(tokenizer, 3, [occurrences(0, 1, 2)])
    check_splits({"train": sound, "validation": describe_split(tokenizer, 3, [])})
    with pytest.raises(ValueError, match=r"the train split holds next to nothing to learn.*90% of them are 'a'"):
        check_splits({"train": describe_split(tokenizer, 3, [occurrences(*[0] * 9, 1)])})
    with pytest.raises(ValueError, match="60% of the tokens of the train split are unknown"):
        check_splits({"train": describe_split(tokenizer, 3, [occurrences(3, 3, 3, 0, 1)])})
