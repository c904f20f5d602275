"""Quality rules: each a comparison of one measure with a published threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, ValidationError, field_validator

from tokenmill.model.common.config_file import nearest
from tokenmill.stages.quality.c4 import C4
from tokenmill.stages.quality.fineweb import FineWeb
from tokenmill.stages.quality.gopher import Gopher
from tokenmill.stages.quality.gopher_repetition import GopherRepetition
from tokenmill.stages.quality.nemo import NeMo
from tokenmill.stages.quality.rules import Measures, Rule, RuleSet
from tokenmill.stages.stage import DROPPED, KEPT, NotMeasured, ThresholdRule, Transform, Verdicts

RULE_SETS: dict[str, type[RuleSet]] = {
    "gopher": Gopher,
    "gopher_repetition": GopherRepetition,
    "fineweb": FineWeb,
    "c4": C4,
    "nemo": NeMo,
}


class Quality(Transform):
    """Keeps documents that meet every rule; for each dropped one the ledger names the first rule that it fails, in their order.

    Rules: `gopher.min_words` and so on: the fields of the sets, a file each in this folder. Ledger: what the chosen sets
    measure, for every document. Only `c4` modifies texts, by removing lines; sets apply in their order, so that those after it
    measure what it leaves.
    """

    version: ClassVar[int] = 3

    rules: list[str] | dict[str, dict[str, bool | float] | None] = Field(
        ["gopher"],
        description="Names of rule sets, or a mapping from names to thresholds that replace the published ones: "
        f"{{gopher: {{min_words: 100}}, gopher_repetition: {{}}}}. Sets: {', '.join(RULE_SETS)}.",
    )
    stop_words: list[str] = Field(
        ["the", "be", "to", "of", "and", "that", "have", "with"],
        max_length=64,
        description="Words of which Gopher requires two, lower case; give your own for another language.",
    )

    @field_validator("rules")
    @classmethod
    def _are_known(cls, rules: Any) -> Any:
        for name, thresholds in (rules if isinstance(rules, dict) else dict.fromkeys(rules)).items():
            if name not in RULE_SETS:
                raise ValueError(f"there is no rule set {name!r}; {nearest(name, RULE_SETS)}")
            for threshold in thresholds or {}:
                if threshold not in RULE_SETS[name].model_fields:
                    near = nearest(threshold, RULE_SETS[name].model_fields)
                    raise ValueError(f"rule set {name!r} has no threshold {threshold!r}; {near}")
            try:
                RULE_SETS[name].model_validate(thresholds or {})
            except ValidationError as error:
                fault = error.errors()[0]
                raise ValueError(f"{name}.{fault['loc'][0]}: {fault['msg']}, not {fault['input']!r}") from error
        return rules

    @property
    def modifies_text(self) -> bool:
        """See `Transform`."""
        return "c4" in self.rules

    def sets(self) -> dict[str, RuleSet]:
        """The chosen sets in order."""
        chosen = self.rules if isinstance(self.rules, dict) else dict.fromkeys(self.rules)
        return {name: RULE_SETS[name].model_validate(thresholds or {}) for name, thresholds in chosen.items()}

    def chosen(self) -> list[Rule]:
        """All rules in order."""
        return [rule for name, chosen in self.sets().items() for rule in chosen.rules(name)]

    def apply(self, documents: pa.RecordBatch) -> tuple[pa.RecordBatch, Verdicts]:
        """See `Transform`."""
        text = documents.column("text")
        measured: Measures = {}
        for chosen in self.sets().values():
            text, columns = chosen.measure(text, tuple(self.stop_words))
            measured |= columns
        if self.modifies_text:
            documents = documents.set_column(documents.schema.get_field_index("text"), "text", text)
        return documents, self._verdicts(documents.num_rows, measured)

    def thresholds(self) -> Sequence[ThresholdRule]:
        """See `Stage`."""
        return [ThresholdRule(rule.name, rule.measure, rule.threshold, rule.is_least) for rule in self.chosen()]

    def reevaluate(self, measures: Mapping[str, pa.Array], measured_by: Self) -> Verdicts:
        """See `Stage`."""
        before = measured_by.sets()
        for name, chosen in self.sets().items():
            if name not in before:
                raise NotMeasured(f"the run did not measure what the rule set {name!r} compares")
            for key, value in chosen.settings().items():
                if before[name].settings()[key] != value:
                    raise NotMeasured(
                        f"with another `{name}.{key}` other things are measured, or other lines taken out"
                    )
            if name != "c4" and self._is_edited_before(name) != measured_by._is_edited_before(name):
                raise NotMeasured(f"the rule set {name!r} would measure texts with other lines")
            if name == "gopher" and self.stop_words != measured_by.stop_words:
                raise NotMeasured("with other `stop_words` others are counted")
        columns = {name: column.to_numpy(zero_copy_only=False) for name, column in measures.items()}
        return self._verdicts(len(next(iter(columns.values()), ())), columns)

    def _is_edited_before(self, name: str) -> bool:
        names = list(self.sets())
        return "c4" in names[: names.index(name)]

    def _verdicts(self, count: int, measured: Measures) -> Verdicts:
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
        return Verdicts.of(
            np.where(failed < 0, KEPT, DROPPED).astype(np.uint8),
            rule=names.take(pa.array(failed, mask=failed < 0)),
            value=value,
            threshold=threshold,
            measures={name: pa.array(column) for name, column in measured.items()},
        )
