"""What a stage says of a run, a user's own too, stands in its reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs import config_file, jsonl_file, run, text_of, tokenmill
from tokenmill.pipeline.commands.what_if import what_if
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.report.run_page import run_page
from tokenmill.pipeline.storage.run_folder import open_run

OWN_STAGE = """
import pyarrow as pa
import pyarrow.compute as pc
from tokenmill.stages.report import Bars, Chart, Curve, DocumentPair, Heading, Paragraph, Points, Section, Snippets
from tokenmill.stages.report import StageSummary, Table
from tokenmill.stages.stage import Filter, Verdicts


class Twins(Filter):
    refers_to = ("twin",)

    def judge(self, documents):
        twins = pc.binary_join_element_wise(pa.scalar("texts:x"), documents.column("position").cast(pa.string()), "#")
        kinds = pa.array(["<b>plain</b>"] * documents.num_rows)
        return Verdicts.all_kept(documents.num_rows, {"twin": twins, "kind_of_text": kinds})

    def left_unknown(self, name):
        return f"Whether {name} would find twins."

    def _counted(self, run):
        return sum(len(batch) for batch in run.ledger(["id", "twin"]))

    def summary(self, run):
        count = self._counted(run)
        entered, kept = run.sources["texts"]
        return StageSummary(
            [f"{run.name}: {count} twins"], [f"{run.name}: {kept} of {entered} kept"], {"twins": str(count)}, {"twins": count}
        )

    def report_sections(self, run):
        first, second = next(run.ledger(["id"])).column("id").to_pylist()[:2]
        axes = Chart("x", "y", 1, [Curve("line", [0, 1], [0, 1]), Bars("bars", [0, 0.5, 1], [1, 0.5])])
        measured = Chart("x", "y", 1, [Points("points", [0.5], [0.5], [0.1], {"pairs of it": ("0,0", [7])})])
        return [
            Section("Twins", [Heading("Of all"), Paragraph("Two <i>of</i> a kind.", is_soft=True), axes, measured]),
            Section("Twins", [
                Table(["name", "count"], [["one", 1234], ["none", None]], ["count"]),
                Snippets("Seen:", ["  a ", "<u>"]),
                DocumentPair("both alike", first, second, 0.5),
            ]),
        ]
"""


def test_a_stage_of_a_user_s_own_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/twin_stages.py").write_text(OWN_STAGE)
    monkeypatch.syspath_prepend(tmp_path / "own")
    jsonl_file(tmp_path / "texts.jsonl", [{"text": text_of("soap", number)} for number in range(5)])
    stages = {
        "mild": {"uses": "quality", "rules": {"gopher": {"min_words": 1}}},
        "twins": {"uses": "twin_stages:Twins"},
    }
    sources = {"texts": {"path": str(tmp_path / "texts.jsonl")}}
    run(config_file(tmp_path / "c.yaml", tmp_path / "run", sources, stages))
    left = open_run(str(tmp_path / "run"))
    report = build_report(left)
    assert report.lines == ["twins: 5 twins"]
    assert "twins: 5 of 5 kept" in report.notices
    assert report.as_json()["figures"] == {"twins": {"twins": 5}}
    page = run_page(left, report)
    assert page.count("<h2>Twins (twins)</h2>") == 2
    assert "<h3>Of all</h3>" in page
    assert '<p class="long soft" dir="auto">Two &lt;i&gt;of&lt;/i&gt; a kind.</p>' in page
    assert '<td>one</td><td class="number">1,234</td>' in page
    assert '<code class="token">  a </code>' in page
    assert "both alike" in page
    assert "dropped, similarity 0.5" in page
    assert page.count('data-chart="section-') == 2
    assert "<b>5</b><span" in page
    assert "<h2>Kind of text</h2>" in page
    assert "&lt;b&gt;plain&lt;/b&gt;" in page
    assert "<h2>Twin</h2>" not in page
    answer = what_if(left, ["stages.mild.rules.gopher.min_words=1000"])
    assert "Whether twins would find twins." in answer.unknown
    # a stage that is not there any more costs the report what it would say, and nothing else
    described = json.loads((tmp_path / "run/run.json").read_text())
    described["nodes"]["twins"]["uses"] = "gone_stages:Twins"
    (tmp_path / "run/run.json").write_text(json.dumps(described))
    shown = tokenmill("report", tmp_path / "run")
    assert shown.returncode == 0, shown.stderr
    assert "twins: cannot be loaded" in " ".join(shown.stdout.split())
