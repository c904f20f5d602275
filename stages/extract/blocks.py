"""HTML into blocks of text with what can be measured of each, in one pass over the bytes and without a tree.

A block is the text between two block-level tags (or two line breaks in a row). Elements nest in a stack of bounded depth, so
that time is linear in the page whatever it holds; elements deeper than that count as text of the one above.
"""

from __future__ import annotations

import string
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.stages.extract.keywords import CLASS_WORDS, OTHER, TEXT_WORDS, automaton
from tokenmill.stages.text.hash_table import FNV_PRIME
from tokenmill.stages.text.swar import find_byte

MAX_DEPTH = 512
"""Elements open at a time, as in browsers."""
MAX_BLOCKS = 20_000
"""Blocks of a page; what follows is joined to the last."""
MAX_NODES = 100_000
SEARCHED = 64
"""Open elements that a tag is compared with to find which it closes: keeps time linear in the page."""

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

(CHARS, WORDS, LINK_CHARS, LINKS, SENTENCES, COMMAS, DIGITS, CAPITALS, BOLD_CHARS, LINES, ENDS, STARTS, HAN, IMAGES) = (
    range(14)
)
COUNTS = 14
"""Counts of a block: characters (of all; in links; in bold), words, links, sentence ends, commas, digits, capitals, line
breaks, whether it ends a sentence and starts with a capital, characters of 3 bytes and more, images before it."""


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


(NODE_OF, TAG_OF, FLAGS_OF, NEAR, ABOVE, WORD_GROUPS, ROW, CELL, DIGEST, DEPTH) = range(10)
FACTS = 10
"""Columns of what is known of a block beside its counts, in the order of the fields of `Blocks`."""

(CODE, FLAGS, OWN_WORDS, WORDS_ABOVE, NODE, KIND) = range(6)
STACK_COLUMNS = 6
"""Columns of the stack of open elements: the name's code; inherited bits; word groups in its class names, and in those of all
elements above it; the nearest block-level element's number; kind."""


class Markup(NamedTuple):
    """What stands between < and >, read by a kernel. `end`: the byte after it. `form`: one of `DECLARATION`, `END_TAG`,
    `START_TAG`, `EMPTY_TAG` (closed by its own slash); tags of unknown elements are declarations, which say nothing. `code`,
    `kind`, `region`: of the element. `words`: word groups in its class names."""

    end: int
    form: int
    code: int
    kind: int
    region: int
    words: int


DECLARATION, END_TAG, START_TAG, EMPTY_TAG = range(4)


def _code(name: str) -> int:
    return int.from_bytes(name.encode()[:7].ljust(7, b"\0"), "big")


_KIND = {_code(name): kind for kind, names in _KINDS.items() for name in names.split()} | {_code("br"): VOID}
_REGION = {_code(name): bit for names, bit in _INHERITED for name in names.split()}
_CLASS = {_code(name): place + 1 for place, name in enumerate(_CLASSES.split())}
TAG_CODES = np.array(sorted(_KIND), np.int64)
TAG_KINDS = np.array([_KIND[code] for code in sorted(_KIND)], np.int64)
TAG_REGIONS = np.array([_REGION.get(code, 0) for code in sorted(_KIND)], np.int64)
TAG_CLASS = np.array([_CLASS.get(code, 0) for code in sorted(_KIND)], np.int64)
"""The known elements by the first 7 characters of their names, ascending; their kinds, inherited bits, and classes as a block's
own element. Arrays of a module are constants to numba, for which it counts no references."""

_A, _BR, _P, _LI, _TR, _TD, _TH, _DT, _DD = (
    _code(name) for name in ["a", "br", "p", "li", "tr", "td", "th", "dt", "dd"]
)
_TABLE, _UL, _OL, _DL, _IMG = (_code(name) for name in ["table", "ul", "ol", "dl", "img"])
_CLASS_ATTRIBUTE, _ID, _ROLE, _ITEMPROP, _HREF, _STYLE, _HIDDEN_ATTRIBUTE = (
    _code(name) for name in ["class", "id", "role", "itemprop", "href", "style", "hidden"]
)
_TAB, _LINE_FEED, _SPACE, _QUOTE, _APOSTROPHE, _SLASH, _LESS, _EQUALS, _GREATER = b"\t\n \"'/<=>"
_EXCLAMATION, _QUESTION, _HYPHEN, _DOT, _COMMA, _COLON, _SEMICOLON, _UNDERSCORE = b"!?-.,:;_"

