"""HTML into blocks of text with what can be measured of each, in one pass over the bytes and without a tree.

A block is the text between two block-level tags (or two line breaks in a row). Elements nest in a stack of bounded depth, so
that time is linear in the page whatever it holds; elements deeper than that count as text of the one above.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.stages.extract.keywords import CLASS_WORDS, TEXT_WORDS, automaton
from tokenmill.stages.text.utf8 import eight_bytes

MAX_DEPTH = 512
"""Elements open at a time, as in browsers."""
MAX_BLOCKS = 20_000
"""Blocks of a page; what follows is joined to the last."""
MAX_NODES = 100_000
SEARCHED = 64
"""Open elements that a tag is held against to find which it closes: keeps time linear in the page."""

VOID, BREAKS, RAW, SKIPPED = 1, 2, 4, 8
"""Kinds of elements: without content; block-level; whose content is no markup; whose content is no text of the page."""

_KINDS = {
    VOID: "area base col embed img input link meta param source track wbr",
    VOID | BREAKS: "hr",
    RAW | SKIPPED: "script style textarea iframe noembed noframes xmp title",
    SKIPPED: "noscript template svg select datalist object canvas audio video map math",
    0: "a b strong em i code span font button label sup sub small u abbr cite time q mark kbd samp var del ins",
    BREAKS: "html body div p ul ol li dl dt dd table thead tbody tfoot tr td th h1 h2 h3 h4 h5 h6 article section main nav"
    " header footer aside form fieldset legend figure figcaption blockquote pre address center details summary hgroup dialog"
    " menu dir caption",
}
LINK, BOLD, PRE, NOT_TEXT, IN_TABLE, HIDDEN = 1, 2, 4, 8, 1024, 1 << 20
"""Bits that elements hand down to all that they hold; more of them in `_INHERITED`."""
_INHERITED = (
    ("a", LINK), ("b strong", BOLD), ("pre", PRE), ("nav menu", 16), ("header hgroup", 32), ("footer", 64), ("aside", 128),
    ("form fieldset", 256), ("ul ol dir", 512), ("table", IN_TABLE), ("article", 2048), ("main", 4096), ("section", 8192),
    ("figure figcaption", 16384), ("button label", 32768), ("blockquote", 65536), ("dl", 131072), ("address", 1 << 18),
    ("details dialog", 1 << 19),
)  # fmt: skip

_CLASSES = "div p li h1 h2 h3 h4 td th blockquote pre dt dd figcaption a span tr article section ul center"
TAG_CLASSES = len(_CLASSES.split()) + 1
"""Number of classes of a block's own element; 0 is any other."""

(CHARS, WORDS, LINK_CHARS, LINKS, SENTENCES, COMMAS, DIGITS, CAPITALS, BOLD_CHARS, LINES, ENDS, BEGINS, HAN, IMAGES) = (
    range(14)
)
COUNTS = 14
"""Counts of a block: characters (of all; in links; in bold), words, links, sentence ends, commas, digits, capitals, line
breaks, whether it ends a sentence and begins with a capital, characters of 3 bytes and more, images before it."""


class Blocks(NamedTuple):
    """Blocks of a page, in order. `text`: their bytes, uint8, white space collapsed, entities as written. `bounds`: int64
    (n + 1,) into it. `counts`: int64 (n, COUNTS). `node`: the block-level element that holds each. `tag`: its class. `flags`:
    inherited bits. `near`, `above`: word groups in the class names of the nearest elements and of all above. `words`: word
    groups in the text. `row`, `cell`: of tables, running numbers, row -1 outside of them. `digest`: hash of the text. `depth`:
    open elements. `parent`, by node: the node above. All int64 (n,) but the last, (nodes,)."""

    text: npt.NDArray[np.uint8]
    bounds: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    node: npt.NDArray[np.int64]
    tag: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]
    near: npt.NDArray[np.int64]
    above: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int64]
    digest: npt.NDArray[np.int64]
    depth: npt.NDArray[np.int64]
    parent: npt.NDArray[np.int64]


