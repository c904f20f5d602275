"""Two runs side by side, against their ledgers, and as a page in a browser."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from tests.browser import browser
from tests.runs import crawl_file, jsonl_file, ledger, run, text_of, tokenmill
from tokenmill.pipeline.commands.compare import Comparison, Moved
from tokenmill.pipeline.commands.compare_page import write_compare_page
from tokenmill.pipeline.storage.run_folder import RunFolder
from tokenmill.pipeline.storage.store import Store

HOSTILE = '<script>document.title = "run"</script><img src=x onerror=alert(1)></td>'


def text_of_page(page: Path) -> str:
    """What a reader sees, without the charts."""
    body = page.read_text().partition("<main>")[2].partition("</main>")[0]
    return " ".join(unescape(re.sub(r"<script.*?</script>|<[^>]*>", " ", body, flags=re.S)).split())


def test_what_changed_between_two_runs(crawl: Path, tmp_path: Path) -> None:
    one, two = crawl.parent / "run", tmp_path / "two"
    run(crawl)
    jsonl_file(tmp_path / "crawl/more.jsonl", [{"text": text_of("bees", 40)}, {"text": "Zu kurz, und auf Deutsch."}])
    crawl_file(tmp_path / "crawl/0.warc.gz", "bread", range(16))  # two pages more at its end
    scores = sorted(row["language_score"] for row in ledger(one).to_pylist() if row["fate"] == "kept")
    least = round(scores[len(scores) // 3], 5)
    run(crawl, f"stages.language.min_score={least}", "stages.shard.validation=0.2", output=two)
    result = tokenmill("compare", one, two, "--json", "--page", tmp_path / "compare.html")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["config"]["stages.language.min_score"][1] == least
    assert found["config"]["stages.shard.validation"] == [0.3, 0.2]
    assert set(found["config"]) == {"output", "stages.language.min_score", "stages.shard.validation"}
    before, after = ({row["id"]: row for row in ledger(output).to_pylist()} for output in (one, two))
    both = before.keys() & after.keys()
    gone = {name for name in both if before[name]["fate"] == "kept" != after[name]["fate"]}
    kept = {name for name in both if before[name]["fate"] != "kept" == after[name]["fate"]}
    assert gone
    assert found["newly_dropped"]["documents"] == len(gone)
    assert found["newly_kept"]["documents"] == len(kept)
    assert {row["id"] for row in found["newly_dropped"]["examples"]} <= gone
    assert all(row["rule"] == after[row["id"]]["rule"] for row in found["newly_dropped"]["examples"])
    assert found["only_second"] == len(after.keys() - before.keys()) >= 4
    assert found["only_first"] == len(before.keys() - after.keys())
    for rows, number in ((before, 0), (after, 1)):
        stayed = [row for row in rows.values() if row["fate"] == "kept"]
        assert found["stages"]["shard"][number] == len(stayed)
        assert found["categories"]["language"]["en"][number] == len([row for row in stayed if row["language"] == "en"])
        assert sum(pair[number] for pair in found["tokens"].values()) == sum(row["tokens"] for row in stayed)
        unsure = [row for row in rows.values() if row["rule"] == "language.min_score"]
        assert found["rules"]["language.min_score"][number] == len(unsure)
    _check_page(text_of_page(tmp_path / "compare.html"), found)
    shown = " ".join(tokenmill("compare", one, two).stdout.split())
    assert f"{len(gone):,} documents are dropped now" in shown
    assert "stages.language.min_score" in shown
    same = json.loads(tokenmill("compare", one, one, "--json").stdout)
    assert same["config"] == {}
    assert same["newly_dropped"]["documents"] == same["only_first"] == 0


def _check_page(shown: str, found: dict[str, Any]) -> None:
    """Every figure of the comparison stands on the page."""
    for pairs in (found["stages"], found["rules"], found["tokens"], *found["categories"].values()):
        for key, (first, second) in pairs.items():
            if first != second:
                assert f"{key} {first:,} {second:,} {second - first:+,}" in shown
    for key, values in found["config"].items():
        assert " ".join([key, *(str(value) for value in values if value is not None)]) in shown
    assert f"{found['kept'][0]:,} documents were kept in the first run, {found['kept'][1]:,} in the second" in shown
    assert (
        f"{found['only_first']:,} records are in the first run alone, {found['only_second']:,} in the second" in shown
    )
    for title, moved in (("Kept now", found["newly_kept"]), ("Dropped now", found["newly_dropped"])):
        assert f"{title}: {moved['documents']:,}" in shown
        for row in moved["examples"]:
            assert f"{row['url'] or row['id']} {row['rule']}" in shown


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    gone: list[dict[str, Any]] = [
        {"id": "web:a#1", "url": f"https://evil.example/{HOSTILE}", "rule": "language.min_score"}
    ]
    gone += [{"id": "web:a#2", "url": None, "rule": "gopher.min_words"}]
    found = Comparison(
        {"stages.language.keep": (["en"], HOSTILE), "stages.quality.mine": (None, 0.5)},
        (20, 11),
        {"read": (40, 40), "language": (25, 19), HOSTILE: (20, 11)},
        {"language.min_score": (15, 21), "gopher.min_words": (5, 8), "c4.lorem": (3, 3)},
        {"shard train": (123_456, 65_432)},
        {"language": {"en": (20, 11), HOSTILE: (1, 0)}},
        Moved(),
        Moved(9, gone),
        0,
        3,
    )
    page = tmp_path / "compare.html"
    write_compare_page(page, RunFolder(Store("runs/june")), RunFolder(Store(f"runs/{HOSTILE}")), found)
    with browser() as shown:
        for width, dark in ((1400, False), (400, True)):
            shown.open(page, width, dark=dark)
            assert shown.evaluate("document.title").endswith("tokenmill compare")
            assert shown.evaluate("document.querySelectorAll('.chart').length") == 2
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.evaluate("document.querySelectorAll('main img, td script, h1 script, [onerror]').length") == 0
            text = shown.evaluate("document.querySelector('main').innerText")
            assert f"https://evil.example/{HOSTILE}" in text
            assert "web:a#2" in text
            assert "c4.lorem" not in text
        assert not shown.complaints


def test_a_run_that_is_none(tmp_path: Path) -> None:
    result = tokenmill("compare", tmp_path, tmp_path)
    assert result.returncode == 1
    assert "there is no run here" in " ".join(result.stderr.split())
    nowhere = tokenmill("compare", tmp_path, tmp_path, "--page", tmp_path / "none/page.html")
    assert nowhere.returncode == 2
    assert "there is no folder" in nowhere.stderr
