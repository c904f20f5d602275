"""Quality by a fastText classifier, as DCLM (Li et al. 2024, section 4.4), GPT-3 and LLaMA chose their pages: the probability
of one label over the whole text against a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from tokenmill.stages.filters.fasttext_library import predictions
from tokenmill.stages.filters.fasttext_model import LABEL, FastTextClassifier, UnsupportedModel, model_labels
from tokenmill.stages.stage import DROPPED, KEPT, Filter, NotMeasured, ThresholdRule, Verdicts

RULES = (None, "classifier.threshold", "classifier.none")

LABELS_NAMED = 20
"""Labels of a model that the error names where the config asks for one that it does not have."""


class Classifier(Filter):
    """Keeps documents for which a label is probable enough.

    Rules: `classifier.threshold`; `classifier.none` (no text, or no word that the model knows something of; such a
    document is kept where the threshold is 0). Ledger: `score`, null where there is none. The whole text is read as
    one line, as DCLM gives it to fastText.
    """

    version: ClassVar[int] = 1

    model: Path = Field(description="A fastText classifier (.bin, .ftz).")
    label: str = Field(
        description="The label whose probability is the score, with or without `__label__`; a model of two labels, such as "
        "DCLM's `hq` and `cc`, needs no more."
    )
    threshold: float = Field(
        ge=0,
        le=1,
        description="Least probability of the label (0 to 1); 0 keeps all and only measures. Each model has its own: DCLM took "
        "the tenth of its pages with the highest scores, which for its model is 0.018112.",
    )

    @field_validator("model")
    @classmethod
    def _is_classifier(cls, model: Path) -> Path:
        if model.is_file():  # a config can be looked at where its model is not
            model_labels(model)
        return model

    @field_validator("label")
    @classmethod
    def _is_known(cls, label: str, info: ValidationInfo) -> str:
        label = label.removeprefix(LABEL)
        model: Path | None = info.data.get("model")
        if model is not None and model.is_file() and label not in (labels := model_labels(model)):
            by_likeness = sorted(labels, key=lambda known: -SequenceMatcher(None, label, known).ratio())
            more = f" and {len(labels) - LABELS_NAMED:,} more" if len(labels) > LABELS_NAMED else ""
            raise ValueError(
                f"{model} has no label {label!r}; nearest first it has {', '.join(by_likeness[:LABELS_NAMED])}{more}"
            )
        return label

    def model_files(self) -> tuple[Path, ...]:
        """See `Stage`."""
        return (self.model,)

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        return self._verdicts(label_probability(documents.column("text"), self.model, self.label))

    def thresholds(self) -> Sequence[ThresholdRule]:
        """See `Stage`."""
        return [ThresholdRule("classifier.threshold", "score", self.threshold, True)]

    def reevaluate(self, measures: Mapping[str, pa.Array], measured_by: Self) -> Verdicts:
        """See `Stage`."""
        for key in ("model", "label"):
            if getattr(self, key) != getattr(measured_by, key):
                raise NotMeasured(f"with another `{key}` the scores would be others")
        return self._verdicts(measures["score"].cast(pa.float64()).to_numpy(zero_copy_only=False))

    def _verdicts(self, scores: npt.NDArray[np.float64]) -> Verdicts:
        is_unknown = np.isnan(scores) & (self.threshold > 0)
        fails = scores < self.threshold
        return Verdicts.of(
            np.where(fails | is_unknown, DROPPED, KEPT).astype(np.uint8),
            rule=pa.array(RULES, pa.string()).take(pa.array(np.where(is_unknown, 2, fails.astype(np.int8)))),
            value=scores,
            threshold=np.full(len(scores), self.threshold),
            measures={"score": pa.array(scores, mask=np.isnan(scores))},
        )


def label_probability(text: pa.Array, model: Path, label: str) -> npt.NDArray[np.float64]:
    """The probability of a label for each text, at most 1, shape (texts,); NaN where the text has no word that the model
    knows something of.

    A model that `stages.filters.fasttext_model` does not support goes through the fastText library, one text a call.
    """
    try:
        return FastTextClassifier.load(model).probability(text, label)
    except UnsupportedModel:
        found = [dict(chances) for chances in predictions(text, str(model), -1)]
        return np.array([chances.get(label, 0.0) if chances else np.nan for chances in found], np.float64)
