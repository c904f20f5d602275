"""Sets of quality rules, each with its published thresholds."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

THRESHOLDS = ("min_", "max_")


@dataclass(frozen=True)
class Rule:
    """A document goes where `measure` is below (`is_least`) or above `threshold`."""

    name: str
    measure: str
    threshold: float
    is_least: bool


class RuleSet(BaseModel):
    """What a set of rules is told. Each field whose name begins with `min_` or `max_` is the threshold of one rule, the
    rest of its name the measure; other fields say how to measure, or to edit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def rules(self, name: str) -> list[Rule]:
        """The rules in order, for a set of this name."""
        return [
            Rule(f"{name}.{key}", key[4:], value, key.startswith("min_"))
            for key, value in self.model_dump().items()
            if key.startswith(THRESHOLDS)
        ]

    def settings(self) -> dict[str, float]:
        """What is told of measuring and editing."""
        return {key: value for key, value in self.model_dump().items() if not key.startswith(THRESHOLDS)}


class Gopher(RuleSet):
    """The quality rules of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1) with its thresholds."""

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


class GopherRepetition(RuleSet):
    """The repetition rules of Gopher (Rae et al. 2021, appendix A.1.1, table A1) with its thresholds, shares of 0 to 1."""

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


class FineWeb(RuleSet):
    """FineWeb's own rules (Penedo et al. 2024, "The FineWeb Datasets", section 3.6) with the thresholds of the code that
    made it, datatrove's FineWebQualityFilter; for duplicated characters the paper says 0.1."""

    min_punctuated_lines: float = Field(0.12, description="Least share of lines that end a sentence.")
    max_short_lines: float = Field(0.67, description="Largest share of short lines.")
    max_duplicate_characters: float = Field(0.01, description="Largest share of characters in lines that stood before.")
    max_line_breaks: float = Field(0.3, description="Most line breaks a word.")
    short_line: int = Field(30, ge=0, description="Most characters of a short line.")


class C4(RuleSet):
    """C4's rules (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2), with what its code adds, as
    datatrove's C4QualityFilter has them. Those of lines edit the text, which the sets named after this one then measure.
    Made for English: for other scripts than Latin switch `line_terminal_punctuation` off, as FineWeb did for all."""

    max_lorem_ipsum_lines: float = Field(0, description='Most lines with "lorem ipsum".')
    max_curly_bracket_lines: float = Field(0, description='Most lines with "{".')
    min_sentences: float = Field(5, description="Least sentences in the lines that stay.")
    line_max_word_length: int = Field(1000, ge=1, description="Lines with a longer word go.")
    line_terminal_punctuation: bool = Field(True, description="Lines that do not end in . ? ! or a quote go.")
    line_min_words: int = Field(3, ge=0, description="Lines of fewer words go.")
    line_javascript: bool = Field(True, description='Lines with "javascript" go.')
    line_policy: bool = Field(True, description="Lines about cookies, privacy policies and terms of use go.")
    citations: bool = Field(True, description="Citations as Wikipedia has them are taken out of lines: [12], [edit].")


class NeMo(RuleSet):
    """The ratios of NeMo Curator's heuristic filters that Gopher's rules do not have already, with its thresholds (its
    documentation, "Heuristic Filtering", and config/heuristic_filter_en.yaml). Made for English."""

    max_non_alphanumeric: float = Field(
        0.25, description="NonAlphaNumericFilter: largest share of characters other than a-z, 0-9, line feeds and ?!,."
    )
    max_symbol_words: float = Field(
        0.1, description='SymbolsToWordsFilter: largest share of words that are an ellipsis or of "#".'
    )
    max_numbers: float = Field(0.15, description="NumbersFilter: largest share of characters that are digits.")
    max_urls: float = Field(0.2, description="UrlsFilter: largest share of characters in URLs.")
    max_white_space: float = Field(0.25, description="WhiteSpaceFilter: largest share of white space.")
    max_parentheses: float = Field(0.1, description="ParenthesesFilter: largest share of parentheses and brackets.")
    max_unpunctuated_lines: float = Field(
        0.85, description="PunctuationFilter: largest share of lines that do not end in . ? ! or a quote."
    )
    max_longest_word: float = Field(1000, description="LongWordFilter: most characters of a word.")


RULE_SETS: dict[str, type[RuleSet]] = {
    "gopher": Gopher,
    "gopher_repetition": GopherRepetition,
    "fineweb": FineWeb,
    "c4": C4,
    "nemo": NeMo,
}