DIGEST_BITS = 0x7FFFFFFFFFFFFFF
"""Of the FNV-1a hash of a block's text, cut so that it stays positive in an int64."""


UNCOUNTED = COUNTS
"""A column more while a page is scanned: for characters of no class, so that counting them takes no branch."""


def _columns() -> npt.NDArray[np.uint8]:
    columns = np.full(256, UNCOUNTED, np.uint8)
    columns[list(string.ascii_uppercase.encode())] = CAPITALS
    columns[list(b"0123456789")] = DIGITS
    columns[list(b".!?")] = SENTENCES
    columns[list(b",;")] = COMMAS
    # first bytes of U+3000 to U+FFFF: Chinese, Japanese and Korean for the most part
    columns[0xE3:0xF0] = HAN
    return columns


def _symbols() -> npt.NDArray[np.uint8]:
    symbols = np.full(256, OTHER, np.uint8)
    symbols[list(string.ascii_lowercase.encode())] = symbols[list(string.ascii_uppercase.encode())] = range(26)
    return symbols


COLUMN_OF, SYMBOL_OF = _columns(), _symbols()
"""Of each byte the count that it goes into, and its symbol for the words' automaton."""
_FULL_STOP, _IDEOGRAPHIC_COMMA, _FULLWIDTH_COMMA = 0xE38082, 0xE38081, 0xEFBC8C
"""U+3002, U+3001 and U+FF0C, of Chinese and Japanese, in UTF-8."""
_COPYRIGHT_SIGN = 0xC2A9


def blocks_of(page: bytes) -> Blocks:
    """The blocks of a page in UTF-8."""
    data = np.frombuffer(page + b"\0" * 16, np.uint8)  # so that kernels may look ahead of any byte
    text, bounds, counts, facts, parent = _scan(data, len(page), *automaton(CLASS_WORDS), *automaton(TEXT_WORDS))
    return Blocks._make([text, bounds, counts, *facts.T, parent])


@njit(cache=True, nogil=True, inline="always")
def _is_upper(byte: int) -> bool:
    return 65 <= byte <= 90


@njit(cache=True, nogil=True, inline="always")
def _is_lower(byte: int) -> bool:
    return 97 <= byte <= 122


@njit(cache=True, nogil=True, inline="always")
def _is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


@njit(cache=True, nogil=True)
def _name(data: Any, at: int) -> tuple[int, int]:
    """Code of the name that starts at a byte, and where it ends."""
    code = 0
    taken = 0
    while True:
        byte = int(data[at])
        if _is_upper(byte):
            byte += 32
        if not (_is_lower(byte) or _is_digit(byte) or byte in (_HYPHEN, _COLON, _UNDERSCORE)):
            break
        # seven characters fit in a positive int64 and tell all known elements and attributes apart: no strings are compared
        if taken < 7:
            code = code << 8 | byte
            taken += 1
        at += 1
    return code << 8 * (7 - taken), at


@njit(cache=True, nogil=True)
def _class_words(data: Any, begin: int, end: int, step: Any, found: Any) -> int:
    """Bits of the word groups found in an attribute's value."""
    # the value starts as if after a separator, so that a leading `_` of the word groups matches its first word
    state, bits, last = int(step[0, OTHER]), 0, OTHER
    was_lower = False
    for at in range(begin, end + 1):
        byte = int(data[at]) if at < end else _SPACE  # so that words which end with the value are found
        is_upper = _is_upper(byte)
        if is_upper:
            # camelCase: a word ends where a capital follows a small letter
            if was_lower:
                state = step[state, OTHER]
                bits |= found[state]
            byte += 32
        symbol = byte - 97 if _is_lower(byte) else OTHER
        # a run of separators is one symbol, as one `_` of the word groups stands for it
        if symbol != OTHER or last != OTHER:
            state = step[state, symbol]
            bits |= found[state]
        last = symbol
        was_lower = symbol != OTHER and not is_upper
    return bits


