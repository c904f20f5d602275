"""Makes the files of the sample crawl: `python -m tests.sample_crawl configs/quickstart`."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from tests.sample_crawl.english import SUBJECTS
from tests.sample_crawl.other_languages import JAPANESE, LANGUAGES, RUSSIAN
from tests.sample_crawl.pages import choice, html_page, paragraphs
from tests.warc_writer import http_response, page, record, warc_gz

PAGES_PER_SUBJECT = 24
SENTENCES_PER_PAGE = 9
LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore. "


def english_pages() -> dict[str, str]:
    """URL -> HTML of the ordinary pages."""
    pages = {}
    for subject, sentences in SUBJECTS.items():
        for number in range(PAGES_PER_SUBJECT):
            key = f"{subject} {number}"
            chosen = choice(key, sentences, SENTENCES_PER_PAGE)
            extra = "<pre><code>notes = sorted(observations)\nprint(notes[0])</code></pre>" if number % 8 == 5 else ""
            if number % 8 == 3:
                rows = "".join(f"<tr><td>{month}</td><td>{len(key) + month}</td></tr>" for month in range(1, 7))
                extra = f"<table><tr><th>Month</th><th>Visitors</th></tr>{rows}</table>"
            title = f"{subject.capitalize()}, note {number + 1}"
            pages[f"https://{subject}.example/notes/{number + 1}"] = html_page(title, paragraphs(chosen), extra=extra)
    return pages


def near_duplicates() -> dict[str, tuple[str, str]]:
    """URL -> (HTML, URL of the ordinary page that it is like): one sentence more, or another date."""
    pages = {}
    for subject, sentences in SUBJECTS.items():
        chosen = choice(f"{subject} 0", sentences, SENTENCES_PER_PAGE)
        original = f"https://{subject}.example/notes/1"
        dated = [*paragraphs(chosen), "Last changed on the third of May."]
        title = f"{subject.capitalize()}, note 1"
        pages[f"https://mirror.example/{subject}/1"] = (html_page(title, dated), original)
        pages[f"{original}?utm_source=letter"] = (html_page(title, paragraphs(chosen)), original)
    return pages


def other_languages() -> dict[str, str]:
    """URL -> HTML of pages that are not English."""
    pages = {}
    for language, subjects in LANGUAGES.items():
        for subject, sentences in subjects.items():
            for number in range(8):
                chosen = choice(f"{language} {subject} {number}", sentences, 7)
                url = f"https://{language}.example/{len(subject)}/{number + 1}"
                pages[url] = html_page(f"{subject} {number + 1}", paragraphs(chosen), language)
    for language, sentences in (("ja", JAPANESE), ("ru", RUSSIAN)):
        for number in range(4):
            chosen = choice(f"{language} {number}", sentences, 6)
            pages[f"https://{language}.example/{number + 1}"] = html_page(
                str(number + 1), paragraphs(chosen, 3), language
            )
    return pages


def poor_pages() -> dict[str, str]:
    """URL -> HTML of pages that a quality rule should drop."""
    bread = SUBJECTS["bread"]
    bullets = [f"\u2022 {sentence}" for sentence in bread[:12]]
    trailing = [" ".join(sentence.split()[:7]) + " ..." for sentence in bread]
    return {
        "https://poor.example/short": html_page("Soon", ["This page will be the home of our new shop, so come back."]),
        "https://poor.example/menu": html_page("Map of this site", []),
        "https://poor.example/symbols": html_page(
            "Tags", [" ".join(f"#{word}" for word in " ".join(bread[:6]).split())]
        ),
        "https://poor.example/numbers": html_page("Results", [" ".join(str(7919 * n % 9973) for n in range(400))]),
        "https://poor.example/lorem": html_page("Draft", [LOREM * 12]),
        "https://poor.example/bullets": html_page("List", bullets),
        "https://poor.example/teasers": html_page("Teasers", trailing),
        "https://poor.example/letters": html_page("Spelled", [" ".join(" ".join(bread[:8]))]),
    }


def odd_records() -> list[bytes]:
    """Records with other charsets and codings, and those that are no pages."""
    german = html_page("Größe", paragraphs(LANGUAGES["de"]["wald"][:8]), "de", charset="windows-1252")
    japanese = html_page("町", paragraphs(list(JAPANESE), 3), "ja", charset="shift_jis")
    english = html_page("Café notes", paragraphs(choice("café", SUBJECTS["bread"], 10)))
    packed = gzip.compress(english.encode(), mtime=0)
    music = html_page("Music in one piece", paragraphs(choice("one piece", SUBJECTS["music"], 10))).encode()
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (music[:500], music[500:]))
    wide = html_page("Maps, wide", paragraphs(choice("wide", SUBJECTS["maps"], 10)), charset="utf-16").encode("utf-16")
    return [
        record("", b"software: tests.sample_crawl\r\n", "warcinfo", "application/warc-fields"),
        record(
            "https://odd.example/",
            b"GET / HTTP/1.1\r\nHost: odd.example\r\n\r\n",
            "request",
            "application/http; msgtype=request",
        ),
        record(
            "https://odd.example/header", http_response(german.encode("windows-1252"), "text/html; charset=ISO-8859-1")
        ),
        record("https://odd.example/lies", http_response(german.encode("windows-1252"), "text/html; charset=utf-8")),
        record("https://odd.example/meta", http_response(japanese.encode("shift_jis"), "text/html")),
        record("https://odd.example/wide", http_response(wide, "text/html")),
        record("https://odd.example/gzip", http_response(packed, headers="Content-Encoding: gzip\r\n")),
        record(
            "https://odd.example/chunked",
            http_response(chunks + b"0\r\n\r\n", headers="Transfer-Encoding: chunked\r\n"),
        ),
        record("https://odd.example/empty", http_response(b"")),
        record("https://odd.example/picture.png", http_response(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "image/png")),
        record("https://odd.example/data.json", http_response(b'{"bread": 4}', "application/json")),
        record(
            "https://odd.example/gone", http_response(b"<html><body>Not found</body></html>", status="404 Not Found")
        ),
        record("https://odd.example/moved", http_response(b"", status="301 Moved Permanently")),
        record("https://odd.example/again", b"", "revisit"),
        record("https://odd.example/", b"fetchTimeMs: 12\r\n", "metadata", "application/warc-fields"),
    ]


def broken_file() -> bytes:
    """Sound pages around a record whose length lies, a member of noise, and an end that is cut off."""
    pages = [
        page(
            f"https://broken.example/{n}",
            html_page(f"Page {n}", paragraphs(choice(f"broken {n}", SUBJECTS["soap"], 10))),
        )
        for n in range(4)
    ]
    lying = record("https://broken.example/lying", http_response(b"<html><body>Short</body></html>"), length=99_999)
    noise = bytes(31 * n % 251 for n in range(700))
    return warc_gz([pages[0], lying, pages[1]]) + noise + warc_gz([pages[2]]) + warc_gz([pages[3]])[:-200]


def files() -> dict[str, bytes]:
    """File name -> content, the manifest included."""
    ordinary = english_pages()
    near = near_duplicates()
    foreign, poor = other_languages(), poor_pages()
    records = [
        page(url, html) for url, html in (ordinary | foreign | poor | {u: h for u, (h, _) in near.items()}).items()
    ]
    order = sorted(range(len(records)), key=lambda number: (number * 7919) % 10_007)
    mixed = [records[number] for number in order]
    thresholds = (0, len(mixed) // 2, 3 * len(mixed) // 4, len(mixed))
    manifest = {
        "ordinary": sorted(ordinary),
        "near_duplicates": {url: original for url, (_, original) in sorted(near.items())},
        "other_languages": sorted(foreign),
        "poor": sorted(poor),
    }
    return {
        "crawl-00.warc.gz": warc_gz(mixed[thresholds[0] : thresholds[1]]),
        "crawl-01.warc.gz": warc_gz(mixed[thresholds[1] : thresholds[2]]),
        "crawl-02.warc.gz": warc_gz(mixed[thresholds[2] : thresholds[3]]),
        "crawl-03.warc.gz": warc_gz(odd_records()),
        "broken.warc.gz": broken_file(),
        "manifest.json": json.dumps(manifest, indent=1).encode() + b"\n",
    }


def main(folder: Path) -> None:
    """Writes the files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
