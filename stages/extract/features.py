"""What a block of a page is judged by: itself, its elements, its neighbours, the containers around it and the page.

The names below are columns, in groups one after the other. The model's trees know them by number alone: another order needs
another model (tests/benchmarks/train_extraction.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.stages.extract.blocks import (
    BOLD_CHARS,
    CAPITALS,
    CHARS,
    COMMAS,
    COUNTS,
    DIGITS,
    HAN,
    LINK_CHARS,
    SENTENCES,
    TAG_CLASSES,
    WORDS,
    Blocks,
)
from tokenmill.stages.extract.keywords import CLASS_WORDS, TEXT_WORDS

OWN = COUNTS + 8
(LINK_SHARE, DIGIT_SHARE, CAPITAL_SHARE, BOLD_SHARE, WORD_LENGTH, STOPS_IN_100, REPEATS, DEPTH) = range(COUNTS, OWN)
"""Of the block itself, after its counts. Stops: sentence ends and commas. Repeats: blocks of the page with the same text."""

PAGE = OWN + 9
(
    PAGE_BLOCKS, PAGE_CHARS, PAGE_LINK_SHARE, PAGE_GOOD_CHARS, LONGEST,
    BLOCKS_BEFORE, CHARS_BEFORE, OF_LONGEST, GOOD_CHARS_BEFORE,
) = range(OWN, PAGE)  # fmt: skip
"""Of the page, and where in it the block stands. Good blocks: see `_is_good`."""

LEVELS, LEVEL_FEATURES = 4, 7
CONTAINERS = PAGE + LEVELS * LEVEL_FEATURES
(
    HELD_CHARS, HELD_LINK_SHARE, HELD_BLOCKS, HELD_BLOCK_LENGTH, HELD_GOOD_SHARE, HELD_OF_PAGE, HELD_OF_GOOD,
) = range(LEVEL_FEATURES)  # fmt: skip
"""Of the containers of a block: its own element, and each next one around it that holds more blocks."""

NEIGHBOURS, NEIGHBOUR_FEATURES = 6, 7
BESIDE = CONTAINERS + NEIGHBOURS * NEIGHBOUR_FEATURES
(
    NEAR_CHARS, NEAR_LINK_SHARE, NEAR_STOPS, NEAR_TAG, NEAR_IS_GOOD, NEAR_IS_IN_CONTAINER, NEAR_HAS_CLASSES,
) = range(NEIGHBOUR_FEATURES)  # fmt: skip
"""Of the three blocks before and the three after; -1 characters beyond the page's ends."""

WINDOWS, WINDOW_FEATURES = 3, 4
AROUND = BESIDE + WINDOWS * WINDOW_FEATURES
(WINDOW_LINK_SHARE, WINDOW_GOOD_SHARE, WINDOW_GOOD_CHARS, WINDOW_BLOCK_LENGTH) = range(WINDOW_FEATURES)
"""Of the 4, 16 and 64 blocks to each side."""

FIRST_BIT = AROUND + 10
(
    IS_IN_BEST, FROM_FIRST_BEST, FROM_LAST_BEST, FROM_HEADING, SCORE_OF_FIRST, SCORE_OF_SECOND, FROM_FIRST_GOOD, FROM_LAST_GOOD,
    TAG, IS_BELOW_BEST,
) = range(AROUND, FIRST_BIT)  # fmt: skip
"""Where the block stands to the container with most running text (`_scores`), to the page's heading and to good blocks."""

FLAG_BITS = 21
CLASS_GROUPS, TEXT_GROUPS = len(CLASS_WORDS), len(TEXT_WORDS)
TAG_BITS_FROM, FLAG_BITS_FROM = FIRST_BIT, FIRST_BIT + TAG_CLASSES
NEAR_BITS_FROM = FLAG_BITS_FROM + FLAG_BITS
ABOVE_BITS_FROM = NEAR_BITS_FROM + CLASS_GROUPS
TEXT_BITS_FROM = ABOVE_BITS_FROM + CLASS_GROUPS
FEATURES = TEXT_BITS_FROM + TEXT_GROUPS
"""From `FIRST_BIT` on a column for each tag class, inherited flag, and group of words in class names (near, above) and text."""

(T_CHARS, T_LINK_CHARS, T_BLOCKS, T_GOOD_CHARS) = range(4)
"""Columns of what elements hold in all."""
(S_CHARS, S_LINK_CHARS, S_GOOD_CHARS) = range(3)
"""Columns of running sums over the blocks."""

H1 = 4
"""The class of the page's heading, see `TAG_CLASSES`."""
NO_HEADING = 9999


