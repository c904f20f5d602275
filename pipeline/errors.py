"""The errors that people see: each says what, where and how to mend; the command line prints them without a trace."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """The config or the command line is wrong (exit code 2)."""


class RunError(Exception):
    """The run failed or cannot start (exit code 1)."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a wrong word: the nearest right one, or all of them."""
    words = sorted(known)
    if close := difflib.get_close_matches(word, words, 1, 0.5):
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(words)}" if words else "nothing is known here"
