"""What identifies people goes, on both sides of each pattern."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stages.filters.redact import PLACEHOLDERS, Redact

EMAIL, IP, PHONE = PLACEHOLDERS.values()


def redacted(texts: list[str], **config: Any) -> tuple[list[str], dict[str, list[int]]]:
    documents = pa.record_batch({"url": pa.nulls(len(texts), pa.string()), "text": pa.array(texts, pa.string())})
    edited, verdicts = Redact(**config).apply(documents)
    return edited.column("text").to_pylist(), {name: column.to_pylist() for name, column in verdicts.measures.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.doe+news@mail.example.org.", f"write to {EMAIL}."),
        ("<a@b.example>,c@d.example", f"<{EMAIL}>,{EMAIL}"),
        ("an @ alone, user@localhost, @handle", "an @ alone, user@localhost, @handle"),
        ("ping 192.168.0.1, 8.8.8.8 or 255.255.255.255", f"ping {IP}, {IP} or {IP}"),
        ("version 1.2.3, 256.1.1.1 is none, v1.2.3.4", "version 1.2.3, 256.1.1.1 is none, v1.2.3.4"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334 and 2001:db8::8a2e:370:7334 and fe80::1", f"{IP} and {IP} and {IP}"),
        ("std::vector, a::b, at 12:30:45 of 1:2", "std::vector, a::b, at 12:30:45 of 1:2"),
        ("call +49 (0)30 1234 5678 now", f"call {PHONE} now"),
        ("call +1-202-555-0143 or (202) 555-0143 or 202.555.0143", f"call {PHONE} or {PHONE} or {PHONE}"),
        ("in 2024, 1 000 000 of 1234567890", "in 2024, 1 000 000 of 1234567890"),
    ],
)
def test_known_texts(text: str, expected: str) -> None:
    assert redacted([text])[0] == [expected]


def test_counts_and_choices() -> None:
    texts = ["a@b.example and 10.0.0.1", "nothing", ""]
    edited, counts = redacted(texts)
    assert edited == [f"{EMAIL} and {IP}", "nothing", ""]
    assert counts == {"redacted_email": [1, 0, 0], "redacted_ip": [1, 0, 0], "redacted_phone": [0, 0, 0]}
    only, counts = redacted(texts, kinds=["ip"], placeholders={"ip": r"<\1>"})
    assert only == [r"a@b.example and <\1>", "nothing", ""]
    assert counts == {"redacted_ip": [1, 0, 0]}


@given(st.lists(st.text(st.sampled_from("ab@.:+-() 0129fF\n"), max_size=40), max_size=6))
def test_nothing_is_found_twice(texts: list[str]) -> None:
    """What is left holds nothing of its kind, but for what a placeholder's neighbourhood makes."""
    once, counts = redacted(texts, kinds=["email"], placeholders={"email": "|"})
    again, more = redacted(once, kinds=["email"], placeholders={"email": "|"})
    assert all(length <= len(text) for length, text in zip(map(len, again), texts, strict=True))
    for text, edited, count in zip(texts, once, counts["redacted_email"], strict=True):
        assert (edited == text) == (count == 0)
        assert edited.count("|") == count
    assert sum(more["redacted_email"]) <= sum(counts["redacted_email"])
