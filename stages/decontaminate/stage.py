"""Documents that overlap evaluation sets, by word n-grams (Brown et al. 2020, "Language Models are Few-Shot Learners",
appendix C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from tokenmill.stages.decontaminate.eval_sets import EvaluationTexts, read_evaluation_sets
from tokenmill.stages.decontaminate.ngram_index import MOST_TEXTS, NOTHING, NgramIndex
from tokenmill.stages.stage import DROPPED, KEPT, Filter, NotMeasured, Verdicts

ENDINGS = (".gz", ".zst", ".lz4", ".jsonl", ".ndjson", ".json")


class Decontaminate(Filter):
    """Drops documents that share more word n-grams with evaluation sets than they may.

    Words are those of deduplication: lower case, without punctuation; in scripts without spaces each character. An n-gram that
    more than 10 different texts of the sets have is not looked for (`ngram_index.MOST_TEXTS`). Rule: `decontaminate.SET`, the
    set of the item that a document shares most with. Ledger: `overlap`, at how many of its words an n-gram of a set ends;
    `overlap_share`, the share of its n-grams (0 to 1); `evaluation_set` and `evaluation_item` (a line, from 1, over the set's
    files).
    """

    version: ClassVar[int] = 1

    against: dict[str, str | list[str]] | list[str] = Field(
        min_length=1,
        description="The evaluation sets, as JSON lines (plain, .gz, .zst, .lz4): a mapping from a set's name to a glob or a "
        "list of them, or a list of globs, in which files are sets by their own names.",
    )
    fields: list[str] = Field(
        ["text"],
        min_length=1,
        description="Fields of an item that hold text, dots lead into objects: [question, choices, answer]. Each is looked for "
        "by itself, and so is each string of a list; a field may be missing, all of them may not.",
    )
    ngram: int = Field(13, ge=2, le=100, description="Words of an n-gram; GPT-3 took 8 to 13, datatrove takes 12.")
    min_words: int = Field(
        8,
        ge=1,
        description="Words that a text shorter than `ngram` needs to be looked for, as a whole; 8 as GPT-3's least.",
    )
    max_overlap: int = Field(
        0,
        ge=0,
        description="Most words of a document at which an n-gram of an evaluation set may end: with 0 one n-gram is too many, "
        "as for datatrove; the page of a speech that an evaluation quotes once has few, a copy of an item many.",
    )

    def sets(self) -> dict[str, list[Path]]:
        """The files of each set, in order; a glob that matches nothing stands for itself, so that reading it names it."""
        if isinstance(self.against, dict):
            return {name: _matches(given) for name, given in self.against.items()}
        named: dict[str, list[Path]] = {}
        for file in _matches(self.against):
            named.setdefault(_set_name(file), []).append(file)
        return named

    def model_files(self) -> tuple[Path, ...]:
        """See `Stage`."""
        return tuple(file for files in self.sets().values() for file in files)

    def notices(self) -> Sequence[str]:
        """See `Stage`."""
        sets = self._sets()
        notices = []
        for number, name in enumerate(sets.texts.sets):
            mine = sets.texts.set_of == number
            items, used = (np.unique(sets.texts.item_of[mask]) for mask in (mine, mine & sets.is_used))
            reason = f"fewer than {self.min_words} words, or nothing that {MOST_TEXTS} other texts do not have too"
            if not len(used):
                raise ValueError(
                    f"against: the set {name!r} would find nothing: its {len(items):,} items have {reason}"
                )
            if len(used) < len(items):
                notices.append(
                    f"{len(items) - len(used):,} of {len(items):,} items of {name} are not looked for: {reason}"
                )
        return notices

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        sets = self._sets()
        overlap, text, words = sets.index.overlaps(documents.column("text"))
        found = text != NOTHING
        names = pa.array(sets.texts.sets, pa.string())
        return self._verdicts(
            {
                "overlap": pa.array(overlap),
                "overlap_share": pa.array(np.minimum(overlap / np.maximum(words - self.ngram + 1, 1), 1.0)),
                "evaluation_set": names.take(pa.array(sets.texts.set_of[text], mask=~found)),
                "evaluation_item": pa.array(sets.texts.item_of[text], mask=~found),
            }
        )

    def reevaluate(self, measures: Mapping[str, pa.Array], measured_by: Self) -> Verdicts:
        """See `Stage`."""
        for key in ("against", "fields", "ngram", "min_words"):
            if getattr(self, key) != getattr(measured_by, key):
                raise NotMeasured(f"with another `{key}` other n-grams would be found")
        return self._verdicts(measures)

    def _verdicts(self, measures: Mapping[str, pa.Array]) -> Verdicts:
        overlap = measures["overlap"].to_numpy(zero_copy_only=False)
        fails = overlap > self.max_overlap
        sets = measures["evaluation_set"].to_pylist()
        return Verdicts.of(
            np.where(fails, DROPPED, KEPT).astype(np.uint8),
            rule=[f"decontaminate.{name}" if fail else None for name, fail in zip(sets, fails.tolist(), strict=True)],
            value=overlap.astype(np.float64),
            threshold=np.full(len(overlap), float(self.max_overlap)),
            measures=measures,
        )

    def _sets(self) -> _Indexed:
        sets = tuple((name, tuple(files)) for name, files in self.sets().items())
        states = tuple((file.stat().st_mtime_ns, file.stat().st_size) for _, files in sets for file in files)
        return _indexed(sets, tuple(self.fields), self.ngram, self.min_words, states)


@dataclass(frozen=True)
class _Indexed:
    texts: EvaluationTexts
    index: NgramIndex
    is_used: npt.NDArray[np.bool_]


@cache
def _indexed(
    sets: tuple[tuple[str, tuple[Path, ...]], ...],
    fields: tuple[str, ...],
    ngram: int,
    min_words: int,
    states: tuple[tuple[int, int], ...],
) -> _Indexed:
    """Once a process; `states`: the files' times and sizes, so that changed ones are read again."""
    texts = read_evaluation_sets(dict(sets), fields)
    index, is_used = NgramIndex.of(texts.text, ngram, min_words)
    return _Indexed(texts, index, is_used)


def _matches(given: str | list[str]) -> list[Path]:
    globs = [given] if isinstance(given, str) else given
    found = []
    for one in globs:
        anchor = Path(one).anchor
        matched = sorted(Path(anchor or ".").glob(str(Path(one).relative_to(anchor))))
        found += matched or [Path(one)]
    return found


def _set_name(file: Path) -> str:
    name = file.name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name
