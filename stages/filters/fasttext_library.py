"""fastText models through the fastText library, one text a call: for those that `fasttext_model` does not support."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pyarrow as pa

from tokenmill.stages.filters.fasttext_model import LABEL


def predictions(text: pa.Array, path: str, count: int) -> Iterator[list[tuple[str, float]]]:
    """For each text its most probable labels, without their prefix, and their probabilities, at most 1, the first one first.

    `count`: most labels of a text; -1: all. A text of nothing but white space has none. Raises ValueError for a file that the
    library cannot read.
    """
    classifier = _model(path)
    for document in text.to_pylist():
        line = " ".join((document or "").replace("\0", " ").split())
        names, chances = classifier.predict(line, k=count) if line else ((), ())
        yield [(name.removeprefix(LABEL), min(float(chance), 1.0)) for name, chance in zip(names, chances, strict=True)]


@cache
def _model(path: str) -> Any:
    import fasttext

    return fasttext.load_model(path)
