"""The page of a run: every number is a query over the ledger, and in a browser hostile text stays text."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.browser import browser
from tests.runs import STAGES, config_file, jsonl_file, receipts_of, run, text_of, tokenmill
from tokenmill.pipeline.report.dag_diagram import dag_picture
from tokenmill.pipeline.report.histogram import Histogram, Threshold, edges_around
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.report.run_page import write_run_page
from tokenmill.pipeline.report.stage_run import StageRunView
from tokenmill.pipeline.report.stage_sections import marked
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.stages.dedup.agreement import measure_agreement
from tokenmill.stages.dedup.report import find_duplicates
from tokenmill.stages.stage import ThresholdRule

HOSTILE = (
    "This is a short text of the kind that people write: "
    '<script>document.title = "run"</script><img src=x "onerror=alert(1)> \u202egnitirw\u2066 </pre>'
)
LONG_LINE = "word " * 200_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over texts of which some are hostile, some copies, one a line of 1 MB, and one line is no JSON."""
    folder = tmp_path_factory.mktemp("page")
    rows: list[Any] = [{"url": f"https://maps.example/{n}", "text": text_of("maps", n)} for n in range(20)]
    rows += [{"url": f"https://copies.example/{n}", "text": text_of("maps", 3) + " More."} for n in range(4)]
    rows += [{"url": f"https://again.example/{n}", "text": text_of("maps", n) + f" {n} more."} for n in range(6, 11)]
    rows += [
        {"url": f"https://evil.example/{HOSTILE}", "text": HOSTILE},
        {"url": "https://long.example/", "text": LONG_LINE},
    ]
    rows += [{"url": "https://kurz.example/", "text": "Der kurze Text auf Deutsch ist nicht sehr lang."}, "{no json"]
    jsonl_file(folder / "texts.jsonl", rows)
    other = [{"url": f"https://tides.example/{n}", "text": text_of("tides", n)} for n in range(9)]
    jsonl_file(
        folder / "other.jsonl", [*other, {"url": "https://more.example/", "text": text_of("maps", 15) + " More."}]
    )
    sources = {"texts": {"path": str(folder / "texts.jsonl")}, "other": {"path": str(folder / "other.jsonl")}}
    stages = {**STAGES, "quality": {"rules": ["gopher", "gopher_repetition"]}}
    config = config_file(folder / "config.yaml", folder / "run", sources, stages)
    run(config)
    left = open_run(str(folder / "run"))
    write_run_page(left, build_report(left))
    return folder / "run"


def text_of_page(run: Path) -> str:
    page = (run / "report.html").read_text()
    body = page[page.index("<main>") : page.index("</main>")]
    return " ".join(unescape(re.sub(r"<script.*?</script>|<[^>]*>", " ", body, flags=re.S)).split())


def query(run: Path, sql: str) -> list[Any]:
    return duckdb.sql(sql.replace("LEDGER", f"'{run}/ledger/*.parquet'")).fetchall()


