"""Pages of the sample crawl, put together by keyed choice: the same pages every time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

NAVIGATION = ("Home", "Latest", "Topics", "About us", "Contact", "Newsletter", "Log in")
FOOTER = "This site uses cookies to remember your settings. Accept all. Reject all. All rights reserved."


def choice(key: str, items: Sequence[str], count: int) -> list[str]:
    """`count` of the items in an order that depends on the key alone."""
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"{key}\0{item}".encode()).digest())
    return ranked[:count]


def paragraphs(sentences: Sequence[str], size: int = 4) -> list[str]:
    """Sentences joined into paragraphs."""
    return [" ".join(sentences[start : start + size]) for start in range(0, len(sentences), size)]


def html_page(
    title: str, texts: Sequence[str], language: str = "en", *, charset: str = "utf-8", extra: str = ""
) -> str:
    """A page with the furniture that pages have: menu, cookie notice, side bar, related links, footer."""
    menu = "".join(f'<li><a href="/{item.lower().replace(" ", "-")}">{item}</a></li>' for item in NAVIGATION)
    body = "\n".join(f"<p>{text}</p>" for text in texts)
    related = "".join(f'<li><a href="/more/{number}">Read more, part {number}</a></li>' for number in range(1, 6))
    return f"""<!DOCTYPE html>
<html lang="{language}">
<head><meta charset="{charset}"><title>{title}</title>
<style>body {{ font: 16px serif }}</style><script>window.seen = (window.seen || 0) + 1;</script></head>
<body>
<header><nav><ul>{menu}</ul></nav></header>
<main><article><h1>{title}</h1>
{body}
{extra}
</article></main>
<aside><h2>Related</h2><ul>{related}</ul></aside>
<footer><p>{FOOTER}</p></footer>
</body></html>
"""
