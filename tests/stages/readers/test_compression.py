"""Compressed files as streams of members: nothing added, nothing lost, at any size."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.stages.readers.compression import PIECE_BYTES, compression_of, pieces

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.compress,
    "lz4": lz4.frame.compress,
}
SIZES = st.sampled_from([0, 1, 100, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 5_000_000])


@pytest.mark.parametrize("name", PACKERS)
@settings(max_examples=25)
@given(
    members=st.lists(
        st.tuples(SIZES, st.sampled_from([b"\0", b"words and more words ", bytes(range(256))])), max_size=4
    )
)
def test_members_come_back_whole_and_where_they_begin(name: str, members: list[tuple[int, bytes]]) -> None:
    contents = [(unit * (size // len(unit) + 1))[:size] for size, unit in members]
    packed = [PACKERS[name](content) for content in contents]
    found: dict[int, bytes] = {}
    ended = []
    for piece in pieces(io.BytesIO(b"".join(packed)), name):
        assert not piece.error
        found[piece.offset] = found.get(piece.offset, b"") + piece.data
        if piece.ends:
            ended.append(piece.offset)
    begins = [sum(map(len, packed[:place])) for place in range(len(packed))]
    assert ended == begins
    assert [found[begin] for begin in begins] == contents


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_comes_in_pieces(name: str) -> None:
    packed = PACKERS[name](bytes(200_000_000))
    assert compression_of(packed[:4]) == name
    sizes = [len(piece.data) for piece in pieces(io.BytesIO(packed), name)]
    assert sum(sizes) == 200_000_000
    assert max(sizes) <= 64 * PIECE_BYTES


def test_zeros_between_members_are_named() -> None:
    data = gzip.compress(b"one") + bytes(1000) + gzip.compress(b"two")
    found = list(pieces(io.BytesIO(data), "gzip"))
    assert [piece.data for piece in found if not piece.error] == [b"one", b"two"]
    assert [piece.error for piece in found if piece.error] == ["1,000 zero bytes stand between members"]