def _code(name: str) -> int:
    return int.from_bytes(name.encode()[:7].ljust(7, b"\0"), "big")


@cache
def _tags() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sorted codes of the known names (their first 7 characters), and by place their kind, region bits and class."""
    kinds = {_code(name): kind for kind, names in _KINDS.items() for name in names.split()}
    inherited = {_code(name): bit for names, bit in _INHERITED for name in names.split()}
    classes = {_code(name): place + 1 for place, name in enumerate(_CLASSES.split())}
    kinds[_code("br")] = VOID
    codes = sorted(kinds)
    return (
        np.array(codes, np.int64),
        np.array([kinds[code] for code in codes], np.int64),
        np.array([inherited.get(code, 0) for code in codes], np.int64),
        np.array([classes.get(code, 0) for code in codes], np.int64),
    )


_A, _BR, _P, _LI, _TR, _TD, _TH, _DT, _DD = (
    _code(name) for name in ["a", "br", "p", "li", "tr", "td", "th", "dt", "dd"]
)
_TABLE, _UL, _OL, _DL, _IMG = (_code(name) for name in ["table", "ul", "ol", "dl", "img"])
_CLASS, _ID, _ROLE, _ITEMPROP, _HREF, _STYLE, _HIDDEN_ATTRIBUTE = (
    _code(name) for name in ["class", "id", "role", "itemprop", "href", "style", "hidden"]
)


def blocks_of(page: bytes) -> Blocks:
    """The blocks of a page in UTF-8."""
    data = np.frombuffer(page + b"\0" * 16, np.uint8)
    return Blocks(*_scan(data, len(page), *_tags(), *automaton(CLASS_WORDS), *automaton(TEXT_WORDS)))


@njit(cache=True, nogil=True)
def _name(data: Any, at: int) -> tuple[int, int]:
    """Code of the name that begins at a byte, and where it ends."""
    code = 0
    taken = 0
    while True:
        byte = int(data[at])
        if 65 <= byte <= 90:
            byte += 32
        if not (97 <= byte <= 122 or 48 <= byte <= 57 or byte == 45 or byte == 58 or byte == 95):
            break
        if taken < 7:
            code = code << 8 | byte
            taken += 1
        at += 1
    return code << 8 * (7 - taken), at


@njit(cache=True, nogil=True)
def _find(data: Any, at: int, size: int, byte: int) -> int:
    """Where a byte is found from a place on; the size where it is not. Eight bytes are looked at at once."""
    every = np.uint64(0x0101010101010101)
    wanted = every * np.uint64(byte)
    while at + 8 <= size:
        differing = eight_bytes(data, at) ^ wanted
        found = (differing - every) & ~differing & (every * np.uint64(0x80))
        if found != 0:
            break
        at += 8
    while at < size and data[at] != byte:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _class_words(data: Any, begin: int, end: int, step: Any, found: Any) -> int:
    """Bits of the word groups found in an attribute's value."""
    state, bits, last = int(step[0, 26]), 0, 26
    was_lower = False
    for at in range(begin, end + 1):
        byte = int(data[at]) if at < end else 32
        is_upper = 65 <= byte <= 90
        if is_upper:
            if was_lower:
                state = step[state, 26]
                bits |= found[state]
            byte += 32
        symbol = byte - 97 if 97 <= byte <= 122 else 26
        if symbol != 26 or last != 26:
            state = step[state, symbol]
            bits |= found[state]
        last = symbol
        was_lower = symbol != 26 and not is_upper
    return bits