def features_of(blocks: Blocks) -> npt.NDArray[np.float32]:
    """Features of every block: float32, shape (blocks, FEATURES)."""
    return _features(
        blocks.counts, blocks.node, blocks.tag, blocks.flags, blocks.near, blocks.above, blocks.words, blocks.digest,
        blocks.depth, blocks.parent,
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


@njit(cache=True, nogil=True)
def _is_good(counts: Any) -> Any:
    """Which blocks look like running text: long, few links, and punctuation; a Chinese character counts for three letters."""
    good = np.zeros(len(counts), np.bool_)
    for block in range(len(counts)):
        good[block] = (
            counts[block, CHARS] + 2 * counts[block, HAN] >= 80
            and 3 * counts[block, LINK_CHARS] < counts[block, CHARS]
            and counts[block, SENTENCES] + counts[block, COMMAS] > 0
        )
    return good


@njit(cache=True, nogil=True)
def _totals(counts: Any, good: Any, node: Any, parent: Any) -> tuple[Any, Any]:
    """What each element holds with all below it, float64, (nodes, 4), and the last node of its subtree."""
    nodes = len(parent)
    total = np.zeros((nodes, 4))
    last = np.arange(nodes)
    for block in range(len(node)):
        place = node[block]
        total[place, T_CHARS] += counts[block, CHARS]
        total[place, T_LINK_CHARS] += counts[block, LINK_CHARS]
        total[place, T_BLOCKS] += 1
        total[place, T_GOOD_CHARS] += counts[block, CHARS] if good[block] else 0
    # nodes are numbered in the order of their start tags, so that from the last to the first children come before parents
    # the same order makes a subtree's nodes consecutive: whether it holds a node takes two comparisons with its last
    for place in range(nodes - 1, 0, -1):
        for column in range(4):
            total[parent[place], column] += total[place, column]
        last[parent[place]] = max(last[parent[place]], last[place])
    return total, last


@njit(cache=True, nogil=True)
def _containers(node: Any, parent: Any, total: Any) -> Any:
    """The nodes of each block's containers, int64, (blocks, LEVELS): each ancestor that holds more blocks than the last."""
    chain = np.zeros((len(node), LEVELS), np.int64)
    # wrappers that add nothing are passed over, so that pages with many and with few of them look alike
    for block in range(len(node)):
        place = node[block]
        for level in range(LEVELS):
            chain[block, level] = place
            blocks = total[place, T_BLOCKS]
            # a wrapper that holds no more blocks tells nothing new; the page, node 0, fills the levels that are left
            while place > 0 and total[place, T_BLOCKS] <= blocks:
                place = parent[place]
    return chain


@njit(cache=True, nogil=True)
def _scores(counts: Any, good: Any, chain: Any, nodes: int) -> Any:
    """How much running text each container holds, as in Arc90's Readability: commas and length, halved for each level up."""
    score = np.zeros(nodes)
    # not to the block's own element: a paragraph is no container, and would win with its own text alone
    for block in range(len(good)):
        if not good[block]:
            continue
        points = 1.0 + counts[block, COMMAS] + min(counts[block, CHARS] / 100.0, 3.0)
        weight = 1.0
        # from 1 on: points are for those around a paragraph, not for the paragraph's own element
        for level in range(1, LEVELS):
            if level > 1 and chain[block, level] == chain[block, level - 1]:
                # the chain repeats the page where no level is left, which must not score twice for one block
                break
            score[chain[block, level]] += points * weight
            weight *= 0.5
    return score


@njit(cache=True, nogil=True)
def _best_container(score: Any, total: Any) -> tuple[int, float]:
    """The node of the highest score, less for links, and that score."""
    # below any score, so that a node is chosen although all are 0; of equal ones the outermost, whose number is lower
    best, best_score = 0, -1.0
    for place in range(len(score)):
        points = score[place] * (1.0 - _share(total[place, T_LINK_CHARS], total[place, T_CHARS]))
        if points > best_score:
            best, best_score = place, points
    return best, best_score


@njit(cache=True, nogil=True)
def _repeats(digest: Any) -> Any:
    """How many blocks have the same text as each."""
    # blocks of one text are neighbours once sorted: menus and share buttons repeat, articles do not
    order = np.argsort(digest)
    repeats = np.zeros(len(digest), np.int64)
    at = 0
    while at < len(digest):
        end = at
        while end < len(digest) and digest[order[end]] == digest[order[at]]:
            end += 1
        repeats[order[at:end]] = end - at
        at = end
    return repeats


@njit(cache=True, nogil=True)
def _running_sums(counts: Any, good: Any) -> Any:
    """Over the blocks before each, float64, (blocks + 1, 3): any window's sum is a difference of two."""
    sums = np.zeros((len(good) + 1, 3))
    for block in range(len(good)):
        sums[block + 1, S_CHARS] = sums[block, S_CHARS] + counts[block, CHARS]
        sums[block + 1, S_LINK_CHARS] = sums[block, S_LINK_CHARS] + counts[block, LINK_CHARS]
        sums[block + 1, S_GOOD_CHARS] = sums[block, S_GOOD_CHARS] + (counts[block, CHARS] if good[block] else 0)
    return sums


@njit(cache=True, nogil=True)
def _own_features(out: Any, counts: Any, repeats: Any, depth: Any) -> None:
    for block in range(len(out)):
        for column in range(COUNTS):
            out[block, column] = counts[block, column]
        chars = float(counts[block, CHARS])
        out[block, LINK_SHARE] = _share(counts[block, LINK_CHARS], chars)
        out[block, DIGIT_SHARE] = _share(counts[block, DIGITS], chars)
        out[block, CAPITAL_SHARE] = _share(counts[block, CAPITALS], chars)
        out[block, BOLD_SHARE] = _share(counts[block, BOLD_CHARS], chars)
        out[block, WORD_LENGTH] = _share(chars, counts[block, WORDS])
        out[block, STOPS_IN_100] = _share(100.0 * (counts[block, SENTENCES] + counts[block, COMMAS]), chars)
        out[block, REPEATS] = repeats[block]
        out[block, DEPTH] = depth[block]


@njit(cache=True, nogil=True)
def _page_features(out: Any, counts: Any, total: Any, sums: Any) -> None:
    blocks, longest = len(out), 0
    for block in range(blocks):
        longest = max(longest, counts[block, CHARS])
    # node 0 is the page, so that what it holds are the page's totals
    chars, good_chars = total[0, T_CHARS], total[0, T_GOOD_CHARS]
    for block in range(blocks):
        out[block, PAGE_BLOCKS] = blocks
        out[block, PAGE_CHARS] = chars
        out[block, PAGE_LINK_SHARE] = _share(total[0, T_LINK_CHARS], chars)
        out[block, PAGE_GOOD_CHARS] = good_chars
        out[block, LONGEST] = longest
        out[block, BLOCKS_BEFORE] = _share(block, blocks)
        out[block, CHARS_BEFORE] = _share(sums[block, S_CHARS], chars)
        out[block, OF_LONGEST] = _share(float(counts[block, CHARS]), longest)
        out[block, GOOD_CHARS_BEFORE] = _share(sums[block, S_GOOD_CHARS], good_chars)


@njit(cache=True, nogil=True)
def _container_features(out: Any, chain: Any, total: Any) -> None:
    for block in range(len(out)):
        for level in range(LEVELS):
            column = PAGE + level * LEVEL_FEATURES
            place = chain[block, level]
            chars, good_chars = total[place, T_CHARS], total[place, T_GOOD_CHARS]
            out[block, column + HELD_CHARS] = chars
            out[block, column + HELD_LINK_SHARE] = _share(total[place, T_LINK_CHARS], chars)
            out[block, column + HELD_BLOCKS] = total[place, T_BLOCKS]
            out[block, column + HELD_BLOCK_LENGTH] = _share(chars, total[place, T_BLOCKS])
            out[block, column + HELD_GOOD_SHARE] = _share(good_chars, chars)
            out[block, column + HELD_OF_PAGE] = _share(chars, total[0, T_CHARS])
            out[block, column + HELD_OF_GOOD] = _share(good_chars, total[0, T_GOOD_CHARS])


@njit(cache=True, nogil=True)
def _neighbour_features(out: Any, counts: Any, good: Any, tag: Any, near: Any, chain: Any) -> None:
    for block in range(len(out)):
        for step in range(NEIGHBOURS):
            column = CONTAINERS + step * NEIGHBOUR_FEATURES
            other = block + step - NEIGHBOURS // 2 + (step >= NEIGHBOURS // 2)  # not itself
            if not 0 <= other < len(out):
                # a number that no block has: beyond the page's end differs from an empty neighbour; the other columns
                # stay 0
                out[block, column + NEAR_CHARS] = -1
                continue
            out[block, column + NEAR_CHARS] = counts[other, CHARS]
            out[block, column + NEAR_LINK_SHARE] = _share(counts[other, LINK_CHARS], counts[other, CHARS])
            out[block, column + NEAR_STOPS] = counts[other, SENTENCES] + counts[other, COMMAS]
            out[block, column + NEAR_TAG] = tag[other]
            out[block, column + NEAR_IS_GOOD] = good[other]
            # level 1, as level 0 is the block's own element, which few neighbours share
            out[block, column + NEAR_IS_IN_CONTAINER] = chain[other, 1] == chain[block, 1]
            out[block, column + NEAR_HAS_CLASSES] = near[other] == near[block]


@njit(cache=True, nogil=True)
def _window_features(out: Any, sums: Any) -> None:
    for block in range(len(out)):
        for window in range(WINDOWS):
            column = BESIDE + window * WINDOW_FEATURES
            reach = 4 << 2 * window  # 4, 16, 64
            low, high = max(block - reach, 0), min(block + reach + 1, len(out))
            chars = sums[high, S_CHARS] - sums[low, S_CHARS]
            good_chars = sums[high, S_GOOD_CHARS] - sums[low, S_GOOD_CHARS]
            out[block, column + WINDOW_LINK_SHARE] = _share(sums[high, S_LINK_CHARS] - sums[low, S_LINK_CHARS], chars)
            out[block, column + WINDOW_GOOD_SHARE] = _share(good_chars, chars)
            out[block, column + WINDOW_GOOD_CHARS] = good_chars
            out[block, column + WINDOW_BLOCK_LENGTH] = _share(chars, high - low)


@njit(cache=True, nogil=True)
def _place_features(out: Any, good: Any, node: Any, tag: Any, chain: Any, total: Any, last: Any, score: Any) -> None:
    blocks = len(out)
    best, best_score = _best_container(score, total)
    # where a page has none, all blocks are before the first and after the last
    first_best, last_best, first_heading, last_good, first_good = blocks, -1, -1, -1, blocks
    for block in range(blocks):
        # a subtree's numbers are consecutive, see `_totals`
        if best <= node[block] <= last[best]:
            first_best = min(first_best, block)
            last_best = block
        if tag[block] == H1 and first_heading < 0:
            first_heading = block
        if good[block]:
            last_good = block
            first_good = min(first_good, block)
    for block in range(blocks):
        out[block, IS_IN_BEST] = best <= node[block] <= last[best]
        out[block, FROM_FIRST_BEST] = block - first_best
        out[block, FROM_LAST_BEST] = block - last_best
        out[block, FROM_HEADING] = block - first_heading if first_heading >= 0 else NO_HEADING
        out[block, SCORE_OF_FIRST] = _share(score[chain[block, 1]], best_score)
        out[block, SCORE_OF_SECOND] = _share(score[chain[block, 2]], best_score)
        out[block, FROM_FIRST_GOOD] = block - first_good
        out[block, FROM_LAST_GOOD] = block - last_good
        out[block, TAG] = tag[block]
        out[block, IS_BELOW_BEST] = chain[block, 1] == best


@njit(cache=True, nogil=True)
def _bit_features(out: Any, tag: Any, flags: Any, near: Any, above: Any, words: Any) -> None:
    common = above[0]
    for block in range(len(out)):
        common &= above[block]
    for block in range(len(out)):
        out[block, TAG_BITS_FROM + tag[block]] = 1
        for bit in range(FLAG_BITS):
            out[block, FLAG_BITS_FROM + bit] = flags[block] >> bit & 1
        # class names above every block of a page (its <body>, a wrapper) tell nothing between them
        telling = above[block] & ~common
        for bit in range(CLASS_GROUPS):
            out[block, NEAR_BITS_FROM + bit] = near[block] >> bit & 1
            out[block, ABOVE_BITS_FROM + bit] = telling >> bit & 1
        for bit in range(TEXT_GROUPS):
            out[block, TEXT_BITS_FROM + bit] = words[block] >> bit & 1


@njit(cache=True, nogil=True)
def _features(
    counts: Any,
    node: Any,
    tag: Any,
    flags: Any,
    near: Any,
    above: Any,
    words: Any,
    digest: Any,
    depth: Any,
    parent: Any,
) -> Any:
    out = np.zeros((len(node), FEATURES), np.float32)
    # `_bit_features` reads the first block, which numba does not check for
    if len(node) == 0:
        return out
    good = _is_good(counts)
    total, last = _totals(counts, good, node, parent)
    chain = _containers(node, parent, total)
    score = _scores(counts, good, chain, len(parent))
    sums = _running_sums(counts, good)
    _own_features(out, counts, _repeats(digest), depth)
    _page_features(out, counts, total, sums)
    _container_features(out, chain, total)
    _neighbour_features(out, counts, good, tag, near, chain)
    _window_features(out, sums)
    _place_features(out, good, node, tag, chain, total, last, score)
    _bit_features(out, tag, flags, near, above, words)
    return out