def test_every_number_is_a_query(finished: Path) -> None:
    shown = text_of_page(finished)
    ((entered, kept),) = query(finished, "SELECT count(*), count(*) FILTER (fate = 'kept') FROM LEDGER")
    ((failed,),) = query(finished, "SELECT count(*) FROM LEDGER WHERE fate = 'failed'")
    ((tokens,),) = query(finished, "SELECT sum(tokens) FROM LEDGER")
    assert (
        f"{entered:,} records came in, {kept:,} documents were kept ({kept / entered:.1%}) as {tokens:,} tokens"
        in shown
    )
    assert f"{failed} records failed" in shown
    for rule, count in query(finished, "SELECT rule, count(*) FROM LEDGER WHERE fate = 'dropped' GROUP BY rule"):
        assert f"{count:,} {rule}" in shown
    for column in ("language", "split"):
        counts = f"SELECT {column}, count(*), count(*) FILTER (fate = 'kept') FROM LEDGER WHERE {column} IS NOT NULL GROUP BY 1"
        for value, documents, stayed in query(finished, counts):
            assert f"{value} {documents:,} {stayed:,} {stayed / documents:.1%}" in shown
    sizes = (
        "SELECT language, sum(text_bytes) / sum(tokens) FROM LEDGER WHERE fate = 'kept' AND text_bytes > 0 GROUP BY 1"
    )
    for language, ratio in query(finished, sizes):
        assert re.search(rf"\b{language} [\d,]+ [\d,]+ [\d.]+% [\d,]+ {ratio:.2f}\b", shown)
    hosts = r"SELECT regexp_extract(url, '^[a-z]+://([^/:?#]+)', 1) h, count(*), count(*) FILTER (fate = 'kept') FROM LEDGER"
    domains = query(finished, f"{hosts} WHERE url LIKE '%://%' GROUP BY h")
    assert f"{len(domains)} in all" in shown
    for host, documents, stayed in domains:
        assert f"{host} {documents:,} {stayed:,}" in shown
    for rule, condition, words in [
        ("gopher.min_words", "words < 50", "below 50"),
        ("gopher.max_mean_word_length", "mean_word_length > 10", "above 10"),
        ("gopher_repetition.max_top_2_gram", "top_2_gram > 0.2", "above 0.2"),
        ("language.min_score (en)", "language = 'en' AND language_score < 0.65", "below 0.65"),
    ]:
        column = condition.split()[0] if "score" not in condition else "language_score"
        of = f"{column} IS NOT NULL" + (" AND language = 'en'" if "score" in condition else "")
        ((cut,),) = query(finished, f"SELECT count(*) FROM LEDGER WHERE {condition}")
        ((measured,),) = query(finished, f"SELECT count(*) FROM LEDGER WHERE {of}")
        assert f"{rule} : {cut:,} of {measured:,} documents {words}" in shown.replace(f"{rule}:", f"{rule} :")
    ((copies,),) = query(finished, "SELECT max(copies) FROM LEDGER")
    assert copies > 1
    assert f"{copies} documents stand as one" in shown
    card = json.loads((finished / "shard/dataset.json").read_text())
    for split in card["splits"].values():
        assert f"{split['documents']:,} {split['tokens']:,} {split['bytes'] / split['tokens']:.3f}" in shown
    assert card["fingerprint"] in shown
    for rule, message in query(finished, "SELECT rule, message FROM LEDGER WHERE fate = 'failed'"):
        assert f"{rule} {' '.join(message.split())}" in shown

    by_source = query(finished, "SELECT source, count(*) FROM LEDGER WHERE fate = 'kept' GROUP BY 1")
    kept_of = dict(by_source)
    assert f"shard {' '.join(str(kept_of[name]) for name in sorted(kept_of))} Documents kept." in shown
    assert "14 bands of 8 rows find pairs by similarity 0.5: 5.3%, 0.6: 21.1%, 0.7: 56.5%, 0.8: 92.4%" in shown


def test_bands_are_measured_from_the_signatures(finished: Path) -> None:
    run = open_run(str(finished))
    shown_run = StageRunView(run, "deduplicate", {})
    pairs = list(find_duplicates(shown_run, has_earlier=False).pairs.values())
    measured = measure_agreement(shown_run, 14, 8, pairs)
    assert measured is not None
    keys = {}
    for receipt in receipts_of(finished, "deduplicate.signatures"):
        with pa.memory_map(str(finished / receipt.outputs["table"].path)) as table:
            for row in pa.ipc.open_file(table).read_all().to_pylist():
                keys[f"{receipt.partition}#{row['position']}"] = [row[f"band{band:03d}"] for band in range(14)]
    duplicates = "SELECT id, survivor, similarity FROM LEDGER WHERE similarity IS NOT NULL ORDER BY source, position"
    first: dict[str, tuple[float, list[bool]]] = {}
    for goes, stays, similarity in query(finished, duplicates):
        agrees = [one == other for one, other in zip(keys[goes], keys[stays], strict=True)]
        first.setdefault(stays, (similarity, agrees))
    assert len(first) >= 6
    assert len({name.partition(":")[0] for pair in pairs for name in pair[:2]}) == 2  # of two files
    assert sorted(zip(measured.similarity.tolist(), measured.agrees.tolist(), strict=True)) == sorted(first.values())
    mean = sum(sum(agrees) for _, agrees in first.values()) / len(first)
    shown = text_of_page(finished)
    assert f"in {len(first)} pairs of a dropped document" in shown
    assert f"In all {mean:.2f} bands agree in a pair; theory has {measured.all().expected:.2f}" in shown
    nowhere = StageRunView(run, "language", {})
    assert measure_agreement(nowhere, 14, 8, pairs) is None


