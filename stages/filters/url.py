"""Documents by their URL: block- and allow-lists of domains, and words that an address must not have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tokenmill.stages.stage import DROPPED, KEPT, Filter, Verdicts

MOST_LABELS = 10
"""Labels of a host's name, from its end, that are looked up: a.b.example as example, b.example and a.b.example."""

RULES = (None, "url.blocked_word", "url.blocked_domain", "url.not_allowed")


class Urls(Filter):
    """Keeps documents whose URL the lists allow; one without a URL passes all of them but `allow_domains`.

    Rules, in this order: `url.not_allowed`, `url.blocked_domain`, `url.blocked_word`. A domain stands for itself and all below
    it. Lists in files have an entry a line; empty lines and those that start with # are left out, so that the UT1 blocklists
    (Université Toulouse Capitole), which FineWeb and CCNet use, can be given as they are.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("url",)

    block_domains: list[str] = Field([], description="Domains whose documents are dropped, e.g. [ads.example].")
    block_domains_files: list[Path] = Field([], description="Files of such domains, one a line.")
    allow_domains: list[str] = Field([], description="Where given, only documents of these domains are kept.")
    allow_domains_files: list[Path] = Field([], description="Files of such domains, one a line.")
    block_words: list[str] = Field(
        [], description="Words that a URL must not have, in whatever case; a word ends where letters and digits end."
    )
    block_words_files: list[Path] = Field([], description="Files of such words, one a line.")

    def model_files(self) -> tuple[Path, ...]:
        """See `Stage`."""
        return (*self.block_domains_files, *self.allow_domains_files, *self.block_words_files)

    def judge(self, documents: pa.RecordBatch) -> Verdicts:
        """See `Filter`."""
        urls = pc.utf8_lower(documents.column("url").cast(pa.string()))
        hosts = pc.struct_field(
            pc.extract_regex(urls, r"^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>[^/:?#]+)"), "host"
        )
        rule = np.zeros(len(urls), np.int64)
        if words := _listed(self.block_words, self.block_words_files):
            rule[_true(pc.match_substring_regex(urls, _word_pattern(words)))] = RULES.index("url.blocked_word")
        if blocked := _listed(self.block_domains, self.block_domains_files):
            rule[_is_below(hosts, blocked)] = RULES.index("url.blocked_domain")
        if allowed := _listed(self.allow_domains, self.allow_domains_files):
            rule[~_is_below(hosts, allowed)] = RULES.index("url.not_allowed")
        return Verdicts.of(
            np.where(rule > 0, DROPPED, KEPT).astype(np.uint8), rule=pa.array(RULES, pa.string()).take(pa.array(rule))
        )


def _listed(given: Sequence[str], files: Sequence[Path]) -> tuple[str, ...]:
    return (*given, *(entry for file in files for entry in _entries(file, file.stat().st_mtime_ns)))


@cache
def _entries(file: Path, modified: int) -> tuple[str, ...]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _is_below(hosts: pa.Array, domains: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Which hosts are one of the domains, or below one."""
    levels = []
    for labels in range(1, MOST_LABELS + 1):
        ends = pc.struct_field(
            pc.extract_regex(hosts, rf"(?:^|\.)(?P<end>[^.]+(?:\.[^.]+){{{labels - 1}}})\.?$"), "end"
        )
        if ends.null_count == len(ends):
            break
        levels.append(ends)
    if not levels:
        return np.zeros(len(hosts), np.bool_)
    # once for all levels: looking up makes a table of the domains, a million of them in a quarter of a second
    found = pc.is_in(pa.concat_arrays(levels), _domain_set(domains))
    of_levels = _true(found).reshape(len(levels), len(hosts))
    return np.logical_or.reduce(of_levels)


@cache
def _word_pattern(words: tuple[str, ...]) -> str:
    any_word = "|".join(re.escape(word.lower()) for word in words)
    return rf"(?:^|[^a-z0-9])(?:{any_word})(?:$|[^a-z0-9])"


@cache
def _domain_set(domains: tuple[str, ...]) -> pa.Array:
    return pa.array(sorted({domain.lower().strip(".") for domain in domains}), pa.string())


def _true(mask: Any) -> npt.NDArray[np.bool_]:
    return pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