@njit(cache=True, nogil=True)
def _attributes(data: Any, at: int, size: int, step: Any, found: Any) -> tuple[int, int, bool, bool, bool]:
    """Where the tag ends, words in class names, whether it has an href, is hidden, closes itself."""
    bits = 0
    has_href = is_hidden = closes = False
    while at < size and data[at] != _GREATER:
        byte = data[at]
        # what parts attributes, and signs that broken markup leaves between them
        if byte <= _SPACE or byte in (_SLASH, _EQUALS, _QUOTE, _APOSTROPHE):
            # only a slash right before > closes an element: after <svg / > HTML takes it for open
            closes = byte == _SLASH
            at += 1
            continue
        closes = False
        name, after = _name(data, at)
        # always one byte further, or a sign that no name begins with would be read for ever
        at = after if after > at else at + 1
        # names may have any other characters as well (@click, [hidden]); none of those is known
        while at < size and data[at] > _SPACE and data[at] != _EQUALS and data[at] != _GREATER and data[at] != _SLASH:
            at += 1
        value = at
        while value < size and data[value] <= _SPACE:
            value += 1
        # an attribute without a value counts where it is `hidden`; all others that are asked for need one
        if data[value] != _EQUALS:
            is_hidden |= name == _HIDDEN_ATTRIBUTE
            continue
        value += 1
        while value < size and data[value] <= _SPACE:
            value += 1
        quote = data[value]
        if quote in (_QUOTE, _APOSTROPHE):
            # in quotes > is text; a quote that is never closed takes the rest of the page, as in browsers
            value += 1
            at = find_byte(data, value, size, quote)
        else:
            # a slash is part of a value without quotes, so that <a href=x/> stays open
            at = value
            while at < size and data[at] > _SPACE and data[at] != _GREATER:
                at += 1
        # of a style attribute the word groups know `display_none`
        if name in (_CLASS_ATTRIBUTE, _ID, _ROLE, _ITEMPROP, _STYLE):
            bits |= _class_words(data, value, at, step, found)
        has_href |= name == _HREF
        is_hidden |= name == _HIDDEN_ATTRIBUTE
        if quote in (_QUOTE, _APOSTROPHE):
            at += 1
    return min(at + 1, size), bits, has_href, is_hidden, closes


@njit(cache=True, nogil=True)
def _raw_end(data: Any, at: int, size: int, code: int) -> int:
    """The byte after the end tag of an element without markup."""
    while True:
        at = find_byte(data, at, size, _LESS)
        if at == size:
            return size
        # only its own end tag ends such an element: "<p>" or "</b>" in a script is code
        if data[at + 1] == _SLASH:
            name, after = _name(data, at + 2)
            if name == code:
                return min(find_byte(data, after, size, _GREATER) + 1, size)
        at += 1


@njit(cache=True, nogil=True, inline="always")
def _declaration_end(data: Any, at: int, size: int) -> int:
    """The byte after a comment, doctype or processing instruction that starts at a byte."""
    if data[at + 2] != _HYPHEN or data[at + 3] != _HYPHEN:
        # a declaration that the page cuts off ends beyond `size`, which `_scan` tells by it
        return find_byte(data, at + 2, size, _GREATER) + 1
    # the hyphens that open a comment may close it, too: browsers take <!--> for one
    end = find_byte(data, at + 4, size, _GREATER)
    while end < size and not (data[end - 1] == _HYPHEN and data[end - 2] == _HYPHEN):
        end = find_byte(data, end + 1, size, _GREATER)
    return end + 1


@njit(cache=True, nogil=True, inline="always")
def _starts_markup(after: int) -> bool:
    """Whether < is markup, by the byte after it; "1 < 2" is text."""
    return after in (_SLASH, _EXCLAMATION, _QUESTION) or _is_upper(after) or _is_lower(after)


@njit(cache=True, nogil=True, inline="always")
def _markup(data: Any, at: int, size: int, class_step: Any, class_found: Any) -> Markup:
    """The markup that starts at a byte."""
    after = data[at + 1]
    if after in (_EXCLAMATION, _QUESTION):
        return Markup(_declaration_end(data, at, size), DECLARATION, 0, 0, 0, 0)
    words, has_href, is_hidden, closes = 0, False, False, False
    is_end = after == _SLASH
    if is_end:
        code, end = _name(data, at + 2)
        end = find_byte(data, end, size, _GREATER) + 1
    else:
        code, end = _name(data, at + 1)
        end, words, has_href, is_hidden, closes = _attributes(data, end, size, class_step, class_found)
    place = np.searchsorted(TAG_CODES, code)
    if place == len(TAG_CODES) or TAG_CODES[place] != code:
        return Markup(end, DECLARATION, 0, 0, 0, 0)
    kind, region = TAG_KINDS[place], TAG_REGIONS[place]
    if is_end:
        return Markup(end, END_TAG, code, kind, 0, 0)
    if code == _A and not has_href:  # an anchor to jump to is no link
        region = 0
    if is_hidden:
        region |= HIDDEN
    if kind & SKIPPED:
        region |= NOT_TEXT
    # the content of such an element is skipped with its tags, so that none of it is ever on the stack
    if kind & RAW:
        end = _raw_end(data, end, size, code)
    # of other elements a slash before > means nothing in HTML; these come from SVG, where it does
    is_empty = kind & (RAW | VOID) != 0 or (closes and kind & SKIPPED != 0)
    return Markup(end, EMPTY_TAG if is_empty else START_TAG, code, kind, region, words)


