"""The sample of a text that its language is told from."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs import text_of
from tokenmill.stages.filters.language import Language
from tokenmill.stages.filters.sampling import PIECES, sample_text

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=400) | st.none(), max_size=6)


@given(texts=TEXTS, size=st.integers(100, 600), offset=st.integers(0, 3))
def test_short_texts_whole_and_pieces_of_long_ones(texts: list[str | None], size: int, offset: int) -> None:
    array = pa.array(texts, pa.string())[offset:]
    sampled = sample_text(array, size)
    sampled.validate(full=True)
    assert len(sampled) == len(array)
    for text, sample in zip(array.to_pylist(), sampled.to_pylist(), strict=True):
        text, sample = text or "", sample or ""
        if len(text.encode()) <= size:
            assert sample == text
        else:
            assert len(sample.encode()) <= size


def test_pieces_are_spread_over_the_text_and_hold_whole_words() -> None:
    words = [f"w{number:06d}" for number in range(10_000)]
    sampled = sample_text(pa.array([" ".join(words)]), 4000)[0].as_py().split()
    assert set(sampled) <= set(words)
    assert sampled[0] == words[0]
    places = [int(word[1:]) for word in sampled]
    assert places == sorted(places)
    assert {place * PIECES // len(words) for place in places} == set(range(PIECES))
    assert len(sampled) * 8 > 0.9 * 4000, "nearly as much as is asked for"


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    text = "これは日本語の文章です。" * 500
    sampled = sample_text(pa.array([text]), 2000)[0].as_py()
    assert set(sampled) <= {*text, " "}
    assert 1800 < len(sampled.encode()) <= 2000


def test_a_language_that_only_the_beginning_has_does_not_decide() -> None:
    german = "Der Zug fährt über die Brücke, und die Kinder schauen aus dem Fenster auf den Fluss hinunter. "
    text = german * 20 + "".join(text_of("bread", number, 12) + "\n\n" for number in range(60))
    assert len(text) > 40_000
    batch = pa.record_batch({"text": pa.array([text])})
    for sample_bytes in (2000, 16_000, None):
        verdicts = Language(keep="all", sample_bytes=sample_bytes).judge(batch)
        assert verdicts.measures["language"].to_pylist() == ["en"]
    assert (
        Language(keep="all").judge(pa.record_batch({"text": pa.array([text[:1500]])})).measures["language"][0].as_py()
        == "de"
    )


def test_a_sample_of_next_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 500"):
        Language(keep="all", sample_bytes=10)
