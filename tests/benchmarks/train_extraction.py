"""Trains the model of the extraction engine `tokenmill`: python -m tests.benchmarks.train_extraction [MODEL.npz]

Pages are split into two halves by site. The model is trained on the first half alone, and scored on the second, which neither
it nor the choice of its settings has seen; to tell how much that depends on the split, the halves also change places.

What a block is, main text or not, comes from the gold: the article's text where there is one (by shared word 4-grams), and
the segments that must and must not be in the main text. Between those segments the gold is silent, and trafilatura's judgement
stands in with little weight. Needs `pip install tokenmill[trafilatura]` and ../shared; takes a minute.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import itertools
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import trafilatura
from numba import njit

from tests.paths import SHARED
from tokenmill.stages.extract.blocks import Blocks, blocks_of
from tokenmill.stages.extract.charset import decode_page
from tokenmill.stages.extract.classifier import MODEL, Model, log_odds
from tokenmill.stages.extract.features import features_of
from tokenmill.stages.extract.stage import tidy
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import read

TREES, DEPTH, RATE, PENALTY, LEAST, BINS = 200, 5, 0.08, 3.0, 3.0, 64
COLUMNS, ROWS = 0.3, 0.7
"""Shares of the features and of the blocks that a tree sees."""
SHIFT = 0.2
"""Log odds that a block must have: of 0, 0.2 and 0.4 the best by cross-validation within the first half."""

Floats = npt.NDArray[np.float64]


class Page(NamedTuple):
    """A page with what it was judged by: `labels`, float64 (blocks,) of 0 and 1, and their `weights`."""

    url: str
    texts: list[str]
    features: npt.NDArray[np.float32]
    labels: Floats
    weights: Floats


def half_of(url: str) -> int:
    """Which half a page is in; pages of one site are in the same."""
    host = urlsplit(url).netloc
    site = url if host in ("", "readability.example") else host
    return int(hashlib.blake2b(site.encode()).hexdigest()[:8], 16) % 2


def gold_pages() -> dict[str, dict[str, Any]]:
    """The gold by URL."""
    with gzip.open(SHARED / "extraction-gold.jsonl.gz") as lines:
        return {row["url"]: row for row in map(json.loads, lines)}


def crawled_pages() -> Iterator[tuple[str, str]]:
    """URL and HTML of each page of the crawl."""
    for path in sorted((SHARED / "crawl").iterdir()):
        with path.open("rb") as file:
            for batch, _ in read(file, path=path.name, options=ReadOptions()):
                for url, page, charset in zip(
                    *(batch[name].to_pylist() for name in ("url", "html", "charset")), strict=True
                ):
                    if page is not None:
                        yield url, decode_page(page, charset)[0]


def score(urls: set[str], texts: dict[str, str]) -> tuple[float, float]:
    """Segment F1 and article F1 by the given scorer."""
    scorer = runpy.run_path(str(SHARED.parent / "score" / "extraction_f1.py"))["score"]
    found = scorer([row for url, row in gold_pages().items() if url in urls], texts)
    return found["segments"]["f1"], found["articles_4gram_f1"]


def squash(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def block_texts(blocks: Blocks) -> list[str]:
    data = bytes(blocks.text)
    bounds = blocks.bounds.tolist()
    return [
        squash(html.unescape(data[begin:end].decode("utf-8", "replace"))) for begin, end in itertools.pairwise(bounds)
    ]


def grams(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return [tuple(words[at : at + 4]) for at in range(len(words) - 3)]


def trafilatura_text(page: str) -> str:
    return trafilatura.extract(page, include_comments=False, include_tables=True) or ""


def in_article(texts: list[str], article: str) -> Floats:
    """Whether blocks are part of an article: by their 4-grams, or where they are short as whole lines."""
    known, whole, lines = set(grams(article)), squash(article), {squash(line) for line in article.split("\n")}
    labels = []
    for text in texts:
        own = grams(text)
        if len(own) >= 3:
            labels.append(sum(gram in known for gram in own) >= 0.6 * len(own))
        else:
            labels.append(text in lines or (len(text) > 12 and text in whole))
    return np.array(labels, np.float64)


def labelled(url: str, page: str, gold: dict[str, Any]) -> Page:
    """A page with labels and weights of its blocks."""
    blocks = blocks_of(page.encode())
    texts = block_texts(blocks)
    sizes = np.array([len(text) for text in texts], np.float64)
    if "with" not in gold:
        article = gold["text"] if "text" in gold else "\n".join(block_texts(blocks_of(gold["html"].encode())))
        return Page(url, texts, features_of(blocks), in_article(texts, article), 0.2 + np.minimum(sizes / 300, 2))
    labels = in_article(texts, trafilatura_text(page))
    weights = 0.15 + np.minimum(sizes / 400, 0.6)
    wanted, unwanted = ([squash(text) for text in gold[name] or [] if text.strip()] for name in ("with", "without"))
    for place, text in enumerate(texts):
        is_wanted, is_unwanted = (
            any(segment in text or (len(text) >= 12 and text in segment) for segment in segments)
            for segments in (wanted, unwanted)
        )
        if is_wanted != is_unwanted:
            labels[place], weights[place] = is_wanted, 4
    return Page(url, texts, features_of(blocks), labels, weights)


@njit(cache=True, nogil=True)
def _grow(bins: Any, rows: Any, columns: Any, gradient: Any, curvature: Any, depth: int) -> Any:
    """One tree by Newton boosting with histograms (Chen and Guestrin, 2016): features, bins, and each block's leaf."""
    splits = 2**depth - 1
    feature, bound = np.full(splits, -1, np.int64), np.zeros(splits, np.int64)
    leaf = np.zeros(len(bins), np.int64)
    for level in range(depth):
        first = 2**level - 1
        sums = np.zeros((2**level, len(columns), BINS, 2))
        for row in rows:
            for place in range(len(columns)):
                held = sums[leaf[row], place, bins[row, columns[place]]]
                held[0] += gradient[row]
                held[1] += curvature[row]
        for node in range(2**level):
            best = 1e-6
            for place in range(len(columns)):
                whole = sums[node, place, :, 0].sum(), sums[node, place, :, 1].sum()
                left = right = 0.0
                for cut in range(BINS - 1):
                    left += sums[node, place, cut, 0]
                    right += sums[node, place, cut, 1]
                    if right < LEAST or whole[1] - right < LEAST:
                        continue
                    gain = left**2 / (right + PENALTY) + (whole[0] - left) ** 2 / (whole[1] - right + PENALTY)
                    gain -= whole[0] ** 2 / (whole[1] + PENALTY)
                    if gain > best:
                        best, feature[first + node], bound[first + node] = gain, columns[place], cut
        for row in range(len(bins)):
            split = first + leaf[row]
            goes_right = feature[split] >= 0 and bins[row, feature[split]] > bound[split]
            leaf[row] = 2 * leaf[row] + goes_right
    return feature, bound, leaf