@njit(cache=True, nogil=True, inline="always")
def _depth_after_end_tag(stack: Any, depth: int, code: int, kind: int) -> int:
    """How many elements stay open after an end tag: those above the nearest of its name; all where there is none."""
    # level 0 is the page itself, which no tag closes
    lowest = max(depth - SEARCHED, 0)
    for level in range(depth - 1, lowest, -1):
        opened = stack[level, CODE]
        if opened == code:
            return level
        # a stray </b> in a cell must not close the table that stands within some <b>
        if not kind & BREAKS and stack[level, KIND] & BREAKS and opened in (_TD, _TH, _TABLE, _LI):
            break
    return depth


@njit(cache=True, nogil=True, inline="always")
def _depth_before_start_tag(stack: Any, depth: int, code: int, kind: int) -> int:
    """How many elements are still open when a start tag follows: those end whose end tags HTML lets authors leave out."""
    after = depth
    # a link ends the link before it, which HTML does not let hold another; other inline elements end nothing
    if not kind & BREAKS and code != _A:
        return after
    for level in range(depth - 1, max(depth - SEARCHED, 0), -1):
        opened = stack[level, CODE]
        # asked before the barriers below: a cell or an item ends the one before it although it is itself block-level
        if opened == code and code in (_LI, _TR, _TD, _TH, _DT, _DD, _A, _P):
            return level
        if (
            (code == _TD and opened == _TH)
            or (code == _TH and opened == _TD)
            or (code == _DT and opened == _DD)
            or (code == _DD and opened == _DT)
        ):
            return level
        if code == _TR and opened in (_TD, _TH):
            after = level  # and on, for the row that the cell is of
        elif opened == _P and code != _A:
            # HTML lets authors leave out </p> before block-level elements
            return level
        elif opened in (_TABLE, _UL, _OL, _DL) or (stack[level, KIND] & BREAKS and code not in (_LI, _DT, _DD)):
            # an item must not end one of the list around its own, nor a cell one of the table around its own; and li,
            # dt and dd look through other block-level elements, as HTML has them look through div, p and address
            break
    return after


@njit(cache=True, nogil=True)
def _describe(facts: Any, block: int, stack: Any, depth: int, row: int, cell: int) -> None:
    """What the open elements say of a block that starts."""
    top = depth - 1
    flags = stack[top, FLAGS]
    near, tag, seen = 0, 0, 0
    level = top
    # class names as near as the third block-level element: further up they name regions of the page, see `ABOVE`
    while level > 0 and seen < 3:
        near |= stack[level, OWN_WORDS]
        if stack[level, KIND] & BREAKS:
            if seen == 0:
                tag = TAG_CLASS[np.searchsorted(TAG_CODES, stack[level, CODE])]
            seen += 1
        level -= 1
    facts[block, NODE_OF] = stack[top, NODE]
    facts[block, TAG_OF] = tag
    facts[block, FLAGS_OF] = flags
    facts[block, NEAR] = near
    facts[block, ABOVE] = stack[top, WORDS_ABOVE] | stack[top, OWN_WORDS]
    # `row` is not reset where a table ends: outside of tables it is the last one's
    facts[block, ROW] = row if flags & IN_TABLE else -1
    facts[block, CELL] = cell
    facts[block, DEPTH] = depth


@njit(cache=True, nogil=True, inline="always")
def _push(stack: Any, depth: int, markup: Markup, node: int) -> None:
    """Opens an element; `node`: the nearest block-level one's number."""
    above = depth - 1
    stack[depth, CODE] = markup.code
    # what all elements above say is merged as each opens, so that a block reads the top of the stack alone
    stack[depth, FLAGS] = stack[above, FLAGS] | markup.region
    stack[depth, OWN_WORDS] = markup.words
    stack[depth, WORDS_ABOVE] = stack[above, WORDS_ABOVE] | stack[above, OWN_WORDS]
    stack[depth, NODE] = node
    stack[depth, KIND] = markup.kind


