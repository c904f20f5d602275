"""Quality rules on both sides of each threshold."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenmill.stages.quality.gopher import MEASURES, Gopher, measure
from tokenmill.stages.quality.stage import Quality
from tokenmill.stages.stage import DROPPED, KEPT, Verdicts


def judge(texts: list[str | None], **config: Any) -> Verdicts:
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    return Quality.model_validate(config).apply(batch)[1]


def prose(words: int, other: str = "", others: int = 0) -> str:
    """So many words, `others` of them another one; meets every rule that the other word does not break."""
    return " ".join(["the", "with", *[other] * others, *["plain"] * (words - others - 2)])


def lines(count: int, form: str, forms: int) -> str:
    """So many lines of prose, `forms` of them in a form, with {} for the line."""
    line = "all of the plain words that stand here"
    return "\n".join([form.format(line)] * forms + [line] * (count - forms))


def long_words(length: int) -> str:
    """200 words of a mean length: the two stop words are balanced by a longer and a shorter one."""
    return " ".join(["the", "with", "x" * (2 * length - 3), "x" * (2 * length - 4), *["x" * length] * 196])


SIDES = [
    ("gopher.min_words", prose(50), prose(49), 49),
    ("gopher.max_words", prose(100_000), prose(100_001), 100_001),
    ("gopher.min_mean_word_length", long_words(3), long_words(3).replace("xxx", "xx", 1), 3 - 1 / 200),
    ("gopher.max_mean_word_length", long_words(10), long_words(10) + "x", 10 + 1 / 200),
    ("gopher.max_hash_ratio", prose(100, "plain#", 10), prose(100, "plain#", 11), 0.11),
    ("gopher.max_ellipsis_ratio", prose(100, "plain...", 10), prose(100, "plain...", 11), 0.11),
    ("gopher.max_bullet_lines", lines(10, "-{}", 9), lines(20, "-{}", 19), 0.95),
    ("gopher.max_ellipsis_lines", lines(10, "{}...", 3), lines(10, "{}\u2026", 4), 0.4),
    ("gopher.min_alphabetic_words", prose(100, "12345", 20), prose(100, "12345", 21), 0.79),
    ("gopher.min_stop_words", prose(100), prose(100).replace("with", "wine"), 1),
]


@pytest.mark.parametrize(("rule", "met", "broken", "value"), SIDES, ids=[side[0] for side in SIDES])
def test_both_sides_of_a_threshold(rule: str, met: str, broken: str, value: float) -> None:
    verdicts = judge([met, broken])
    assert verdicts.rule.to_pylist() == [None, rule]
    assert verdicts.fate.tolist() == [KEPT, DROPPED]
    assert verdicts.value[0].as_py() is None
    assert verdicts.value[1].as_py() == pytest.approx(value, rel=1e-12)
    assert verdicts.threshold.to_pylist() == [None, getattr(Gopher(), rule.removeprefix("gopher."))]


def test_every_rule_has_its_sides() -> None:
    assert [side[0] for side in SIDES] == [rule.name for rule in Quality().chosen()]


def test_thresholds_are_those_published() -> None:
    published = (50, 100_000, 3, 10, 0.1, 0.1, 0.9, 0.3, 0.8, 2)
    assert tuple(rule.threshold for rule in Quality().chosen()) == published
    assert Quality().stop_words == ["the", "be", "to", "of", "and", "that", "have", "with"]


def test_thresholds_are_replaced_one_by_one() -> None:
    text = prose(60)
    assert judge([text], rules={"gopher": {"min_words": 61}}).rule.to_pylist() == ["gopher.min_words"]
    assert judge([text], rules={"gopher": {"min_words": 60}}).rule.to_pylist() == [None]
    assert judge([text], rules={"gopher": None}).rule.to_pylist() == [None]
    assert judge([""], rules=[]).rule.to_pylist() == [None]


def test_stop_words_of_another_language() -> None:
    german = "der Text hat f\u00fcr jeden etwas " * 20
    assert judge([german]).rule.to_pylist() == ["gopher.min_stop_words"]
    assert judge([german], stop_words=["f\u00fcr", "der"]).rule.to_pylist() == [None]


def test_documents_of_nothing_and_no_documents() -> None:
    verdicts = judge([None, "", "\0"])
    assert verdicts.rule.to_pylist() == ["gopher.min_words"] * 3
    assert verdicts.value.to_pylist() == [0, 0, 1]
    empty = judge([])
    assert len(empty.fate) == len(empty.rule) == 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"rules": ["goper"]}, "did you mean 'gopher'"),
        ({"rules": {"gopher": {"min_word": 3}}}, "did you mean 'min_words'"),
        ({"rules": {"gopher": {"min_words": "few"}}}, "valid number"),
        ({"rules": {"c4": {"line_min_words": 2.5}}}, "c4.line_min_words: .*valid integer"),
        ({"rules": {"c4": {"citations": 7}}}, "c4.citations: .*valid boolean"),
        ({"stop_words": ["a"] * 65}, "at most 64"),
        ({"rule": ["gopher"]}, "Extra inputs"),
    ],
)
def test_configs_that_make_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Quality.model_validate(config)


WORDS = st.sampled_from(["the", "of", "a", "long-winded-word", "#", "...", "-", "42", "\n", "\u4e2d"])


@given(
    st.lists(st.lists(WORDS, max_size=30).map(" ".join), max_size=6),
    st.fixed_dictionaries(
        {},
        optional={
            "min_words": st.integers(0, 20),
            "max_mean_word_length": st.floats(0, 10),
            "max_hash_ratio": st.floats(0, 1),
            "min_stop_words": st.integers(0, 3),
        },
    ),
)
def test_the_first_broken_rule_is_named_with_what_was_measured(texts: list[str], thresholds: dict[str, float]) -> None:
    config = Quality.model_validate({"rules": {"gopher": thresholds}})
    verdicts = config.apply(pa.record_batch({"text": pa.array(texts, pa.string())}))[1]
    measured = measure(pa.array(texts, pa.string()), tuple(config.stop_words))
    for row in range(len(texts)):
        broken = []
        for rule in config.chosen():
            value = measured[row, MEASURES.index(rule.measure)]
            if value < rule.threshold if rule.name.startswith("gopher.min_") else value > rule.threshold:
                broken.append((rule.name, value, rule.threshold))
        expected = broken[0] if broken else (None, None, None)
        said = (verdicts.rule[row].as_py(), verdicts.value[row].as_py(), verdicts.threshold[row].as_py())
        assert said == expected
        assert (verdicts.fate[row] == KEPT) == (not broken)
    for place, name in enumerate(MEASURES):
        assert verdicts.measures[name].to_numpy().tolist() == measured[:, place].tolist()
