"""Blocks of HTML, held against a DOM where the markup is sound and against no rule but safety where it is not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from tokenmill.stages.extract.blocks import BOLD, CHARS, LINK, LINK_CHARS, PRE, WORDS, Blocks, blocks_of
from tokenmill.stages.extract.classifier import load_model, log_odds, main_text
from tokenmill.stages.extract.features import FEATURES, features_of
from tokenmill.stages.extract.keywords import CLASS_WORDS, TEXT_WORDS, automaton


def texts(blocks: Blocks) -> list[str]:
    data = bytes(blocks.text)
    return [data[begin:end].decode() for begin, end in zip(blocks.bounds[:-1], blocks.bounds[1:], strict=True)]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("", []),
        ("plain", ["plain"]),
        ("<p>one<p>two", ["one", "two"]),
        ("<p>a <b>bold</b> word</p> tail", ["a bold word", "tail"]),
        ("<ul><li>one<li>two<ul><li>deep</ul></ul>", ["one", "two", "deep"]),
        ("<p>line<br>break<br><br>next", ["line\nbreak", "next"]),
        ("<pre>  two\n   lines </pre>", ["two\n   lines"]),
        ("a<!-- <p>no --> b<!-->c", ["a bc"]),
        ("x<script>'<p>no</p>'</script>y<style>p{}</style>", ["xy"]),
        ("<title>no</title><textarea>no</textarea><noscript>no</noscript>yes", ["yes"]),
        ('<p title="a > b">text', ["text"]),
        ("1 < 2 <3", ["1 < 2 <3"]),
        ("<svg><text>no</text></svg>yes<svg/>too", ["yestoo"]),
        ("<select><option>no<option>no</select>yes", ["yes"]),
        ("<DIV>Upper</DIV>", ["Upper"]),
        ("<p>a\0b\t\n c", ["a b c"]),
        ("<p>text <a href='x", ["text"]),
        ("水車は、川。", ["水車は、川。"]),
    ],
)
def test_blocks(page: str, expected: list[str]) -> None:
    assert texts(blocks_of(page.encode())) == expected


def test_what_elements_hand_down() -> None:
    page = b"<div class='articleBody'><p>12 <a href=x>345</a></p><pre>p</pre></div><a>none</a>"
    blocks = blocks_of(page)
    assert blocks.counts[:, CHARS].tolist() == [5, 1, 4]
    assert blocks.counts[:, LINK_CHARS].tolist() == [3, 0, 0]
    assert (blocks.flags & (PRE | LINK | BOLD)).tolist() == [0, PRE, 0]
    assert [bool(bits & 1) for bits in blocks.near.tolist()] == [True, True, False]


def test_cells_and_rows() -> None:
    blocks = blocks_of(b"<table><tr><td>a<td>b<tr><td>c<p>d</table>e")
    assert texts(blocks) == list("abcde")
    rows, cells = blocks.row.tolist(), blocks.cell.tolist()
    assert rows[0] == rows[1] != rows[2] == rows[3]
    assert cells[0] != cells[1] != cells[2] == cells[3]
    assert rows[4] == -1


WORDS_OF_TEXT = st.lists(st.sampled_from(["mill", "river", "größe", "水車", "x"]), min_size=1, max_size=5).map(" ".join)
INLINE = st.builds(
    "<{0}>{1}</{0}>".format, st.sampled_from(["b", "em", "span", "code", "a href=x"]), WORDS_OF_TEXT
).map(lambda html: html.replace("</a href=x>", "</a>"))
LEAF = st.lists(WORDS_OF_TEXT | INLINE, max_size=4).map(" ".join)
MARKUP = st.recursive(
    LEAF,
    lambda inner: st.builds(
        "<{0}>{1}</{0}>".format,
        st.sampled_from(["div", "section", "article", "blockquote", "ul", "li", "nav"]),
        st.lists(inner, max_size=3).map("".join),
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(markup=MARKUP)
def test_sound_markup_reads_as_in_a_dom(markup: str) -> None:
    blocks = blocks_of(markup.encode())
    body = HTMLTree.parse(markup).body
    assert body is not None
    dom = body.text or ""
    assert re.sub(r"\s", "", "".join(texts(blocks))) == re.sub(r"\s", "", dom)
    assert blocks.counts[:, CHARS].sum() == len(re.sub(r"\s", "", dom))
    assert blocks.counts[:, WORDS].sum() <= len(dom.split()) + markup.count("<")


TAGS = """<div> </div> <p> <a_href=x> </a> <li> <ul> <td> <tr> <table> </table> <!-- --> <script> </script> < > </ " ' = <b>
</b> <br> <pre> <svg> <svg/> <title> <select> <h1_class='content> © text. &amp; _ \0"""
PIECE = st.sampled_from([tag.replace("_", " ") for tag in re.split("[ \n]", TAGS)])
PIECES = st.lists(PIECE | st.text(max_size=3), max_size=60).map("".join)


@settings(max_examples=200)
@given(page=PIECES)
def test_any_markup_gives_blocks_in_bounds(page: str) -> None:
    blocks = blocks_of(page.encode("utf-8", "replace"))
    assert (np.diff(blocks.bounds) > 0).all()
    assert blocks.bounds[-1] <= len(blocks.text)
    features = features_of(blocks)
    assert features.shape == (len(blocks.node), FEATURES)
    assert np.isfinite(features).all()
    assert np.isfinite(log_odds(features, load_model())).all()
    assert main_text(page.encode("utf-8", "replace")).count("\0") == page.count("&#0;")


def test_more_blocks_than_are_kept_apart_lose_no_text() -> None:
    blocks = blocks_of(b"<p>ab" * 30_000)
    assert blocks.counts[:, CHARS].sum() == 60_000


@pytest.mark.parametrize("groups", [CLASS_WORDS, TEXT_WORDS])
def test_the_automaton_finds_what_a_search_finds(groups: tuple[str, ...]) -> None:
    step, found = automaton(groups)
    assert len(groups) < 63
    for value in ("article-body", "mainContent side_bar", "comments", "read more copyright", "ad", "header", "xx"):
        spelled = re.sub("[^a-z]+", "_", re.sub("(?<=[a-z])(?=[A-Z])", "_", f"_{value}_").lower())
        state, bits = 0, 0
        for letter in spelled:
            state = step[state, 26 if letter == "_" else ord(letter) - 97]
            bits |= int(found[state])
        expected = sum(1 << bit for bit, words in enumerate(groups) if any(word in spelled for word in words.split()))
        assert bits == expected