@njit(cache=True, nogil=True)
def _close(
    text: Any, bounds: Any, counts: Any, facts: Any, block: int, filled: int, words: int, digest: int, last_byte: int
) -> int:
    """Ends a block, and returns where its text ends without the white space after it."""
    while filled > bounds[block] and text[filled - 1] <= _SPACE:
        filled -= 1
    ends_sentence = last_byte in (_DOT, _EXCLAMATION, _QUESTION, _QUOTE, _COLON) or last_byte >= 0x80
    counts[block, ENDS] = ends_sentence
    facts[block, WORD_GROUPS] = words
    facts[block, DIGEST] = digest
    bounds[block + 1] = filled
    return filled


@njit(cache=True, nogil=True)
def _break_line(text: Any, begin: int, filled: int) -> int:
    """Puts a line feed in the place of the spaces that end a block's text, and returns where it ends."""
    while filled > begin and text[filled - 1] == _SPACE:
        filled -= 1
    text[filled] = _LINE_FEED
    return filled + 1


@njit(cache=True, nogil=True, inline="always")
def _copy_letters(
    data: Any, at: int, text: Any, filled: int, digest: int, state: int, words: int, step: Any, found: Any
) -> tuple[int, int, int, int, int]:
    """Takes over the small letters that follow a byte: most text is such, and needs no more counting than this. Returns the
    last one's place, and what changed with them."""
    while _is_lower(data[at + 1]):
        at += 1
        byte = int(data[at])
        text[filled] = byte
        filled += 1
        digest = ((digest ^ byte) * FNV_PRIME) & DIGEST_BITS
        # unsigned: of signed indices numba tests whether they count from the end
        state = step[np.uintp(state), np.uintp(byte - 97)]
        words |= found[np.uintp(state)]
    return at, filled, digest, state, words


