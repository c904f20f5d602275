"""datatrove's decontamination filter over given items, without the task list that its indexer loads them from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig, ngrams, simplify_text
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

SIZE = 12
"""Words of its n-grams where nothing else is asked for."""


class AtSpaces(WhitespaceTokenizer):
    """Words are what stands between spaces; datatrove's class of the base's name asks spaCy for them."""

    def word_tokenize(self, text: str) -> list[str]:
        """See the base."""
        return text.split()


def peer_filter(folder: Path, items: Sequence[str], *, splits_at_spaces: bool = False) -> Any:
    """A filter whose index in `folder` has the n-grams of the items, by its own functions.

    `splits_at_spaces`: words are what stands between spaces, numbers and accents stay as they are; otherwise as datatrove does
    by default, with spaCy.
    """
    norm = TextNormConfig(norm_numbers=False, norm_unicode_diacritics=False) if splits_at_spaces else TextNormConfig()
    language = {"language": AtSpaces()} if splits_at_spaces else {}
    hashing = HashConfig(hash_fc="sha1")  # its xxhash takes no strings of the xxhash of today
    config = NGramsDecontConfig(n_grams=SIZE, norm_config=norm, hash_config=hashing)
    peer = NGramsDecontFilter(str(folder), config, **language)
    found: set[int] = set()
    for item in items:
        words = peer.tokenizer.word_tokenize(simplify_text(item, norm))
        found.update(peer.hash_func(" ".join(ngram)) for ngram in ngrams(words, SIZE))
    (folder / "items.index.hashes").write_bytes(np.array(sorted(found), np.uint64).tobytes())
    return peer