def test_a_source_of_duplicates_is_pointed_out(tmp_path: Path) -> None:
    rows = [{"text": text_of("maps", n)} for n in range(12)]
    jsonl_file(tmp_path / "a.jsonl", rows)
    jsonl_file(tmp_path / "b.jsonl", [*rows[:9], {"text": text_of("bees", 1)}])
    sources = {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in ("a", "b")}
    run(config_file(tmp_path / "config.yaml", tmp_path / "run", sources, STAGES))
    shown = " ".join(tokenmill("report", tmp_path / "run").stdout.split())
    assert "deduplicate: source b loses 90% of its documents: look at the largest clusters" in shown
    assert "source a loses" not in shown


def test_each_rule_names_the_documents_nearest_to_it(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    start = page.index("<b>gopher.min_words</b> at 50")
    listed = page[start : page.index("</details>", start)]
    for fate, order in (("kept", "words - 50"), ("dropped", "50 - words")):
        where = f"fate = '{fate}'" + (" AND rule = 'gopher.min_words'" if fate == "dropped" else "")
        distances = query(finished, f"SELECT abs({order}) FROM LEDGER WHERE {where} ORDER BY 1 LIMIT 10")
        assert distances
        side = listed[listed.index(">kept<" if fate == "kept" else ">dropped<") :].split("</ul>")[0]
        values = [float(item.split()[0].replace(",", "")) for item in side.split('<li class="long">')[1:]]
        assert [(abs(value - 50),) for value in values] == distances


def test_in_a_browser(finished: Path) -> None:
    with browser() as shown:
        for width, dark in ((1400, False), (400, True)):
            shown.open(finished / "report.html", width, dark=dark)
            assert shown.evaluate("document.title").endswith("tokenmill run")
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.evaluate("document.querySelectorAll('main img, main pre script, .long script').length") == 0
            assert shown.evaluate("document.querySelectorAll('[onerror]').length") == 0
        # a slider is moved by keys alone, and tells what its histogram holds
        slider = "document.querySelector('input[aria-label=\"threshold of gopher.min_words\"]')"
        dropped = f"{slider}.closest('label').querySelector('.dropped').textContent"
        shown.evaluate(f"{slider}.focus()")
        before = shown.evaluate(dropped)
        while shown.evaluate(f"{slider}.value != {slider}.max"):
            shown.press("ArrowRight")
        ((measured, below),) = query(
            finished, "SELECT count(words), count(*) FILTER (words < (SELECT max(words) FROM LEDGER)) FROM LEDGER"
        )
        ((short,),) = query(finished, "SELECT count(*) FROM LEDGER WHERE words < 50")
        assert before.startswith(f"{short} documents (")
        assert shown.evaluate(dropped).startswith((f"{measured} documents", f"{below} documents"))
        # a link leads to a document's story, which unfolds
        evil = "[...document.querySelectorAll('li a')].find(link => link.textContent.includes('evil.example'))"
        shown.evaluate(f"(() => {{ const link = {evil}; link.closest('details').open = true; link.click(); }})()")
        story = "document.getElementById(decodeURIComponent(location.hash.slice(1)))"
        shown.evaluate("new Promise(done => setTimeout(done, 50))")
        assert shown.evaluate(f"{story}.open")
        assert shown.evaluate(f"{story}.querySelector('pre').textContent") == HOSTILE
        assert not shown.complaints
    assert (finished / "report.html").stat().st_size < 5_000_000


def test_report_writes_the_page_and_figures_for_prometheus(finished: Path, tmp_path: Path) -> None:
    (finished / "report.html").unlink()
    result = tokenmill("report", finished, "--prometheus", tmp_path / "run.prom")
    figures = (tmp_path / "run.prom").read_text()
    ((kept,),) = query(finished, "SELECT count(*) FROM LEDGER WHERE fate = 'kept'")
    assert f'tokenmill_documents_kept{{run="{finished}",stage="shard"}} {kept}.0\n' in figures
    for rule, count in query(finished, "SELECT rule, count(*) FROM LEDGER WHERE fate = 'dropped' GROUP BY rule"):
        assert re.search(rf'tokenmill_documents_dropped{{rule="{rule}",run="[^"]+",stage="\w+"}} {count}\.0\n', figures)
    assert all(re.fullmatch(r"# (HELP|TYPE) .+|tokenmill_\w+\{.*\} [\d.e+]+", line) for line in figures.splitlines())
    assert result.returncode == 0, result.stderr
    assert f"Page: {finished}/report.html" in result.stdout
    assert (finished / "report.html").stat().st_size > 1_000_000
    cost = build_report(open_run(str(finished))).costs["read+extract"]
    ((records,),) = query(finished, "SELECT count(*) FROM LEDGER")
    assert cost.documents == records
    rate = f'<td class="number">{cost.seconds:,.2f}</td><td class="number">{records / cost.seconds:,.0f}</td>'
    assert rate in (finished / "report.html").read_text()


@given(
    values=st.lists(st.floats(0, 5000, width=32), min_size=1, max_size=60),
    threshold=st.floats(0, 3000, width=32),
    is_least=st.booleans(),
)
def test_a_threshold_s_sides_are_exact(values: list[float], threshold: float, is_least: bool) -> None:
    array = np.array(values)
    rule = ThresholdRule("rule", "measure", threshold, is_least)
    edges, is_logarithmic = edges_around(array.min(), array.max(), rule)
    one = Histogram(Threshold("stage", "measure", None, rule), edges, is_logarithmic)
    one.add(array, array > 100)
    assert (np.diff(edges) > 0).all()
    assert one.documents == len(values)
    assert one.kept.sum() == (array > 100).sum()
    assert one.beyond == int((array < threshold).sum() if is_least else (array > threshold).sum())


def test_differences_are_marked_and_escaped() -> None:
    left, right = marked("one <b>two three", "one three & four")
    assert left == "one <mark>&lt;b&gt;two</mark> three"
    assert right == "one three <mark>&amp; four</mark>"


def test_the_picture_tells_what_each_stage_cost(finished: Path) -> None:
    left = open_run(str(finished))
    described, report = left.described, build_report(left)
    tasks = {step["name"]: step["tasks"] for step in described["steps"]}
    report.ran = tasks | {"tokenizer.sample": 0, "shard.pack": 1}
    report.ran |= {step: 0 for step in tasks if step.startswith("deduplicate")}
    boxes = dag_picture(described, report)["boxes"]
    ((records, entered),) = query(
        finished,
        "SELECT count(*) FILTER (source = 'texts'), count(*) FILTER (rule IS NULL OR stage != 'read') FROM LEDGER",
    )
    assert boxes["texts"]["lines"] == ["texts", f"{records} records"]
    seconds = report.costs["language+quality"].seconds
    assert boxes["language"]["lines"] == [
        "language",
        f"{seconds:,.1f} s · {entered / seconds:,.0f} documents/s",
        "ran",
    ]
    assert boxes["quality"]["lines"] == ["quality", "in one task with language"]
    assert boxes["deduplicate"]["lines"][2] == "reused"
    assert re.fullmatch(r"ran \d+ of \d+ tasks", boxes["shard"]["lines"][2])
    assert "in one task with language" in text_of_page(finished)