@njit(cache=True, nogil=True)
def _scan(data: Any, size: int, class_step: Any, class_found: Any, text_step: Any, text_found: Any) -> Any:
    """The text, bounds, counts, facts (int64, shape (blocks, FACTS)) and parents of `Blocks`.

    What a byte of text changes is kept in local variables, not in a record, and its functions are inlined: so it stays in
    registers. Every array that is handed to a function costs two atomic additions, since numba counts references.
    """
    # no page has more blocks or elements than tags: room for all is made before, and never again
    angles = 2
    for at in range(size):
        angles += data[at] == _LESS
    room = min(angles, MAX_BLOCKS)
    nodes_room = min(angles, MAX_NODES)
    text = np.empty(size + angles, np.uint8)  # a <br> that stands for nothing in the page's bytes gives a line feed
    bounds = np.zeros(room + 1, np.int64)
    counts = np.zeros((room, COUNTS + 1), np.int64)
    facts = np.zeros((room, FACTS), np.int64)
    parent = np.zeros(nodes_room, np.int64)
    stack = np.zeros((MAX_DEPTH, STACK_COLUMNS), np.int64)
    stack[0, KIND] = BREAKS
    depth, nodes, block, filled, images = 1, 1, 0, 0, 0
    row = cell = 0
    # of the block: the automaton's state and the symbol before, word groups found, whether white space is before, line breaks
    # in a row, hash, last byte
    state, last, words = int(text_step[0, OTHER]), OTHER, 0
    in_space, breaks, digest, last_byte = True, 0, 0, 0
    at = 0
    while at < size:
        byte = int(data[at])
        flags = stack[depth - 1, FLAGS]
        if byte != _LESS or not _starts_markup(data[at + 1]):
            if flags & NOT_TEXT:
                at += 1
                continue
            # white space is one space, but in <pre>; none stands at a block's start
            if byte <= _SPACE:
                is_kept = byte in (_LINE_FEED, _SPACE, _TAB)
                # within <pre> all white space is kept but what its block starts with; `_trimmed` takes that at the end
                if flags & PRE and is_kept and filled > bounds[block]:
                    text[filled] = byte
                    filled += 1
                elif not in_space:
                    text[filled] = _SPACE
                    filled += 1
                in_space = True
                # a run of other characters is one symbol to the automaton
                if last != OTHER:
                    state = text_step[state, OTHER]
                    words |= text_found[state]
                    last = OTHER
                at += 1
                continue
            if in_space:
                counts[block, WORDS] += 1
            # a block starts with its first character: only now is known which elements hold it
            if counts[block, CHARS] == 0:
                state, last = int(text_step[0, OTHER]), OTHER
                # characters of several bytes pass for capitals: most scripts have no case, and none is decoded here
                counts[block, STARTS] = _is_upper(byte) or byte >= 0x80
                counts[block, IMAGES] = images
                images = 0
                _describe(facts, block, stack, depth, row, cell)
            in_space = False
            breaks = 0
            text[filled] = byte
            filled += 1
            # white space is not hashed: blocks that differ in it alone are repeats of one another
            digest = ((digest ^ byte) * FNV_PRIME) & DIGEST_BITS
            counts[block, COLUMN_OF[byte]] += 1
            symbol = int(SYMBOL_OF[byte])
            if byte >= 0xC2:
                # the zeros that `blocks_of` appends make it safe to read two bytes further
                two = byte << 8 | int(data[at + 1])
                three = two << 8 | int(data[at + 2])
                counts[block, SENTENCES] += three == _FULL_STOP
                counts[block, COMMAS] += three in (_IDEOGRAPHIC_COMMA, _FULLWIDTH_COMMA)
                words |= two == _COPYRIGHT_SIGN  # one of the words of the first group
            if symbol != OTHER or last != OTHER:
                state = text_step[state, symbol]
                words |= text_found[state]
            last = symbol
            first = at
            at, filled, digest, state, words = _copy_letters(
                data, at, text, filled, digest, state, words, text_step, text_found
            )
            chars = int(byte & 0xC0 != 0x80) + at - first
            last_byte = int(data[at])
            if _is_lower(last_byte):
                last = last_byte - 97
            counts[block, CHARS] += chars
            if flags & LINK:
                counts[block, LINK_CHARS] += chars
            if flags & BOLD:
                counts[block, BOLD_CHARS] += chars
            at += 1
            continue
        markup = _markup(data, at, size, class_step, class_found)
        at = markup.end
        if markup.form == DECLARATION:
            continue
        ends_block = markup.kind & BREAKS != 0
        still_open = depth
        if markup.form == END_TAG:
            still_open = _depth_after_end_tag(stack, depth, markup.code, markup.kind)
        elif markup.form == START_TAG:
            still_open = _depth_before_start_tag(stack, depth, markup.code, markup.kind)
        elif markup.code == _IMG:
            images += 1
        elif markup.code == _BR and not flags & NOT_TEXT:
            # two in a row are how paragraphs were made before CSS
            breaks += 1
            # pages without <p> part their paragraphs by two line breaks; in <pre> those are empty lines
            if breaks > 1 and not flags & PRE:
                ends_block = True
            elif counts[block, CHARS] > 0:
                filled = _break_line(text, bounds[block], filled)
                counts[block, LINES] += 1
                in_space = True
        if ends_block:
            if counts[block, CHARS] == 0:  # white space alone, or nothing
                filled = bounds[block]
            elif block < room - 1:
                if last != OTHER:  # words that end with the block
                    words |= text_found[text_step[state, OTHER]]
                filled = _close(text, bounds, counts, facts, block, filled, words, digest, last_byte)
                block += 1
            words, digest, in_space, breaks, last = 0, 0, True, 0, OTHER
            state = int(text_step[0, OTHER])
        # elements deeper than the stack are not opened: what they hold is text of the one above
        depth = still_open
        if markup.form == START_TAG and depth < MAX_DEPTH:
            node = stack[depth - 1, NODE]
            if markup.kind & BREAKS and nodes < nodes_room:
                # numbers in the order of start tags, a parent's below those of all it holds: `_totals` relies on it
                parent[nodes] = node
                node = nodes
                nodes += 1
            _push(stack, depth, markup, node)
            depth += 1
            counts[block, LINKS] += markup.region & LINK != 0
            row += markup.code == _TR
            cell += markup.code in (_TD, _TH)
    # markup that the page's end cuts off has its end beyond it: the block before it is not closed then
    if at == size:
        if counts[block, CHARS] == 0:
            filled = bounds[block]
        else:
            if last != OTHER:
                words |= text_found[text_step[state, OTHER]]
            filled = _close(text, bounds, counts, facts, block, filled, words, digest, last_byte)
            block += 1
    return text[:filled], bounds[: block + 1], counts[:block, :COUNTS], facts[:block], parent[:nodes]
