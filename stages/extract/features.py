"""What a block of a page is judged by: itself, its elements, its neighbours, the containers around it and the page."""

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
    LINKS,
    SENTENCES,
    TAG_CLASSES,
    WORDS,
    Blocks,
)
from tokenmill.stages.extract.keywords import CLASS_WORDS, TEXT_WORDS

OWN, PAGE, LEVELS, LEVEL_FEATURES, NEIGHBOURS, NEIGHBOUR_FEATURES, WINDOWS = 22, 9, 4, 7, 6, 7, 3
FIRST_BIT = OWN + PAGE + LEVELS * LEVEL_FEATURES + NEIGHBOURS * NEIGHBOUR_FEATURES + WINDOWS * 4 + 10
FLAG_BITS = 21
FEATURES = FIRST_BIT + TAG_CLASSES + FLAG_BITS + 2 * len(CLASS_WORDS) + len(TEXT_WORDS)


def features_of(blocks: Blocks) -> npt.NDArray[np.float32]:
    """Features of every block: float32, shape (blocks, FEATURES)."""
    return _features(
        blocks.counts, blocks.node, blocks.tag, blocks.flags, blocks.near, blocks.above, blocks.words, blocks.digest,
        blocks.depth, blocks.parent, len(CLASS_WORDS), len(TEXT_WORDS),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


@njit(cache=True, nogil=True)
def _features(
    counts: Any, node: Any, tag: Any, flags: Any, near: Any, above: Any, words: Any, digest: Any, depth: Any, parent: Any,
    class_groups: int, text_groups: int,
) -> Any:  # fmt: skip
    n, nodes = len(node), len(parent)
    result = np.zeros((n, FEATURES), np.float32)
    if n == 0:
        return result
    total = np.zeros((nodes, 6))  # characters, in links, blocks, stops, in good blocks, links
    score = np.zeros(nodes)
    last = np.arange(nodes)
    page = np.zeros(6)
    good = np.zeros(n, np.bool_)
    longest = 0
    common = above[0]
    for i in range(n):
        count = counts[i]
        good[i] = (
            count[CHARS] + 2 * count[HAN] >= 80
            and 3 * count[LINK_CHARS] < count[CHARS]
            and count[SENTENCES] + count[COMMAS] > 0
        )
        row = total[node[i]]
        row[0] += count[CHARS]
        row[1] += count[LINK_CHARS]
        row[2] += 1
        row[3] += count[SENTENCES] + count[COMMAS]
        row[4] += count[CHARS] if good[i] else 0
        row[5] += count[LINKS]
        longest = max(longest, count[CHARS])
        common &= above[i]
    for place in range(nodes - 1, 0, -1):
        total[parent[place]] += total[place]
        last[parent[place]] = max(last[parent[place]], last[place])
    page[:] = total[0]
    # the containers of each block: each ancestor that holds more blocks than the one before
    chain = np.zeros((n, LEVELS), np.int64)
    for i in range(n):
        place = node[i]
        for level in range(LEVELS):
            chain[i, level] = place
            held = total[place, 2]
            while place > 0 and total[place, 2] <= held:
                place = parent[place]
    # the container that holds most running text, as in Arc90's Readability: stops and length, halved for each step up
    for i in range(n):
        if good[i]:
            points = 1.0 + counts[i, COMMAS] + min(counts[i, CHARS] / 100.0, 3.0)
            weight = 1.0
            for level in range(1, LEVELS):
                if level > 1 and chain[i, level] == chain[i, level - 1]:
                    break
                score[chain[i, level]] += points * weight
                weight *= 0.5
    best, best_score = 0, -1.0
    for place in range(nodes):
        points = score[place] * (1.0 - _share(total[place, 1], total[place, 0]))
        if points > best_score:
            best, best_score = place, points
    first_best, last_best, first_heading, last_good, first_good = n, -1, -1, -1, n
    for i in range(n):
        if best <= node[i] <= last[best]:
            first_best = min(first_best, i)
            last_best = i
        if tag[i] == 4 and first_heading < 0:
            first_heading = i
        if good[i]:
            last_good = i
            first_good = min(first_good, i)
    order = np.argsort(digest)
    repeats = np.zeros(n, np.int64)
    at = 0
    while at < n:
        end = at
        while end < n and digest[order[end]] == digest[order[at]]:
            end += 1
        repeats[order[at:end]] = end - at
        at = end
    sums = np.zeros((n + 1, 4))
    for i in range(n):
        sums[i + 1, 0] = sums[i, 0] + counts[i, CHARS]
        sums[i + 1, 1] = sums[i, 1] + counts[i, LINK_CHARS]
        sums[i + 1, 2] = sums[i, 2] + (counts[i, CHARS] if good[i] else 0)
        sums[i + 1, 3] = sums[i, 3] + counts[i, SENTENCES] + counts[i, COMMAS]
    for i in range(n):
        out, count = result[i], counts[i]
        chars = float(count[CHARS])
        for place in range(COUNTS):
            out[place] = count[place]
        out[14] = _share(count[LINK_CHARS], chars)
        out[15] = _share(count[DIGITS], chars)
        out[16] = _share(count[CAPITALS], chars)
        out[17] = _share(count[BOLD_CHARS], chars)
        out[18] = _share(chars, count[WORDS])
        out[19] = _share(100.0 * (count[SENTENCES] + count[COMMAS]), chars)
        out[20] = repeats[i]
        out[21] = depth[i]
        f = OWN
        out[f] = n
        out[f + 1] = page[0]
        out[f + 2] = _share(page[1], page[0])
        out[f + 3] = page[4]
        out[f + 4] = longest
        out[f + 5] = _share(i, n)
        out[f + 6] = _share(sums[i, 0], page[0])
        out[f + 7] = _share(chars, longest)
        out[f + 8] = _share(sums[i, 2], page[4])
        f += PAGE
        for level in range(LEVELS):
            row = total[chain[i, level]]
            out[f] = row[0]
            out[f + 1] = _share(row[1], row[0])
            out[f + 2] = row[2]
            out[f + 3] = _share(row[0], row[2])
            out[f + 4] = _share(row[4], row[0])
            out[f + 5] = _share(row[0], page[0])
            out[f + 6] = _share(row[4], page[4])
            f += LEVEL_FEATURES
        for step in range(NEIGHBOURS):
            other = i + step - NEIGHBOURS // 2 + (step >= NEIGHBOURS // 2)
            if 0 <= other < n:
                near_by = counts[other]
                out[f] = near_by[CHARS]
                out[f + 1] = _share(near_by[LINK_CHARS], near_by[CHARS])
                out[f + 2] = near_by[SENTENCES] + near_by[COMMAS]
                out[f + 3] = tag[other]
                out[f + 4] = good[other]
                out[f + 5] = chain[other, 1] == chain[i, 1]
                out[f + 6] = near[other] == near[i]
            else:
                out[f] = -1
            f += NEIGHBOUR_FEATURES
        for window in range(WINDOWS):
            reach = 4 << 2 * window
            low, high = max(i - reach, 0), min(i + reach + 1, n)
            held = sums[high] - sums[low]
            out[f] = _share(held[1], held[0])
            out[f + 1] = _share(held[2], held[0])
            out[f + 2] = held[2]
            out[f + 3] = _share(held[0], high - low)
            f += 4
        out[f] = best <= node[i] <= last[best]
        out[f + 1] = i - first_best
        out[f + 2] = i - last_best
        out[f + 3] = i - first_heading if first_heading >= 0 else 9999
        out[f + 4] = _share(score[chain[i, 1]], best_score)
        out[f + 5] = _share(score[chain[i, 2]], best_score)
        out[f + 6] = i - first_good
        out[f + 7] = i - last_good
        out[f + 8] = tag[i]
        out[f + 9] = chain[i, 1] == best
        f += 10
        out[f + tag[i]] = 1
        f += TAG_CLASSES
        for bit in range(FLAG_BITS):
            out[f + bit] = flags[i] >> bit & 1
        f += FLAG_BITS
        for bit in range(class_groups):
            out[f + bit] = near[i] >> bit & 1
            out[f + class_groups + bit] = (above[i] & ~common) >> bit & 1
        f += 2 * class_groups
        for bit in range(text_groups):
            out[f + bit] = words[i] >> bit & 1
    return result
