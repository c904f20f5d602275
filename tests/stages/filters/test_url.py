"""Block- and allow-lists of addresses, against plain Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs import config_file, crawl_file, ledger, run, tokenmill
from tokenmill.stages.filters.url import Urls
from tokenmill.stages.stage import KEPT


def rules(stage: Urls, urls: Sequence[str | None]) -> list[str | None]:
    documents = pa.record_batch({"url": pa.array(list(urls), pa.string())})
    verdicts = stage.judge(documents)
    found = verdicts.rule.to_pylist()
    assert [fate == KEPT for fate in verdicts.fate.tolist()] == [rule is None for rule in found]
    return list(found)


def test_each_rule_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "domains").write_text("# a list\n\nSpam.Example\nads.example\n")
    stage = Urls(
        block_domains=["bad.example"], block_domains_files=[tmp_path / "domains"], block_words=["casino", "c++"]
    )
    blocked, word = "url.blocked_domain", "url.blocked_word"
    cases = {
        "https://bad.example/": blocked,
        "https://www.deep.bad.example:8080/x": blocked,
        "http://user:secret@ads.example?x": blocked,
        "https://SPAM.example./a": blocked,
        "https://notbad.example/": None,
        "https://bad.example.org/": None,
        "https://good.example/bad.example": None,
        "https://good.example/best-Casino-online": word,
        "https://good.example/casinos": None,
        "https://good.example/c++/": word,
        "https://good.example/": None,
        "no url at all": None,
        "": None,
        None: None,
    }
    assert rules(stage, list(cases)) == list(cases.values())
    allowing = Urls(allow_domains=["good.example"], block_words=["casino"])
    assert rules(
        allowing, ["https://a.good.example/", "https://good.example/casino", "https://other.example/", None]
    ) == [
        None,
        word,
        "url.not_allowed",
        "url.not_allowed",
    ]


LABEL = st.text("abc1", min_size=1, max_size=3)
HOST = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


@given(
    hosts=st.lists(HOST, max_size=8), domains=st.lists(HOST, min_size=1, max_size=4), words=st.lists(LABEL, max_size=3)
)
def test_any_host_as_plain_python(hosts: list[str], domains: list[str], words: list[str]) -> None:
    urls = [f"https://{host}/path" for host in hosts]
    expected = []
    for url in urls:
        host = urlsplit(url).hostname or ""
        is_blocked = any(host == domain or host.endswith("." + domain) for domain in domains)
        has_word = any(piece in words for piece in re.split("[^a-z0-9]+", url))
        expected.append("url.blocked_domain" if is_blocked else "url.blocked_word" if has_word else None)
    assert rules(Urls(block_domains=domains, block_words=words), urls) == expected


def test_before_extraction_in_a_run(tmp_path: Path) -> None:
    for subject in ("bread", "bees"):
        crawl_file(tmp_path / f"in/{subject}.warc.gz", subject, range(8))
    (tmp_path / "blocked").write_text("bees.example\n")
    stages = {"url": {"block_domains_files": [str(tmp_path / "blocked")]}, "extract": {}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    run(config)
    rows = ledger(tmp_path / "run").to_pylist()
    assert {row["rule"] for row in rows if "bees" in row["url"]} == {"url.blocked_domain"}
    assert {row["fate"] for row in rows if "bread" in row["url"]} == {"kept"}
    # the list is part of the fingerprint
    (tmp_path / "blocked").write_text("bread.example\n")
    run(config)
    assert {row["rule"] for row in ledger(tmp_path / "run").to_pylist() if "bread" in row["url"]} == {
        "url.blocked_domain"
    }


@pytest.mark.parametrize("field", ["block_domains_files", "allow_domains_files", "block_words_files"])
def test_a_list_that_is_gone_is_named(tmp_path: Path, field: str) -> None:
    crawl_file(tmp_path / "in/bees.warc.gz", "bees", range(2))
    stages = {"url": {field: [str(tmp_path / "gone.txt")]}, "extract": {}}
    config = config_file(tmp_path / "c.yaml", tmp_path / "run", {"web": {"path": str(tmp_path / "in/*")}}, stages)
    result = tokenmill("run", config)
    assert result.returncode == 2
    assert "gone.txt" in " ".join(result.stderr.split())
