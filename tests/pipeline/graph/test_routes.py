"""Routes (`from: language[de]`): branches by language, nothing lost between them, and everything else as in any run."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from tests.paths import CONFIGS
from tests.runs import config_file, ledger, published, run, tokenmill
from tokenmill.pipeline.commands.compare import compare
from tokenmill.pipeline.commands.explain import explain
from tokenmill.pipeline.commands.plan import plan_status
from tokenmill.pipeline.commands.verify import verify
from tokenmill.pipeline.commands.what_if import what_if
from tokenmill.pipeline.errors import ConfigError
from tokenmill.pipeline.graph.config import load_config
from tokenmill.pipeline.graph.routes import NOT_TAKEN, NOT_TAKEN_ROW, join_inputs, split_input
from tokenmill.pipeline.report.report import build_report
from tokenmill.pipeline.report.run_page import run_page
from tokenmill.pipeline.run.corpus import corpus_of
from tokenmill.pipeline.run.run_plan import RunPlan
from tokenmill.pipeline.storage.documents import Routed, Selected, Stored, write_batches
from tokenmill.pipeline.storage.ledger_writer import account_routes
from tokenmill.pipeline.storage.receipts import StageCount
from tokenmill.pipeline.storage.run_folder import open_run
from tokenmill.pipeline.storage.store import Store

CRAWL = {"crawl": {"path": str(CONFIGS / "quickstart/crawl-*.warc.gz")}}
GERMAN = {"gopher": {"min_words": 30, "min_stop_words": 0}}
STAGES: dict[str, Any] = {
    "extract": {},
    "language": {"keep": ["en", "de", "fr"]},
    "quality-en": {"uses": "quality", "from": "language[en]", "rules": ["gopher"]},
    "dedup-en": {"uses": "deduplicate"},
    "quality-de": {"uses": "quality", "from": "language[de]", "rules": GERMAN},
    "dedup-de": {"uses": "deduplicate"},
    "tokenizer": {"from": ["dedup-en", "dedup-de"], "vocab_size": 400},
    "shard": {"tokens_per_shard": 20_000, "validation": 0.1},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routed")
    return config_file(folder / "routed.yaml", folder / "run", CRAWL, STAGES)


@pytest.fixture(scope="module")
def routed(config: Path) -> Path:
    run(config)
    return config.parent / "run"


def test_inputs_are_read_as_they_are_written() -> None:
    assert split_input("language") == ("language", ())
    assert split_input("language[en, zh-Hant]") == ("language", ("en", "zh-Hant"))
    assert join_inputs(["a[y]", "b", "a[x,y]"], "") == ("a[x,y]", "b")
    assert join_inputs(["a[y]", "a"], "") == join_inputs(["a", "a[y]"], "") == ("a",)


def test_a_routed_view_holds_what_has_the_value(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    languages = ["en", "de", None, "en", "fr", "de"]
    texts = pa.record_batch({"position": pa.array(range(0, 12, 2), pa.int32()), "text": list("abcdef")})
    kept = pa.record_batch({"position": pa.array([0, 2, 4, 6, 8], pa.int32()), "language": languages[:5]})
    for path, batch in (("texts", texts), ("kept", kept)):
        with store.create(path) as file:
            write_batches(file, iter([batch]), compression=None)
    view = Routed(Selected(Stored("texts"), "kept"), "language", ("de", "en"))
    assert view.positions(store).tolist() == [0, 2, 6]
    wanted = np.array([2, 4, 6, 8], np.int32)
    [found] = view.batches(store, ["text", "position"], wanted)
    assert found.to_pylist() == [{"text": "b", "position": 2}, {"text": "d", "position": 6}]
    assert not Routed(view, "language", ("fr",)).positions(store).size


def test_documents_are_counted_by_route() -> None:
    count = StageCount(6, 5)
    for values in (["en", "de", None], ["en", "en"]):
        account_routes(count, pa.array(values), np.arange(1, len(values) + 1))
    assert count.routes == {"en": [3, 4], "de": [1, 2]}
    assert count.kept_of(["de", "it"]) == (1, 2)
    assert count.kept_of([]) == (5, 0)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("language[it]", ["stages.last.from", "'language' gives no documents of 'it'", "known here: de, en"]),
        ("language[end]", ["did you mean 'en'?"]),
        ("extract[en]", ["'extract' is a extract stage, whose documents no value routes; language can"]),
        ("crawl[en]", ["'crawl' is a source"]),
        ("langage[en]", ["there is no source or stage 'langage'; did you mean 'language'?"]),
        ("language[en", ["'language[en' is not an input: write a name, name[value] or name[value,value]"]),
        ("language[]", ["'language[]' is not an input"]),
        ("language[en]]", ["is not an input"]),
    ],
)
def test_wrong_routes_are_refused(tmp_path: Path, source: str, says: list[str]) -> None:
    stages = {"extract": {}, "language": {"keep": ["en", "de"]}, "last": {"uses": "redact", "from": source}}
    path = config_file(tmp_path / "wrong.yaml", tmp_path / "run", CRAWL, stages)
    with pytest.raises(ConfigError) as caught:
        RunPlan.of(load_config(str(path)), str(path))
    for words in [str(path), *says]:
        assert words in str(caught.value)


def test_a_stage_that_keeps_all_languages_routes_by_any(tmp_path: Path) -> None:
    stages = {"extract": {}, "language": {"keep": "all"}, "last": {"uses": "redact", "from": "language[xx]"}}
    path = config_file(tmp_path / "all.yaml", tmp_path / "run", CRAWL, stages)
    assert RunPlan.of(load_config(str(path)), str(path)).dag.nodes["last"].parents == ("language",)


@pytest.mark.parametrize("entry", ["{uses: redact, from: language[en]}", "{from: [language[en], extract]}"])
def test_brackets_without_quotes_are_explained(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"output: x\nsources: {{}}\nstages:\n  last: {entry}\n")
    with pytest.raises(ConfigError, match=r'a name with brackets needs quotes: "language\[en\]"'):
        load_config(str(path))
    path.write_text(
        "output: x\nsources: {a: {path: a.txt}}\nstages:\n  language: {keep: all}\n  b:\n    from: language[en]\n"
    )
    assert (load_config(str(path)).stages["b"] or {})["from"] == "language[en]"


def test_a_step_ends_where_routes_begin(config: Path) -> None:
    state = RunPlan.of(load_config(str(config)), str(config))
    assert [step.name for step in state.steps if step.phase is None] == [
        "read+extract",
        "language",
        "quality-en",
        "quality-de",
    ]
    only = yaml.safe_load(config.read_text())
    del only["stages"]["quality-de"], only["stages"]["dedup-de"]
    only["stages"]["tokenizer"]["from"] = "dedup-en"
    path = config.with_name("only.yaml")
    path.write_text(yaml.safe_dump(only, sort_keys=False))
    assert "language" in RunPlan.of(load_config(str(path)), str(path)).step_names


def test_each_language_goes_its_way_and_none_is_lost(routed: Path) -> None:
    report = build_report(open_run(str(routed)))
    rows = ledger(routed).to_pylist()
    of = Counter((row["language"], row["fate"]) for row in rows)
    assert {row["language"] for row in rows if row["fate"] == "kept"} == {"en", "de"}
    assert report.stages["language"].routes.keys() == {"en", "de", "fr"}
    for name in ("en", "de"):
        assert report.stages[f"quality-{name}"].entered == report.stages["language"].routes[name][0]
        assert report.stages[f"quality-{name}"].bytes_entered == report.stages["language"].routes[name][1]
        assert report.stages[f"dedup-{name}"].kept == of[name, "kept"] > 0
    gone = [row for row in rows if row["rule"] == NOT_TAKEN]
    assert {(row["language"], row["stage"], row["fate"]) for row in gone} == {("fr", "language", "dropped")}
    assert len(gone) == report.stages["language"].routes["fr"][0] > 0
    assert report.stages[NOT_TAKEN_ROW].dropped == {NOT_TAKEN: len(gone)}
    assert report.stages["tokenizer"].kept == report.ledger.kept == of["en", "kept"] + of["de", "kept"]
    assert report.stages["tokenizer"].bytes_kept == report.stages["shard"].bytes_entered
    assert report.ledger.balances()
    assert not [row for row in rows if row["fate"] == "dropped" and row["rule"] is None]


def test_commands_answer_for_a_routed_run(routed: Path, config: Path) -> None:
    store = open_run(str(routed))
    assert not verify(store).problems
    gone = next(row for row in ledger(routed).to_pylist() if row["rule"] == NOT_TAKEN)
    [story] = explain(store, gone["id"])
    assert story["ended"] == {"stage": "language", "rule": NOT_TAKEN}
    page = run_page(store, build_report(store))
    assert re.search(r'<text class="soft"[^>]*>en</text>', page) and re.search(
        r'<text class="soft"[^>]*>de</text>', page
    )
    assert NOT_TAKEN in page
    assert "quality-de" in page
    answer = what_if(store, ["stages.quality-de.rules.gopher.min_words=100000"])
    assert answer.after.kept == 0
    assert answer.before.kept == build_report(store).stages["quality-de"].kept
    assert not any("way around" in sentence for sentence in answer.unknown)  # English goes another way
    assert "dedup-de" in answer.unknown[0]
    assert compare(store, store).as_json()
    plan = plan_status(load_config(str(config)), str(config))
    assert plan.edges["quality-de"] == ["language[de]"]
    assert {status.state for status in plan.steps} == {"done"}
    assert json.loads((routed / "run.json").read_text())["nodes"]["quality-de"]["routes"] == {"language": ["de"]}


def test_corpus_stages_below_routes_know_exact_counts(routed: Path, config: Path) -> None:
    plan = RunPlan.of(load_config(str(config)), str(config))
    for name in plan.step_names:
        plan.enter(plan.status(name))
    for name in ("dedup-de", "tokenizer"):
        node = plan.dag.nodes[name]
        corpus = corpus_of(plan, plan.finished, plan.views, node)
        for part, partition in zip(corpus.parts, plan.reaching(name), strict=True):
            view = plan.views.entering(node.inputs, partition)
            assert view is not None
            batches = list(view.batches(plan.store, ["position", "text"], None))
            sizes = sum(pc.sum(pc.binary_length(batch.column("text"))).as_py() for batch in batches)
            assert (part.kept, part.text_bytes) == (sum(batch.num_rows for batch in batches), sizes)
    direct = plan.views.counts_entering(("language[de,fr]",), plan.partitions[0])
    view = plan.views.entering(("language[de,fr]",), plan.partitions[0])
    assert view is not None
    assert direct[0] == len(view.positions(plan.store)) > 0


def test_one_worker_makes_the_same_bytes(routed: Path, config: Path, tmp_path: Path) -> None:
    result = tokenmill("run", config, "--workers", "1", "--output", tmp_path / "one")
    assert result.returncode == 0, result.stderr
    assert published(tmp_path / "one") == published(routed)


def test_another_route_reruns_what_depends_on_it(routed: Path, config: Path, tmp_path: Path) -> None:
    shutil.copytree(routed, tmp_path / "run")
    settings = ["stages.quality-fr={uses: quality, from: 'language[fr]', rules: {gopher: {min_stop_words: 0}}}"]
    settings += ["stages.tokenizer.from=[dedup-en, dedup-de, quality-fr]"]
    report, observer = run(config, *settings, output=tmp_path / "run")
    branches = ("read", "language", "quality-en", "quality-de", "dedup-en", "dedup-de")
    assert {"quality-fr", "tokenizer.sample", "ledger"} <= observer.steps()
    assert not [step for step in observer.steps() if step.startswith(branches)]
    assert NOT_TAKEN_ROW not in report.stages
    _, observer = run(config, *settings, "stages.quality-de.rules.gopher.min_words=31", output=tmp_path / "run")
    assert not [step for step in observer.steps() if step.startswith(("quality-en", "quality-fr", "dedup-en"))]


def test_branches_with_the_same_rules_are_one_run_without_routes(tmp_path: Path) -> None:
    head = {"extract": {}, "language": {"keep": "all", "min_score": 0.3}}
    rules = {"rules": {"gopher": {"min_words": 40, "min_stop_words": 0}}}
    one = head | {"quality": rules, "end": {"uses": "redact"}}
    routes = {"a": "language[en]", "b": "language[de,es,fr]", "c": ["language[it]", "language[ja,ru,la]"]}
    several = head | {name: {"uses": "quality", "from": source, **rules} for name, source in routes.items()}
    several |= {"end": {"uses": "redact", "from": list(routes)}}
    for name, stages in (("one", one), ("several", several)):
        run(config_file(tmp_path / f"{name}.yaml", tmp_path / name, CRAWL, stages))
    found = [ledger(tmp_path / name).to_pylist() for name in ("one", "several")]
    taken = {"en", "de", "es", "fr", "it", "ja", "ru", "la"}
    for row, routed_row in zip(*found, strict=True):
        assert row["id"] == routed_row["id"]
        if row["stage"] in ("quality", None) and row["language"] not in taken:
            assert (routed_row["rule"], routed_row["stage"]) == (NOT_TAKEN, "language")
        else:
            assert [row[key] for key in ("fate", "rule", "value")] == [
                routed_row[key] for key in ("fate", "rule", "value")
            ]
    assert {row["language"] for row in found[0] if row["fate"] == "kept"} >= {"en", "de", "fr"}
