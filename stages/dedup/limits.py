"""What bounds the memory of a task of deduplication, whatever the size of the corpus.

* `signatures`, `verdicts`: a batch of documents; 30 bytes a document of the partition;
* `candidates`: about 60 bytes a document whose key lies in its range, `RANGE_DOCUMENTS` on average at most;
* `sets`, `verified`: `SET_BATCH` and `GROUP_SHINGLES` shingles of 4 bytes, `MOST_PAIRS` pairs of about 150 bytes;
* `kept`, the one task that sees the corpus: one byte a document and `MOST_PAIRS` pairs, so 10 billion documents in 10 GB;
* `clusters`: one byte a document, memory-mapped where the store is local, and 100 bytes a dropped document of its group;
* `against`, `matched`: 40 bytes a document of this or a previous run whose key lies in its range; `MOST_PAIRS` pairs.

A band's column is read once for each key range: beyond some billion documents that, not the text, would be most of the work.
"""

RANGE_DOCUMENTS = 16_000_000
"""Documents whose keys of one band one task sorts; with more, the keys are cut into ranges."""

SET_BATCH = 16_000_000
"""Shingles of sets written as one batch."""

GROUP_SHINGLES = 64_000_000
"""Shingles, and 16 a document, of the sets whose candidate pairs one task verifies (or of one partition that has more)."""

MOST_PAIRS = 8_000_000
"""Pairs held at once."""
