"""Documents written as often as a table tells."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenmill.stages.tokens.stage import Shards
from tokenmill.stages.tokens.upsampling import times_written, upsampled

FINEWEB2 = {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}


def test_the_table_of_fineweb_2() -> None:
    copies = pa.array([1, 2, 3, 4, 5, 99, 100, 999, 1000, 10**6], pa.int32())
    assert times_written(FINEWEB2, copies).tolist() == [1, 2, 3, 3, 5, 5, 8, 8, 1, 1]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_each_row_as_often_as_told_with_keys_of_its_own(times: list[int]) -> None:
    count = len(times)
    batch = pa.record_batch({"position": pa.array(range(count), pa.int32()), "key": np.linspace(0, 0.5, count)})
    taken = upsampled(batch, np.array(times), "p")
    positions, keys = taken.column("position").to_pylist(), taken.column("key").to_pylist()
    assert positions == [row for row in range(count) for _ in range(times[row])]
    assert len(set(keys)) == len(keys)
    firsts = np.cumsum(times) - times
    assert [keys[first] for first in firsts] == batch.column("key").to_pylist()


@pytest.mark.parametrize(
    ("table", "shuffle", "message"),
    [
        ({2: 2}, "documents", "begin with 1 copy"),
        ({1: 0}, "documents", "once at least"),
        ({}, "documents", "begin with 1"),
        (FINEWEB2, "none", "needs `shuffle: documents`"),
    ],
)
def test_tables_that_make_no_sense(table: dict[int, int], shuffle: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Shards(rehydrate=table, shuffle=shuffle)
