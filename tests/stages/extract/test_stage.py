"""Main text out of HTML, whatever the page."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.stages.extract.charset import declared_charset, decode_page
from tokenmill.stages.extract.classifier import MODEL
from tokenmill.stages.extract.stage import Extract, tidy
from tokenmill.stages.stage import DROPPED, FAILED, KEPT, Verdicts

SENTENCES = "The old mill stands by the river, and its wheel has not turned for years. People come to look at it. "
ARTICLE = f"""<html><head><title>The mill</title><style>p {{ color: red }}</style></head><body>
<nav class="main-nav"><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li></ul></nav>
<div class="article-body"><h1>The mill</h1><p>{SENTENCES * 3}</p><p>{SENTENCES * 2}Ends &amp; begins.</p>
<script>var hidden = "<p>never</p>";</script></div>
<aside class="sidebar"><h3>Related</h3><ul><li><a href="/1">Another mill</a></li><li><a href="/2">A bridge</a></li></ul></aside>
<footer class="footer">Copyright 2020 <a href="/imprint">Imprint</a></footer></body></html>"""
ENGINES = ["tokenmill", "resiliparse", "trafilatura"]


def extract(
    pages: list[bytes | None], charsets: list[str | None] | None = None, engine: str = "tokenmill"
) -> tuple[list[str], Verdicts]:
    batch = pa.RecordBatch.from_pydict(
        {
            "position": pa.array(range(len(pages)), pa.int32()),
            "html": pa.array(pages, pa.binary()),
            "charset": pa.array(charsets or [None] * len(pages), pa.string()),
        }
    )
    documents, verdicts = Extract.model_validate({"engine": engine}).apply(batch)
    documents.validate(full=True)
    assert documents.schema.names == ["position", "text"]
    assert documents["position"].to_pylist() == list(range(len(pages)))
    assert {len(column) for column in verdicts.measures.values()} == {len(pages)}
    return documents["text"].to_pylist(), verdicts


@pytest.mark.parametrize("engine", ENGINES)
def test_text_stays_and_boilerplate_goes(engine: str) -> None:
    if engine == "trafilatura":
        pytest.importorskip("trafilatura")
    [text], verdicts = extract([ARTICLE.encode()], engine=engine)
    assert text.count("The old mill") == 5
    assert "Ends & begins." in text
    assert "\n" in text, "paragraphs are kept apart"
    for boilerplate in ("Home", "Imprint", "never", "color"):
        assert boilerplate not in text
    assert verdicts.fate.tolist() == [KEPT]
    assert verdicts.measures["text_bytes"].to_pylist() == [len(text.encode())]


def test_pages_without_text_are_dropped_by_name() -> None:
    texts, verdicts = extract([b"<html><body><img src=x></body></html>", b"", b"<script>x</script>", ARTICLE.encode()])
    assert verdicts.fate.tolist() == [DROPPED] * 3 + [KEPT]
    assert verdicts.rule.to_pylist() == ["extract.no_text"] * 3 + [None]
    assert texts[:3] == [""] * 3


def test_a_parser_that_raises_costs_its_document_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises_on_marked(page: bytes) -> str:
        if b"marked" in page:
            raise RuntimeError("no way")
        return "fine"

    monkeypatch.setattr("tokenmill.stages.extract.stage.main_text", raises_on_marked)
    texts, verdicts = extract([b"<p>marked", b"<p>other"])
    assert verdicts.fate.tolist() == [FAILED, KEPT]
    assert verdicts.rule.to_pylist() == ["extract.error", None]
    assert verdicts.message.to_pylist() == ["RuntimeError: no way", None]
    assert texts == ["", "fine"]


def test_documents_that_are_text_pass_unchanged() -> None:
    batch = pa.RecordBatch.from_pydict({"position": pa.array([0, 1], pa.int32()), "text": pa.array(["größer", None])})
    documents, verdicts = Extract().apply(batch)
    assert documents.equals(batch)
    assert verdicts.fate.tolist() == [KEPT, KEPT]
    assert verdicts.measures["text_bytes"].to_pylist() == [8, None]


def test_an_empty_batch() -> None:
    assert extract([])[0] == []
    assert sorted(extract([])[1].measures) == ["charset", "charset_declared", "text_bytes"]


def test_the_model_is_part_of_the_fingerprint() -> None:
    assert Extract().model_files() == (MODEL,)
    assert MODEL.exists()
    assert Extract(engine="resiliparse").model_files() == ()


@pytest.mark.parametrize("engine", ["tokenmill", "resiliparse"])
def test_pages_that_nest_a_million_deep(engine: str) -> None:
    texts, verdicts = extract([b"<div>" * 1_000_000 + SENTENCES.encode() * 3, ARTICLE.encode()], engine=engine)
    assert verdicts.fate.tolist() == [KEPT if engine == "tokenmill" else FAILED, KEPT]
    assert "old mill" in texts[1]


@settings(max_examples=100)
@given(page=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-16")))
def test_no_page_breaks_the_engine(page: bytes) -> None:
    [text], verdicts = extract([page])
    assert verdicts.fate[0] in (KEPT, DROPPED)
    assert not set(text) & {chr(code) for code in range(32)} - {"\n", "\t"}


def test_surrogates_without_a_partner_are_no_text() -> None:
    spelled = f"<p>{SENTENCES * 3} &#xD83D; &#56832; &#x110000; &#0; Ends here.</p>".encode()
    encoded = f"<p>{SENTENCES * 3} ".encode() + b"\xed\xa0\xbd \xed\xb8\x80" + b" Ends here.</p>"
    texts, verdicts = extract([spelled, encoded], ["utf-8", "utf-8"])
    assert verdicts.fate.tolist() == [KEPT, KEPT]
    for text in texts:
        assert text.endswith("Ends here.")
        assert not any(0xD800 <= ord(character) < 0xE000 for character in text)


def test_tidy_leaves_no_control_characters() -> None:
    assert tidy("a\0b\x07 \r\n\n\n\n\x0cc\x1b\x7f  \n") == "ab\n\nc"


UMLAUTS = "<html><body><p>Größe, Übermut und Äpfel: schöne Wörter für alle.</p></body></html>"
RUSSIAN = "<html><body><p>Старая мельница стоит над рекой, и люди приходят посмотреть на неё.</p></body></html>"


@pytest.mark.parametrize(
    ("page", "header", "expected"),
    [
        (UMLAUTS.encode("utf-8"), "utf-8", "utf-8"),
        (UMLAUTS.encode("latin-1"), "iso-8859-1", "cp1252"),
        (UMLAUTS.encode("latin-1"), "utf-8", "cp1252"),
        (UMLAUTS.encode("utf-8"), "iso-8859-1", "utf-8"),
        (RUSSIAN.encode("cp1251"), "windows-1251", "cp1251"),
        (RUSSIAN.encode("koi8-r"), "koi8-r", "koi8-r"),
        (RUSSIAN.encode("cp1251"), None, "cp1251"),
        (UMLAUTS.encode("utf-16-le"), None, "utf-16-le"),
        (UMLAUTS.encode("utf-16-be"), None, "utf-16-be"),
        (UMLAUTS.encode("utf-16-le"), "iso-8859-1", "utf-16-le"),
        (b"\xfe\xff" + UMLAUTS.encode("utf-16-be"), "iso-8859-1", "utf-16-be"),
        (b"\xef\xbb\xbf" + UMLAUTS.encode(), None, "utf-8"),
        ('<meta charset="shift_jis"><p>水車は川のそばに立っている。'.encode("shift_jis"), None, "shift_jis"),
        ('<meta http-equiv="x" content="text/html; charset=gb2312"><p>老磨坊在河边'.encode("gbk"), None, "gbk"),
        (UMLAUTS.encode(), "no-such-charset", "utf-8"),
    ],
)
def test_charsets(page: bytes, header: str | None, expected: str) -> None:
    text, used = decode_page(page, header)
    assert used == expected
    assert "\ufffd" not in text
    assert any(word in text for word in ("Übermut", "мельница", "水車", "老磨坊"))


def test_a_lie_shows_in_the_ledger() -> None:
    _, verdicts = extract([UMLAUTS.encode(), UMLAUTS.encode()], ["latin1", None])
    assert verdicts.measures["charset"].to_pylist() == ["utf-8", "utf-8"]
    assert verdicts.measures["charset_declared"].to_pylist() == ["cp1252", None]
    assert declared_charset(b'<meta charset="utf-16">', None) == "utf-8", "a tag that can be read is no UTF-16"
