"""Deduplication: exact by a digest of the normalized text, near by MinHash and LSH, verified, without chains.

Broder 1997 ("On the resemblance and containment of documents") for shingles and MinHash; bands as in Leskovec, Rajaraman,
Ullman, chapter 3. A candidate is verified by the exact Jaccard similarity of the two shingle sets (or because the loser is
contained in the winner, see `stages.dedup.verify.verify`); then, by priority, a document is dropped only if it matches one
that is kept. The memory of a task: see `stages.dedup.limits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokenmill.stages.dedup.candidates import candidate_tasks, exact_duplicates, near_candidates, write_candidates
from tokenmill.stages.dedup.minhash import choose_bands
from tokenmill.stages.dedup.paragraphs import RepeatedParagraphs
from tokenmill.stages.dedup.previous_runs import PreviousRunMatches
from tokenmill.stages.dedup.report import duplicate_sections, paragraph_sections, summary_lines, summary_notices
from tokenmill.stages.dedup.signatures import Keep, write_signatures
from tokenmill.stages.dedup.verdicts import judge_partition, write_clusters, write_kept
from tokenmill.stages.dedup.verified_pairs import groups, write_sets, write_verified
from tokenmill.stages.report import Section, StageRun, StageSummary
from tokenmill.stages.stage import CorpusStage, Phase, reads_every


class Deduplicate(CorpusStage):
    """Drops duplicates corpus-wide.

    Rules: `deduplicate.exact`, `deduplicate.near` (value: exact Jaccard similarity), `deduplicate.contained`; with `against:`
    `deduplicate.previous_run` (value: similarity estimated from signatures, see `previous_runs`; exact copies have 1). Ledger:
    `survivor` (id of the document that is kept for a dropped one), `survivor_run` (with `against:`; the run that has the
    survivor, null for this one), `similarity` (of the two; null where not verified), `copies` (how many documents of this run
    a kept one stands for, itself included). A document without words matches nothing.

    `scope: paragraph` removes paragraphs instead, see `dedup.paragraphs`. Rule: `deduplicate.paragraphs` (nothing is left;
    value: removed paragraphs). Ledger: `repeated_paragraphs`, `repeated_bytes` (removed ones), `repeated_from` (id of the
    document that keeps the first of them).
    """

    version: ClassVar[int] = 4
    adds: ClassVar[tuple[str, ...]] = ("copies",)
    index: ClassVar[str | None] = "signatures"
    refers_to: ClassVar[tuple[str, ...]] = ("survivor", "repeated_from")

    scope: Literal["document", "paragraph"] = Field(
        "document",
        description="What is compared: whole documents, or their paragraphs (lines): what several documents have is kept in "
        "the first of them and removed from the others. For paragraphs only `min_words` and `min_documents` apply.",
    )
    min_words: int = Field(
        5, ge=1, description="scope: paragraph: least words of a paragraph; shorter ones are left alone."
    )
    min_documents: int = Field(
        2, ge=2, description="scope: paragraph: least documents that must have a paragraph to make it a repeated one."
    )
    similarity: float = Field(0.8, gt=0, le=1, description="Least Jaccard similarity of shingle sets (0 to 1).")
    ngram: int = Field(5, ge=1, le=1000, description="Words in a shingle.")
    bands: int | None = Field(None, ge=1, description="Bands of the signature; default: chosen by `similarity`.")
    rows: int | None = Field(None, ge=1, description="MinHash values in a band; default: chosen by `similarity`.")
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of datasketch's permutations.")
    keep: Keep = Field(
        "longest",
        description="Which of two duplicates is kept: the one of more bytes, the first in canonical order, or the one of the "
        "later date (to the minute; a document without a date counts as the oldest). Of equals the first is kept.",
    )
    verify: bool = Field(
        True, description="Check each candidate pair by its exact similarity; false takes all as they are."
    )
    against: list[str] = Field(
        [],
        description="Folders of previous runs: what one of them kept is not kept again. They must have a deduplicate stage of "
        "the same ngram, seed, bands and rows; only its signatures are read.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Deduplicate:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("give both bands and rows, or neither")
        of_paragraphs = {"min_words", "min_documents"}
        for key, field in type(self).model_fields.items():
            is_of_other = (key in of_paragraphs) != (self.scope == "paragraph")
            if key != "scope" and is_of_other and getattr(self, key) != field.get_default():
                raise ValueError(f"{key} is not for scope: {self.scope}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and rows."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return choose_bands(self.similarity)

    def previous_runs(self) -> Sequence[str]:
        """See `CorpusStage`."""
        return self.against

    def incompatibility(self, previous: Self) -> str | None:
        """See `CorpusStage`."""
        mine, theirs = (
            f"ngram {stage.ngram}, seed {stage.seed}, {stage.shape[0]} bands x {stage.shape[1]} rows"
            for stage in (self, previous)
        )
        return None if mine == theirs else f"its signatures have {theirs}, this stage's {mine}"

    def phases(self) -> Sequence[Phase]:
        """See `CorpusStage`."""
        if self.scope == "paragraph":
            return RepeatedParagraphs(self.min_words, self.min_documents).phases()

        bands, rows = self.shape
        matched = ("matched",) if self.against else ()
        previous = PreviousRunMatches(bands, self.similarity if self.verify else None)
        sign = partial(
            write_signatures,
            ngram=self.ngram,
            bands=bands,
            rows=rows,
            seed=self.seed,
            keep=self.keep,
            similarity=self.similarity,
        )
        return (
            Phase("signatures", sign, reads_documents=True),
            *(previous.phases() if self.against else ()),
            Phase(
                "candidates",
                write_candidates,
                keys=partial(candidate_tasks, bands=bands),
                reads=reads_every("signatures"),
            ),
            Phase(
                "sets",
                partial(write_sets, ngram=self.ngram, is_verified=self.verify),
                reads=lambda task, corpus: near_candidates(corpus),
                reads_documents=True,
                uses_corpus=True,
            ),
            Phase(
                "verified",
                partial(write_verified, similarity=self.similarity, is_verified=self.verify),
                keys=groups,
                reads=lambda task, corpus: near_candidates(corpus) + corpus.every("sets"),
            ),
            Phase(
                "kept",
                partial(write_kept, has_previous_runs=bool(matched)),
                keys=lambda corpus: ("all",),
                reads=reads_every("verified", *matched),
            ),
            Phase(
                "clusters",
                write_clusters,
                keys=groups,
                reads=lambda task, corpus: [("kept", "all"), ("verified", task), *exact_duplicates(corpus)],
            ),
            Phase(
                "verdicts",
                partial(judge_partition, threshold=self.similarity, has_previous_runs=bool(matched)),
                reads=lambda task, corpus: [
                    *exact_duplicates(corpus),
                    *corpus.every("clusters"),
                    *((phase, task) for phase in matched),
                ],
                judges=True,
                uses_corpus=True,
            ),
        )

    def left_unknown(self, name: str) -> str | None:
        """See `Stage`."""
        return (
            f"Which documents {name} would choose of duplicates: one that is dropped here may stand for others, which would "
            "then be kept, and one newly kept may take the place of others."
        )

    def summary(self, run: StageRun) -> StageSummary:
        """See `Stage`."""
        return StageSummary(lines=summary_lines(run), notices=summary_notices(run))

    def report_sections(self, run: StageRun) -> Sequence[Section]:
        """See `Stage`."""
        return [*paragraph_sections(run), *duplicate_sections(run, has_earlier=bool(self.against))]
