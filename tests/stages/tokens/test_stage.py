"""Encoding, laying documents into shards, and the tokenizer that is trained for it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer

from tests.runs import text_of
from tokenmill.stages.tokens.encode import Encoder, encode_with_tokenizers
from tokenmill.stages.tokens.layout import lay_into_shards
from tokenmill.stages.tokens.tokenizer import (
    END_OF_TEXT,
    TrainedTokenizer,
    document_hashes,
    load_tokenizer,
    train_byte_level_bpe,
    train_characters,
)

TEXTS = [text_of(subject, number) for subject in ("bread", "maps") for number in range(12)]


def trained(texts: list[str] = TEXTS, *special: str, **settings: Any) -> bytes:
    config = TrainedTokenizer(**{"vocab_size": 500, **settings})
    make = train_characters if config.kind == "character" else train_byte_level_bpe
    return make(texts, config, [END_OF_TEXT, *special]).to_str().encode()


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    return trained()


@given(st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=6), st.integers(1, 20))
def test_every_document_is_in_one_shard_in_order(parts: list[list[int]], size: int) -> None:
    places = lay_into_shards("train", (np.array(counts, np.int64) for counts in parts), size)
    seen = []
    for place in places:
        mine = []
        for part in range(place.first_part, place.last_part + 1):
            first = place.first_row if part == place.first_part else 0
            last = place.end_row if part == place.last_part else len(parts[part])
            mine += [(part, row) for row in range(first, last)]
        assert len(mine) == place.documents > 0
        assert sum(parts[part][row] for part, row in mine) == place.tokens
        assert place.tokens <= size or place.documents == 1
        seen += mine
    assert seen == [(part, row) for part, counts in enumerate(parts) for row in range(len(counts))]
    assert [place.name for place in places] == [f"train-{number:05d}" for number in range(len(places))]
    for one, other in pairwise(places):
        assert one.tokens + parts[other.first_part][other.first_row] > size, "a shard closes only when it is full"


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=6))
def test_ids_are_those_of_tokenizers(tokenizer: bytes, texts: list[str]) -> None:
    encoder = Encoder(tokenizer)
    tokens, lengths = encoder.encode(pa.array(texts, pa.string()))
    ids, expected = encode_with_tokenizers(encoder.tokenizer, texts)
    assert (lengths - 1).tolist() == expected.tolist()
    ends = np.cumsum(lengths) - 1
    assert (tokens[ends] == encoder.end_of_text).all()
    assert np.delete(tokens, ends).tolist() == ids.tolist()
    for number, text in enumerate(texts):
        mine = tokens[ends[number] - lengths[number] + 1 : ends[number]]
        assert encoder.tokenizer.decode(mine.tolist(), skip_special_tokens=False) == text


def test_a_page_that_spells_out_the_end_of_text_does_not_end_there(tokenizer: bytes) -> None:
    encoder = Encoder(tokenizer)
    texts = ["before", f"one {END_OF_TEXT} two {END_OF_TEXT}", "after"]
    tokens, lengths = encoder.encode(pa.array(texts))
    assert int((tokens == encoder.end_of_text).sum()) == 3
    start, end = lengths[0], lengths[0] + lengths[1] - 1
    assert encoder.tokenizer.decode(tokens[start:end].tolist(), skip_special_tokens=False) == texts[1]
    assert encoder.engine == "gigatoken"


def test_a_tokenizer_that_the_fast_engine_does_not_know() -> None:
    encoder = Encoder(trained(kind="character"))
    assert encoder.engine == "tokenizers"
    assert "gigatoken does not know" in encoder.reason
    tokens, lengths = encoder.encode(pa.array([TEXTS[0], ""]))
    assert encoder.tokenizer.decode(tokens[: lengths[0] - 1].tolist()) == TEXTS[0]
    assert lengths.tolist() == [len(TEXTS[0]) + 1, 1]


def test_same_tokenizer_in_any_order_of_texts(tokenizer: bytes) -> None:
    assert trained(TEXTS[::-1]) == tokenizer
    assert Tokenizer.from_buffer(tokenizer).get_vocab_size() == 500


def test_hashes_are_of_the_document_alone() -> None:
    hashes = document_hashes("p", np.arange(100_000), "x")
    assert np.array_equal(hashes[500:600], document_hashes("p", np.arange(500, 600), "x"))
    assert not np.array_equal(hashes[:100], document_hashes("q", np.arange(100), "x"))
    assert not np.array_equal(hashes[:100], document_hashes("p", np.arange(100), "y"))
    assert abs(hashes.mean() - 0.5) < 0.01
    assert 0 <= hashes.min() <= hashes.max() < 1


def test_special_tokens_and_given_files(tmp_path: Path) -> None:
    special = Tokenizer.from_buffer(trained(TEXTS, "<|user|>"))
    assert special.token_to_id(END_OF_TEXT) == 0
    assert special.token_to_id("<|user|>") == 1
    with pytest.raises(ValidationError, match="there is no tokenizer file"):
        TrainedTokenizer(path=tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        load_tokenizer(b"{}", "x.json")
    without = Tokenizer.from_buffer(trained())
    renamed = without.to_str().replace(END_OF_TEXT, "<|nothing|>").encode()
    with pytest.raises(ValueError, match="no token that ends a document"):
        load_tokenizer(renamed, "x.json")
