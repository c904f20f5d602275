"""Main text by a learned judgement of every block: boosted trees over its features (`stages.extract.features`).

The model, `extract_model.npz`, is made by tests/benchmarks/train_extraction.py.
"""

from __future__ import annotations

import html as entities
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.stages.extract.blocks import PRE, Blocks, blocks_of
from tokenmill.stages.extract.features import features_of

MODEL = Path(__file__).with_name("extract_model.npz")
UNLIKELY = -2.0
"""Log odds below which a block is never main text, not even as the only one: pages of a sentence or two have little context, so
that theirs may lie somewhat below 0."""
_LIST_ITEM = 3
"""The class of <li>, see `TAG_CLASSES`."""
_TAB, _LINE_FEED, _SPACE = b"\t\n "
SPLITS = 31
"""Splits of a tree: five levels."""
DECIDED, TREES_BETWEEN = 2.0, 25
"""Blocks whose log odds lie beyond `DECIDED` after each `TREES_BETWEEN` trees go through no further trees: a third of the time,
and the same scores on ../shared/data (segment F1 0.912, article F1 0.930 on the half that the model has not seen)."""


class Model(NamedTuple):
    """Boosted trees of five levels. `feature`: int16 (trees, splits); `bound`: float32 alike, right if above, infinite where a
    node does not split; `leaf`: float32 (trees, splits + 1), log odds; `base`: float32 (1,), log odds to begin with."""

    feature: npt.NDArray[np.int16]
    bound: npt.NDArray[np.float32]
    leaf: npt.NDArray[np.float32]
    base: npt.NDArray[np.float32]


@cache
def load_model(path: Path = MODEL) -> Model:
    """The model of a file, read once a process."""
    with np.load(path) as arrays:
        model = Model(**{name: arrays[name] for name in Model._fields})
    if model.feature.shape[1] != SPLITS:
        raise ValueError(f"{path} has trees of {model.feature.shape[1]} splits, not {SPLITS}")
    return model


def main_text(page: bytes) -> str:
    """The text of those blocks of a page in UTF-8 that are more likely main text than not.

    Where there is none, the text of the likeliest ones (within 1 of the best) if they are not `UNLIKELY`. Between blocks there
    is an empty line, between list items and table rows a line break, between cells a tab.
    """
    blocks = blocks_of(page)
    odds = log_odds(features_of(blocks), load_model())
    best = odds.max(initial=UNLIKELY)
    text = _join(blocks, odds > (0.0 if best > 0 else max(best - 1.0, UNLIKELY))).decode("utf-8", "replace")
    return entities.unescape(text)


def log_odds(features: npt.NDArray[np.float32], model: Model) -> npt.NDArray[np.float32]:
    """Log odds that a block is main text: float32, shape (blocks,), rough where they are far from 0 (see `DECIDED`)."""
    return _odds(features, *model)


def _join(blocks: Blocks, keep: npt.NDArray[np.bool_]) -> bytes:
    return bytes(
        _joined(blocks.text, blocks.bounds, keep, blocks.row, blocks.cell, blocks.tag == _LIST_ITEM, blocks.flags & PRE)
    )


@njit(cache=True, nogil=True)
def _below(row: Any, at: Any, feature: Any, bound: Any) -> Any:
    """The node below one, left or right."""
    return at + at + np.uintp(1) + np.uintp(row[np.uintp(feature[at])] > bound[at])


@njit(cache=True, nogil=True)
def _odds(features: Any, feature: Any, bound: Any, leaf: Any, base: Any) -> Any:
    trees, splits = feature.shape
    result = np.full(len(features), base[0])
    undecided = np.arange(len(features))
    for tree in range(trees):
        features_at, bounds_at, leaves = feature[tree], bound[tree], leaf[tree]
        for place in range(len(undecided)):
            block = undecided[place]
            row = features[block]
            # five levels without a loop: twice as fast, as the processor then walks several blocks' paths at once
            at = _below(row, np.uintp(0), features_at, bounds_at)
            at = _below(row, at, features_at, bounds_at)
            at = _below(row, at, features_at, bounds_at)
            at = _below(row, at, features_at, bounds_at)
            at = _below(row, at, features_at, bounds_at)
            result[block] += leaves[at - np.uintp(splits)]
        if tree % TREES_BETWEEN == TREES_BETWEEN - 1:
            undecided = undecided[np.abs(result[undecided]) < DECIDED]
    return result


@njit(cache=True, nogil=True)
def _joined(text: Any, bounds: Any, keep: Any, row: Any, cell: Any, is_item: Any, is_pre: Any) -> Any:
    result = np.empty(len(text) + 2 * len(keep), np.uint8)
    filled, last = 0, -1
    for block in range(len(keep)):
        if not keep[block]:
            continue
        if last >= 0:
            is_next_row = row[block] >= 0 and row[last] >= 0
            if is_next_row and row[block] == row[last]:
                result[filled] = _SPACE if cell[block] == cell[last] else _TAB
            else:
                result[filled] = _LINE_FEED
                if not (is_next_row or (is_item[block] and is_item[last]) or (is_pre[block] and is_pre[last])):
                    filled += 1
                    result[filled] = _LINE_FEED
            filled += 1
        begin, end = bounds[block], bounds[block + 1]
        result[filled : filled + end - begin] = text[begin:end]
        filled += end - begin
        last = block
    return result[:filled]
