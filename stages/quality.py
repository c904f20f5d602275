"""Quality rules: each a comparison of one measure with a published threshold."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.repetition_measures import REPETITION_MEASURES, measure_repetition
from stages.stage import DROPPED, KEPT, Filter, Verdicts
from stages.text_measures import MEASURES, measure


class Gopher(BaseModel):
    """The quality rules of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1) with its thresholds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_words: float = Field(50, description="Least words.")
    max_words: float = Field(100_000, description="Most words.")
    min_mean_word_length: float = Field(3, description="Least mean length of words, in characters.")
    max_mean_word_length: float = Field(10, description="Greatest mean length of words, in characters.")
    max_hash_ratio: float = Field(0.1, description='Most "#" a word.')
    max_ellipsis_ratio: float = Field(0.1, description="Most ellipses a word.")
    max_bullet_lines: float = Field(0.9, description="Largest share of lines that begin with a bullet.")
    max_ellipsis_lines: float = Field(0.3, description="Largest share of lines that end with an ellipsis.")
    min_alphabetic_words: float = Field(0.8, description="Least share of words with a letter.")
    min_stop_words: float = Field(2, description="Least number of different stop words that occur.")


class GopherRepetition(BaseModel):
    """The repetition rules of Gopher (Rae et al. 2021, appendix A.1.1, table A1) with its thresholds, shares of 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_duplicate_lines: float = Field(0.3, description="Largest share of lines that stood before.")
    max_duplicate_paragraphs: float = Field(0.3, description="Largest share of paragraphs that stood before.")
    max_duplicate_line_characters: float = Field(0.2, description="Largest share of characters in such lines.")
    max_duplicate_paragraph_characters: float = Field(
        0.2, description="Largest share of characters in such paragraphs."
    )
    max_top_2_gram: float = Field(0.2, description="Largest share of characters in the most frequent two words.")
    max_top_3_gram: float = Field(0.18, description="The same of three words.")
    max_top_4_gram: float = Field(0.16, description="The same of four words.")
    max_duplicate_5_grams: float = Field(
        0.15, description="Largest share of characters in five words that stood before."
    )
    max_duplicate_6_grams: float = Field(0.14, description="The same of six words.")
    max_duplicate_7_grams: float = Field(0.13, description="The same of seven words.")
    max_duplicate_8_grams: float = Field(0.12, description="The same of eight words.")
    max_duplicate_9_grams: float = Field(0.11, description="The same of nine words.")
    max_duplicate_10_grams: float = Field(0.1, description="The same of ten words.")


REPETITION = "gopher_repetition"
RULE_SETS: dict[str, type[BaseModel]] = {"gopher": Gopher, REPETITION: GopherRepetition}


@dataclass(frozen=True)
class Rule:
    """A document goes where `measure` is below (`is_least`) or above `threshold`."""

    name: str
    measure: str
    threshold: float
    is_least: bool


class Quality(Filter):
    """Keeps documents that meet every rule; the first that one fails, in the order of its set, is named in the ledger.

    Rules: `gopher.min_words` and so on. Ledger: every measure of `stages.text_measures`, for every document, and with
    `gopher_repetition` every one of `stages.repetition_measures`.
    """

    version: ClassVar[int] = 2

    rules: list[str] | dict[str, dict[str, float] | None] = Field(
        ["gopher"],
        description="Names of rule sets, or a mapping from names to thresholds that replace the published ones: "
        "{gopher: {min_words: 100}, gopher_repetition: {}}. Sets: gopher, gopher_repetition.",
    )
    stop_words: list[str] = Field(
        ["the", "be", "to", "of", "and", "that", "have", "with"],
        max_length=64,
        description="Words of which Gopher asks for two, lower case; give your own for another language.",
    )

    @field_validator("rules")
    @classmethod
    def _are_known(cls, rules: Any) -> Any:
        for name, thresholds in (rules if isinstance(rules, dict) else dict.fromkeys(rules)).items():
            if name not in RULE_SETS:
                raise ValueError(f"there is no rule set {name!r}; {_nearest(name, list(RULE_SETS))}")
            for threshold in thresholds or {}:
                if threshold not in RULE_SETS[name].model_fields:
                    near = _nearest(threshold, list(RULE_SETS[name].model_fields))
                    raise ValueError(f"rule set {name!r} has no threshold {threshold!r}; {near}")
        return rules

    def chosen(self) -> list[Rule]:
        """All rules in order."""
        sets = self.rules if isinstance(self.rules, dict) else dict.fromkeys(self.rules)
        return [
            Rule(f"{name}.{key}", key[4:], value, key.startswith("min_"))
            for name, thresholds in sets.items()
            for key, value in RULE_SETS[name](**(thresholds or {})).model_dump().items()
        ]

    def _measured(self, text: pa.Array) -> dict[str, npt.NDArray[np.float64]]:
        measured = dict(zip(MEASURES, measure(text, tuple(self.stop_words)).T, strict=True))
        if REPETITION in self.rules:
            measured |= zip(REPETITION_MEASURES, measure_repetition(text).T, strict=True)
        return measured

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        measured = self._measured(documents.column("text"))
        count = documents.num_rows
        failed: npt.NDArray[np.int64] = np.full(count, -1)
        value, threshold = np.full(count, np.nan), np.full(count, np.nan)
        rules = self.chosen()
        for number, rule in enumerate(rules):
            column = measured[rule.measure]
            breaks = (column < rule.threshold) if rule.is_least else (column > rule.threshold)
            first = breaks & (failed < 0)
            failed[first] = number
            value[first], threshold[first] = column[first], rule.threshold
        names = pa.array([rule.name for rule in rules], pa.string())
        measures = {name: pa.array(column.astype(np.float32)) for name, column in measured.items()}
        return Verdicts.of(
            np.where(failed < 0, KEPT, DROPPED).astype(np.uint8),
            rule=names.take(pa.array(failed, mask=failed < 0)),
            value=value,
            threshold=threshold,
            measures=measures,
        )


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