@njit(cache=True, nogil=True)
def _attributes(data: Any, at: int, size: int, step: Any, found: Any) -> tuple[int, int, bool, bool, bool]:
    """Where the tag ends, words in class names, whether it has an href, is hidden, closes itself."""
    bits = 0
    has_href = is_hidden = closes = False
    while at < size and data[at] != 62:
        byte = data[at]
        if byte <= 32 or byte == 47 or byte == 61 or byte == 34 or byte == 39:
            closes = byte == 47
            at += 1
            continue
        closes = False
        name, after = _name(data, at)
        at = after if after > at else at + 1
        while at < size and data[at] > 32 and data[at] != 61 and data[at] != 62 and data[at] != 47:
            at += 1
        value = at
        while value < size and data[value] <= 32:
            value += 1
        if data[value] != 61:
            is_hidden |= name == _HIDDEN_ATTRIBUTE
            continue
        value += 1
        while value < size and data[value] <= 32:
            value += 1
        quote = data[value]
        if quote == 34 or quote == 39:
            value += 1
            at = _find(data, value, size, quote)
        else:
            at = value
            while at < size and data[at] > 32 and data[at] != 62:
                at += 1
        if name in (_CLASS, _ID, _ROLE, _ITEMPROP, _STYLE):
            bits |= _class_words(data, value, at, step, found)
        has_href |= name == _HREF
        is_hidden |= name == _HIDDEN_ATTRIBUTE
        if quote == 34 or quote == 39:
            at += 1
    return min(at + 1, size), bits, has_href, is_hidden, closes


@njit(cache=True, nogil=True)
def _raw_end(data: Any, at: int, size: int, code: int) -> tuple[int, int]:
    """Where the content of an element without markup ends, and where what follows its end tag begins."""
    while True:
        at = _find(data, at, size, 60)
        if at == size:
            return size, size
        if data[at + 1] == 47:
            name, after = _name(data, at + 2)
            if name == code:
                return at, min(_find(data, after, size, 62) + 1, size)
        at += 1


