"""A real browser for tests: Debian's chromium without a window, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DRAWN = """() => document.readyState == 'complete' && [...document.querySelectorAll('.chart')].every(
    place => place.closest('details:not([open])') || place.children.length)"""


class Browser:
    """One page of a running browser."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.complaints: list[str] = []
        """What went wrong in the page: exceptions, refused scripts, errors on its console."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def open(self, page: Path | str, width: int, *, dark: bool = False) -> None:
        """Shows a file or a URL, and waits until its charts are drawn."""
        self._page.set_viewport_size({"width": width, "height": 900})
        self._page.emulate_media(color_scheme="dark" if dark else "light")
        self._page.goto(page if isinstance(page, str) else page.resolve().as_uri())
        self._page.wait_for_function(DRAWN)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; None while another page is loaded in its place."""
        try:
            return self._page.evaluate(expression)
        except Error as error:
            if "navigation" in str(error):
                return None
            raise

    def press(self, key: str) -> None:
        """Presses a key: Tab, Enter, ArrowRight and their like."""
        self._page.keyboard.press(key)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Starts chromium; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield Browser(started.new_page())
        finally:
            started.close()
