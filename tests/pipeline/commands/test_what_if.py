"""`what-if` says what a rerun with the setting then does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runs import STAGES, config_file, jsonl_file, ledger, run, text_of, tokenmill, tokenmill_here
from tokenmill.pipeline.commands import what_if as asked
from tokenmill.pipeline.commands.what_if import EXAMPLES, what_if
from tokenmill.pipeline.errors import ConfigError, RunError
from tokenmill.pipeline.storage.run_folder import open_run

RULES = (
    "stages.quality.rules={gopher: {min_words: 135}, gopher_repetition: {max_top_2_gram: 0.05}, fineweb: {}, nemo: {}, "
    "c4: {min_sentences: 8}}"
)
ASKED = [
    "stages.quality.rules.gopher.min_words=150",
    "stages.quality.rules.gopher.min_words=0",
    "stages.quality.rules.gopher.max_mean_word_length=4.5",
    "stages.quality.rules.gopher_repetition.max_top_2_gram=0.02",
    "stages.quality.rules.fineweb.max_short_lines=1",
    "stages.quality.rules.fineweb.max_line_breaks=0.05",
    "stages.quality.rules.nemo.max_white_space=0.17",
    "stages.quality.rules.c4.min_sentences=10",
    "stages.quality.rules={gopher: {min_words: 140}}",
    "stages.quality.rules={gopher_repetition: {}, fineweb: {}}",
    "stages.language.min_score=0.5",
    "stages.language.keep=[de]",
    "stages.language.keep.en=0.98",
]


def reaching(rows: list[dict[str, Any]], stage: str) -> dict[str, bool]:
    """Documents that reach a stage, and whether it keeps them, by id."""
    after = {"language": ("quality", "deduplicate"), "quality": ("deduplicate",)}[stage]
    return {
        row["id"]: row["stage"] != stage
        for row in rows
        if row["fate"] == "kept" or row["stage"] == stage or row["stage"] in after
    }


def test_a_rerun_keeps_and_drops_what_was_said(crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "EXAMPLES", 10_000)
    stages = {name: STAGES[name] for name in ("extract", "language", "quality", "deduplicate")}
    output = tmp_path / "run"
    config = config_file(crawl, output, yaml.safe_load(crawl.read_text())["sources"], stages)
    base = ("stages.language.min_score=0.97", RULES)
    run(config, *base)
    before = ledger(output).to_pylist()
    answers = {setting: what_if(open_run(str(output)), [setting]) for setting in ASKED}
    moved = {True: 0, False: 0}
    for setting, answer in answers.items():
        report, _ = run(config, *base, setting)
        stage = setting.split(".")[1]
        count = report.stages[stage]
        assert (answer.after.kept, dict(answer.after.dropped)) == (count.kept, count.dropped), setting
        if stage == "language":  # C4's rules leave less of the text
            assert answer.after.bytes_kept == count.bytes_kept
        was, now = reaching(before, stage), reaching(ledger(output).to_pylist(), stage)
        for movers, side in ((answer.newly_dropped, True), (answer.newly_kept, False)):
            assert {one["id"] for _, one in movers.examples} == {
                d for d in was if was[d] is side and now[d] is not side
            }
            assert movers.documents == len(movers.examples)
            moved[side] += movers.documents
    assert min(moved.values()) > 10


def test_examples_tokens_and_what_is_unknown(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    store = open_run(str(output))
    answer = what_if(store, ["stages.quality.rules.gopher.min_words=100_000"])
    assert answer.after.kept == 0
    assert len(answer.newly_dropped.examples) == EXAMPLES < answer.newly_dropped.documents
    assert answer == what_if(store, ["stages.quality.rules.gopher.min_words=100_000"])
    for _, example in answer.newly_dropped.examples:
        assert example["rule"] == "gopher.min_words"
        assert example["value"] < example["threshold"] == 100_000
    card = json.loads((output / "shard/dataset.json").read_text())
    assert answer.tokens == answer.tokens_lost == sum(split["tokens"] for split in card["splits"].values())
    assert len(answer.unknown) == 2
    assert "deduplicate would choose" in answer.unknown[0]
    kept = what_if(store, ["stages.language.min_score=0", "stages.language.keep=all"])
    assert kept.newly_kept.documents == 0
    assert kept.unknown == []


def test_a_way_around_the_stage(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "texts.jsonl", [{"text": text_of("tides", number)} for number in range(14)])
    stages: dict[str, Any] = {
        "strict": {"uses": "quality", "rules": ["gopher"]},
        "mild": {"uses": "quality", "from": "texts", "rules": {"gopher": {"min_words": 3}}},
        "tokenizer": {"from": ["strict", "mild"], "vocab_size": 500},
    }
    config = config_file(
        tmp_path / "config.yaml", tmp_path / "run", {"texts": {"path": str(tmp_path / "texts.jsonl")}}, stages
    )
    run(config)
    answer = what_if(open_run(str(tmp_path / "run")), ["stages.strict.rules.gopher.min_words=1000"])
    assert answer.newly_dropped.documents == 14
    assert any("way around" in sentence for sentence in answer.unknown)
    assert answer.tokens is None


def test_the_command(finished_crawl: Path) -> None:
    output = finished_crawl.parent / "run"
    setting = "stages.quality.rules.gopher.min_words=150"
    shown = " ".join(tokenmill("what-if", output, "--set", setting).stdout.split())
    told = json.loads(tokenmill("what-if", output, "--set", setting, "--json").stdout)
    assert f"kept {told['now']['kept']:,} {told['then']['kept']:,}" in shown
    assert told["now"]["kept"] - told["then"]["kept"] == told["newly_dropped"]["documents"] > 0
    assert told["then"]["dropped"] == sum(told["then"]["rules"].values())
    assert told["newly_dropped"]["examples"][0]["url"] in shown
    assert "Not known from the ledger" in shown


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stages.language.sample_bytes=1000", "`sample_bytes`"),
        ("stages.quality.stop_words=[the, a]", "`stop_words`"),
        ("stages.quality.rules={gopher: {}, nemo: {}}", "did not measure what the rule set 'nemo' compares"),
        ("stages.deduplicate.similarity=0.9", "decides by more than the ledger holds"),
        ("stages.quality.from=web", "the DAG would be another"),
        ("output=else.where", "only what a stage decides is in the ledger"),
        ("stages={}", "only what a stage decides is in the ledger"),
        ("stages.qualty.rules=[]", "did you mean 'quality'?"),
        ("stages.quality.rules.gopher.min_word=3", "did you mean 'min_words'?"),
        (None, "nothing to evaluate: give --set KEY=VALUE"),
    ],
)
def test_what_the_ledger_cannot_answer(setting: str | None, says: str, finished_crawl: Path) -> None:
    result = tokenmill_here("what-if", finished_crawl.parent / "run", *([] if setting is None else ["--set", setting]))
    assert result.returncode == 2
    assert says in result.stderr
    if "'" not in says and setting:
        assert "Run it: tokenmill run CONFIG" in result.stderr


@pytest.fixture(scope="module")
def run_with_edits(finished_crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the crawl with rules that edit texts, for tests that change nothing in it."""
    output = tmp_path_factory.mktemp("edits") / "run"
    run(finished_crawl, "stages.quality.rules={gopher: {}, c4: {}, fineweb: {}}", output=output)
    return output


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stages.quality.rules.c4.line_min_words=5", "other lines taken out"),
        ("stages.quality.rules={c4: {}, gopher: {}, fineweb: {}}", "'gopher' would measure texts with other lines"),
        ("stages.quality.rules={gopher: {}, fineweb: {}}", "'fineweb' would measure texts with other lines"),
        ("stages.quality.rules.fineweb.short_line=20", "`fineweb.short_line`"),
        ("stages.language.min_score=0.1,stages.quality.rules.gopher.min_words=1", "one stage at a time"),
    ],
)
def test_what_would_be_measured_otherwise(setting: str, says: str, run_with_edits: Path) -> None:
    settings = setting.split(",stages") if setting.startswith("stages.language") else [setting]
    with pytest.raises(ConfigError, match=says):
        what_if(open_run(str(run_with_edits)), [settings[0], *("stages" + rest for rest in settings[1:])])


def test_a_run_that_is_not_finished_or_not_its_own(crawl: Path) -> None:
    run(crawl)
    output = crawl.parent / "run"
    ledger_file = sorted((output / "ledger").iterdir())[0]
    content = ledger_file.read_bytes()
    ledger_file.unlink()
    with pytest.raises(RunError, match="tokenmill verify"):
        what_if(open_run(str(output)), ["stages.language.min_score=0.1"])
    ledger_file.write_bytes(content)
    described = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(described | {"complete": False}))
    with pytest.raises(RunError, match="not finished"):
        what_if(open_run(str(output)), ["stages.language.min_score=0.1"])