@njit(cache=True, nogil=True)
def _scan(
    data: Any, size: int, codes: Any, kinds: Any, regions: Any, classes: Any,
    class_step: Any, class_found: Any, text_step: Any, text_found: Any,
) -> Any:  # fmt: skip
    tags = 2
    for at in range(size):
        tags += data[at] == 60
    room = min(tags, MAX_BLOCKS)
    nodes_room = min(tags, MAX_NODES)
    text = np.empty(size + tags, np.uint8)
    bounds = np.zeros(room + 1, np.int64)
    counts = np.zeros((room, COUNTS), np.int64)
    facts = np.zeros((room, 10), np.int64)
    parent = np.zeros(nodes_room, np.int64)
    stack = np.zeros((MAX_DEPTH, 6), np.int64)  # code, flags, words, words above, node, kind
    depth, nodes, blocks, filled, images = 1, 1, 0, 0, 0
    stack[0, 5] = BREAKS
    row, cell = 0, 0
    state, last, words = 26, 26, 0
    in_space, breaks, digest = True, 0, 0
    last_byte = 0
    at = 0
    while at <= size:
        ends_block = at == size
        byte = int(data[at]) if at < size else 0
        flags = stack[depth - 1, 1]
        pops_to = depth
        pushes = False
        code, kind, region, words_here = 0, 0, 0, 0
        following = at + 1
        is_text = byte != 60
        if at == size:
            is_text = False
        elif byte == 60:
            after = data[at + 1]
            if after == 33 or after == 63:
                following = at + 2
                if data[at + 2] == 45 and data[at + 3] == 45:
                    following = at + 4
                    following = _find(data, following, size, 62)
                    while following < size and not (data[following - 1] == 45 and data[following - 2] == 45):
                        following = _find(data, following + 1, size, 62)
                else:
                    following = _find(data, following, size, 62)
                following += 1
            elif after == 47:
                code, following = _name(data, at + 2)
                following = _find(data, following, size, 62) + 1
                place = np.searchsorted(codes, code)
                if place < len(codes) and codes[place] == code:
                    kind = kinds[place]
                    ends_block = (kind & BREAKS) != 0
                    level = depth - 1
                    lowest = max(depth - SEARCHED, 0)
                    while level > lowest and stack[level, 0] != code:
                        if (
                            not kind & BREAKS
                            and stack[level, 5] & BREAKS
                            and stack[level, 0] in (_TD, _TH, _TABLE, _LI)
                        ):
                            level = lowest
                            break
                        level -= 1
                    if level > lowest:
                        pops_to = level
            elif 65 <= after <= 90 or 97 <= after <= 122:
                code, following = _name(data, at + 1)
                following, words_here, has_href, is_hidden, closes = _attributes(
                    data, following, size, class_step, class_found
                )
                place = np.searchsorted(codes, code)
                if place < len(codes) and codes[place] == code:
                    kind, region = kinds[place], regions[place]
                    ends_block = (kind & BREAKS) != 0
                    if code == _A and not has_href:
                        region = 0
                    if is_hidden:
                        region |= HIDDEN
                    if kind & RAW:
                        _, following = _raw_end(data, following, size, code)
                    elif kind & VOID:
                        images += code == _IMG
                        if code == _BR and not flags & NOT_TEXT:
                            breaks += 1
                            if breaks > 1 and not flags & PRE:
                                ends_block = True
                            elif counts[blocks, CHARS] > 0:
                                while filled > bounds[blocks] and text[filled - 1] == 32:
                                    filled -= 1
                                text[filled] = 10
                                filled += 1
                                counts[blocks, LINES] += 1
                                in_space = True
                    elif not (closes and kind & SKIPPED):
                        pushes = True
                        if kind & SKIPPED:
                            region |= NOT_TEXT
                        if kind & BREAKS or code == _A:  # end tags that HTML lets authors leave out
                            level = depth - 1
                            while level > max(depth - SEARCHED, 0):
                                opened = stack[level, 0]
                                if opened == code and (code in (_LI, _TR, _TD, _TH, _DT, _DD, _A, _P)):
                                    pops_to = level
                                    break
                                if (
                                    (code == _TD and opened == _TH)
                                    or (code == _TH and opened == _TD)
                                    or (code == _DT and opened == _DD)
                                    or (code == _DD and opened == _DT)
                                ):
                                    pops_to = level
                                    break
                                if code == _TR and (opened in (_TD, _TH)):
                                    pops_to = level
                                elif opened == _P and code != _A:
                                    pops_to = level
                                    break
                                elif opened in (_TABLE, _UL, _OL, _DL) or (
                                    stack[level, 5] & BREAKS and code not in (_LI, _DT, _DD)
                                ):
                                    break
                                level -= 1
            else:
                is_text = True
        if is_text and not flags & NOT_TEXT:
            if byte <= 32:
                if flags & PRE and (byte == 10 or byte == 32 or byte == 9) and filled > bounds[blocks]:
                    text[filled] = byte
                    filled += 1
                elif not in_space:
                    text[filled] = 32
                    filled += 1
                in_space = True
                if last != 26:
                    state = text_step[state, 26]
                    words |= text_found[state]
                    last = 26
            else:
                count = counts[blocks]
                if in_space:
                    count[WORDS] += 1
                if count[CHARS] == 0:
                    state, last = int(text_step[0, 26]), 26
                    count[BEGINS] = 65 <= byte <= 90 or byte >= 128
                    count[IMAGES] = images
                    facts[blocks, 0] = stack[depth - 1, 4]
                    facts[blocks, 2] = flags
                    facts[blocks, 4] = stack[depth - 1, 3] | stack[depth - 1, 2]
                    near, level, seen = 0, depth - 1, 0
                    tag = 0
                    while level > 0 and seen < 3:
                        near |= stack[level, 2]
                        if stack[level, 5] & BREAKS:
                            if seen == 0:
                                place = np.searchsorted(codes, stack[level, 0])
                                tag = classes[place]
                            seen += 1
                        level -= 1
                    facts[blocks, 1] = tag
                    facts[blocks, 3] = near
                    facts[blocks, 6] = row if flags & IN_TABLE else -1
                    facts[blocks, 7] = cell
                    facts[blocks, 9] = depth
                    images = 0
                in_space = False
                breaks = 0
                text[filled] = byte
                filled += 1
                digest = ((digest ^ byte) * 1099511628211) & 0x7FFFFFFFFFFFFFF
                symbol = 26
                if 97 <= byte <= 122:
                    symbol = byte - 97
                elif 65 <= byte <= 90:
                    symbol = byte - 65
                    count[CAPITALS] += 1
                elif 48 <= byte <= 57:
                    count[DIGITS] += 1
                elif byte == 46 or byte == 33 or byte == 63:
                    count[SENTENCES] += 1
                elif byte == 44 or byte == 59:
                    count[COMMAS] += 1
                elif byte >= 0xE3 and byte < 0xF0:
                    count[HAN] += 1
                    if byte == 0xE3 and data[at + 1] == 0x80:
                        count[SENTENCES] += data[at + 2] == 0x82
                        count[COMMAS] += data[at + 2] == 0x81
                    elif byte == 0xEF and data[at + 1] == 0xBC:
                        count[COMMAS] += data[at + 2] == 0x8C
                elif byte == 0xC2 and data[at + 1] == 0xA9:
                    words |= 1
                if symbol != 26 or last != 26:
                    state = text_step[state, symbol]
                    words |= text_found[state]
                last = symbol
                chars = int(byte & 0xC0 != 0x80)
                while 97 <= data[at + 1] <= 122:  # lower-case letters, of which most text is, go on here
                    at += 1
                    chars += 1
                    byte = int(data[at])
                    text[filled] = byte
                    filled += 1
                    digest = ((digest ^ byte) * 1099511628211) & 0x7FFFFFFFFFFFFFF
                    last = byte - 97
                    state = text_step[np.uintp(state), np.uintp(last)]
                    words |= text_found[np.uintp(state)]
                last_byte = byte
                count[CHARS] += chars
                if flags & LINK:
                    count[LINK_CHARS] += chars
                if flags & BOLD:
                    count[BOLD_CHARS] += chars
        if ends_block:
            if counts[blocks, CHARS] > 0 and (blocks < room - 1 or at == size):
                while filled > bounds[blocks] and text[filled - 1] <= 32:
                    filled -= 1
                if last != 26:
                    words |= text_found[text_step[state, 26]]
                counts[blocks, ENDS] = last_byte in (46, 33, 63, 34, 58) or last_byte >= 128
                facts[blocks, 5] = words
                facts[blocks, 8] = digest
                blocks += 1
                bounds[blocks] = filled
                if blocks == room:
                    break
            elif counts[blocks, CHARS] == 0:
                filled = bounds[blocks]
            words, digest, in_space, breaks, last = 0, 0, True, 0, 26
            state = int(text_step[0, 26])
        depth = pops_to
        if pushes and depth < MAX_DEPTH:
            above = stack[depth - 1]
            node = above[4]
            if kind & BREAKS and nodes < nodes_room:
                parent[nodes] = node
                node = nodes
                nodes += 1
            stack[depth, 0] = code
            stack[depth, 1] = above[1] | region
            stack[depth, 2] = words_here
            stack[depth, 3] = above[3] | above[2]
            stack[depth, 4] = node
            stack[depth, 5] = kind
            depth += 1
            if region & LINK and counts[blocks, CHARS] >= 0:
                counts[blocks, LINKS] += 1
            row += code == _TR
            cell += code in (_TD, _TH)
        at = following if not is_text else at + 1
        if at > size:
            break
        if following >= size and not is_text and at != size:
            at = size
    return (
        text[:filled], bounds[: blocks + 1], counts[:blocks], facts[:blocks, 0], facts[:blocks, 1], facts[:blocks, 2],
        facts[:blocks, 3], facts[:blocks, 4], facts[:blocks, 5], facts[:blocks, 6], facts[:blocks, 7], facts[:blocks, 8],
        facts[:blocks, 9], parent[:nodes],
    )  # fmt: skip