def train(pages: list[Page]) -> Model:
    """Boosted trees for the blocks of the pages."""
    features = np.concatenate([page.features for page in pages])
    labels, weights = (np.concatenate([getattr(page, name) for page in pages]) for name in ("labels", "weights"))
    edges = [_edges(column) for column in features.T]
    bins = np.stack([np.searchsorted(edge, column) for edge, column in zip(edges, features.T, strict=True)], 1)
    bins = bins.astype(np.uint8)
    chance = np.random.default_rng(0)
    base = float(np.log((weights * labels).sum() / (weights * (1 - labels)).sum()))
    odds, leaves = np.full(len(labels), base), 2**DEPTH
    trees: list[tuple[Any, Any, Any]] = []
    for _ in range(TREES):
        share = 1 / (1 + np.exp(-odds))
        gradient, curvature = weights * (labels - share), weights * share * (1 - share) + 1e-9
        columns = np.sort(chance.choice(features.shape[1], int(COLUMNS * features.shape[1]), replace=False))
        rows = np.flatnonzero(chance.random(len(labels)) < ROWS)
        feature, cut, leaf = _grow(bins, rows, columns, gradient, curvature, DEPTH)
        sums = (np.bincount(leaf[rows], values[rows], leaves) for values in (gradient, curvature))
        value = RATE * next(sums) / (next(sums) + PENALTY)
        odds += value[leaf]
        bounds = [edges[name][place] if name >= 0 else np.inf for name, place in zip(feature, cut, strict=True)]
        trees.append((np.maximum(feature, 0), bounds, value))
    feature, bound, value = (np.stack(part) for part in zip(*trees, strict=True))
    start = np.array([base - SHIFT], np.float32)
    return Model(feature.astype(np.int16), bound.astype(np.float32), value.astype(np.float32), start)


def _edges(column: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    values = np.unique(column)
    if len(values) <= BINS:
        return np.asarray((values[:-1] + values[1:]) / 2, np.float32)
    return np.unique(np.quantile(column, np.arange(1, BINS) / BINS).astype(np.float32))


def report(name: str, model: Model, pages: list[Page]) -> None:
    """Prints the scores of a model on pages."""
    texts = {}
    for page in pages:
        keep = log_odds(page.features, model) > 0
        texts[page.url] = tidy("\n".join(text for text, kept in zip(page.texts, keep, strict=True) if kept))
    segments, articles = score(set(texts), texts)
    print(f"{name}: {len(pages)} pages, segment F1 {segments:.4f}, article F1 {articles:.4f}")


def main() -> None:
    gold = gold_pages()
    halves: tuple[list[Page], list[Page]] = ([], [])
    for url, page in crawled_pages():
        halves[half_of(url)].append(labelled(url, page, gold[url]))
    model = train(halves[0])
    report("trained on the first half, scored on the second", model, halves[1])
    report("trained on the second half, scored on the first", train(halves[1]), halves[0])
    np.savez_compressed(Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL, **model._asdict())


if __name__ == "__main__":
    main()
