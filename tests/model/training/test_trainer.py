"""Training runs: they learn, resume exactly, and say what stops them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.model.runs import COMPILE_BY_TRACING, config_for, finished, losses, metrics, train_process
from tests.paths import CONFIGS
from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.data.data_log import samples_of_step
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.bad_steps import TrainingStopped
from tokenmill.model.training.config import load_train_config
from tokenmill.model.training.evaluate import evaluate
from tokenmill.model.training.metrics import StepLines
from tokenmill.model.training.parallel import ParallelDims
from tokenmill.model.training.run_folder import find_checkpoint
from tokenmill.model.training.saved_model import load_model
from tokenmill.model.training.trainer import Trainer, train

ALONE = ParallelDims(0, 1, 0, 1, torch.device("cpu"), None)


def run(config: Path, *settings: str) -> list[float]:
    loaded = load_train_config(str(config), settings)
    assert train(loaded)
    return losses(Path(loaded.output))


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = find_checkpoint(run)
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def test_it_learns_and_writes_what_happened(tmp_path: Path) -> None:
    config = config_for(
        tmp_path, schedule={"steps": 150, "warmup_steps": 10}, evaluation={"every": 50, "prompt": "w3 w4"}
    )
    found = run(config)
    assert len(found) == 150
    # a token follows from the one before it in 9 cases of 10: about 0.7 nats are left
    assert found[0] > 3.5
    assert found[-1] < 1.6
    lines = metrics(tmp_path / "run")
    validations = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in validations] == [49, 99, 149]
    assert validations[-1]["validation_loss"] < validations[0]["validation_loss"]
    assert sum("tokens_per_second" in line for line in lines) >= 30
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [49, 99, 149]
    assert all(sample["text"].startswith("w3 w4 w") for sample in samples)


def test_a_batch_can_be_learned_by_heart(tmp_path: Path) -> None:
    trained = Trainer(
        load_train_config(str(config_for(tmp_path, schedule={"steps": 300, "warmup_steps": 10}, batch_size=4))), ALONE
    )
    batch = next(iter(trained.samples))
    for trained.step in range(300):
        loss, _ = trained._step(itertools.repeat(batch))
    assert loss.item() < 0.05


@pytest.mark.parametrize("choices", [{}, {"activation_checkpointing": "selective"}, {"loss_chunk": 7}], ids=str)
def test_accumulation_changes_nothing(tmp_path: Path, choices: dict[str, Any]) -> None:
    config = config_for(tmp_path, **choices)
    whole = run(config, "micro_batch_size=8", f"output={tmp_path / 'whole'}")
    for rows in (1, 2, 4):
        parts = run(config, f"micro_batch_size={rows}", f"output={tmp_path / f'parts-{rows}'}")
        assert parts == pytest.approx(whole, rel=1e-5)


def test_a_compiled_run_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", COMPILE_BY_TRACING)
    shape: dict[str, Any] = {
        "n_layers": 2,
        "d_model": 32,
        "n_heads": 4,
        "context_length": 16,
        "qk_norm": True,
        "n_kv_heads": 2,
    }
    shape |= {"attention": ["sliding", "full"], "sliding_window": 5}
    config = config_for(tmp_path, model=shape, loss_chunk=50, activation_checkpointing="selective")
    plain = run(config, f"output={tmp_path / 'plain'}")
    stats = torch._dynamo.utils.counters["stats"]
    before = stats["unique_graphs"]
    assert run(config, "compile=true", f"output={tmp_path / 'compiled'}") == pytest.approx(plain, rel=1e-5)
    # one graph for learning, one for evaluation: nothing falls out of them
    assert stats["unique_graphs"] == before + 2


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {
            "precision": "bf16",
            "optimizer": {"kind": "muon"},
            "data": {"packing": "best_fit", "document_masking": True, "mixture": 2},
            "loss_chunk": 50,
        },
    ],
    ids=["plain", "muon in bf16, mixture of packed documents"],
)
def test_a_killed_run_goes_on_bit_by_bit(tmp_path: Path, choices: dict[str, Any]) -> None:
    path = str(tmp_path / "data")
    data = {"path": path, **choices.get("data", {})}
    if "mixture" in data:
        data |= {"path": None, "mixture": [{"path": path, "weight": weight} for weight in (1.0, 2.0)]}
    common = {
        **choices,
        "data": data,
        "schedule": {"steps": 150, "warmup_steps": 5},
        "checkpoint": {"every": 7},
        "log_every": 3,
    }
    straight = config_for(tmp_path, "straight", **common)
    expected = run(straight)
    killed = config_for(tmp_path, "killed", **common)
    folder = tmp_path / "killed"
    kills = 0
    while True:
        process = train_process(killed)
        begun = len(metrics(folder)) if (folder / "metrics.jsonl").exists() else 0
        deadline = time.time() + 120
        while process.poll() is None and kills < 2 and time.time() < deadline:
            # a line more than at the start: somewhere between two checkpoints, or in the midst of one
            if (folder / "metrics.jsonl").exists() and len(
                (folder / "metrics.jsonl").read_text().splitlines()
            ) > begun + 20:
                process.kill()
                kills += 1
                break
            time.sleep(0.01)
        process.communicate()
        if process.returncode == 0:
            break
    assert kills == 2
    assert losses(folder) == expected
    assert [line["step"] for line in metrics(folder) if "loss" in line] == list(range(150))
    for name, weight in weights(tmp_path / "straight").items():
        assert torch.equal(weight, weights(folder)[name]), name


def test_resuming_with_another_accumulation_goes_on_at_the_same_sample(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    expected = run(config, f"output={tmp_path / 'straight'}")
    run(config, "schedule.steps=8", "schedule.warmup_steps=2", "micro_batch_size=2")
    # the schedule is another then, the samples are not
    run(config, "micro_batch_size=8")
    for step in (3, 8, 11):
        _, straight = samples_of_step(tmp_path / "straight", step)
        assert samples_of_step(tmp_path / "run", step)[1].tolist() == straight.tolist()
    assert len(losses(tmp_path / "run")) == len(expected) == 12


def test_an_interrupt_waits_for_the_step_and_saves(tmp_path: Path) -> None:
    config = config_for(tmp_path, schedule={"steps": 100_000, "warmup_steps": 5})
    process = train_process(config)
    while not (tmp_path / "run/metrics.jsonl").exists() or len(metrics(tmp_path / "run")) < 10:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "run the same command again to resume" in finished(process, 130)
    done = len(losses(tmp_path / "run"))
    assert find_checkpoint(tmp_path / "run") == (tmp_path / f"run/checkpoints/step-{done:08d}")


def test_what_came_after_a_checkpoint_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    first = StepLines(path, 0, writes=True)
    first.write([{"step": step, "text": "é"} for step in range(6)])
    with path.open("a") as file:
        file.write('{"step": 6, "te')  # a kill
    again = StepLines(path, 4, writes=True)
    again.write([{"step": 4, "text": "again"}])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["text"]) for line in lines] == [(n, "é") for n in range(4)] + [(4, "again")]
    StepLines(path, 0, writes=False).write([{"step": 9}])
    assert len(path.read_text().splitlines()) == 5


def test_a_signal_during_an_evaluation_saves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = Trainer._evaluate

    def interrupted(self: Trainer) -> None:
        evaluate(self)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_evaluate", interrupted)
    config = load_train_config(str(config_for(tmp_path, evaluation={"every": 5}, checkpoint={"every": 100})))
    assert not train(config)
    assert find_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoints/step-00000005"
    assert len(losses(tmp_path / "run")) == 5


def test_tensorboard_is_given_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = config_for(tmp_path, tensorboard=True)
    found = run(config)
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(found)
    assert [event.step for event in events.Scalars("bits_per_byte")] == [5, 11]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        run(config)


def test_old_checkpoints_go(tmp_path: Path) -> None:
    run(config_for(tmp_path, checkpoint={"every": 2, "keep": 3}))
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["latest", "step-00000008", "step-00000010", "step-00000012"]


def test_a_checkpoint_is_the_model(tmp_path: Path) -> None:
    config = load_train_config(str(config_for(tmp_path)))
    trained = Trainer(config, ALONE)
    assert trained.train()
    loaded, state = load_model(tmp_path / "run/checkpoints/latest", torch.device("cpu"))
    assert state.step == 12
    drawn = torch.arange(16)[None]
    with torch.no_grad():
        assert torch.equal(loaded.logits(drawn), trained.model.logits(drawn))


def test_a_run_that_is_done_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_for(tmp_path)
    run(config)
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    run(config)
    assert "Nothing to do" in capsys.readouterr().out
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_bad_steps_are_left_out_and_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of some samples is made infinite, as a model that overflows would."""
    bad: set[int] = {3, 4}
    made = Trainer._step

    def step(self: Trainer, batches: Any) -> Any:
        forward = self.ddp_model.forward
        if self.step in bad:
            monkeypatch.setattr(self.ddp_model, "forward", lambda *inputs: forward(*inputs) * float("inf"))
        try:
            return made(self, batches)
        finally:
            monkeypatch.setattr(self.ddp_model, "forward", forward)

    monkeypatch.setattr(Trainer, "_step", step)
    config = config_for(tmp_path, stop_after_bad_steps=3)
    found = run(config, f"output={tmp_path / 'some'}")
    assert [n for n, loss in enumerate(found) if loss is None] == [3, 4]
    checkpoint = find_checkpoint(tmp_path / "some")
    assert checkpoint is not None
    assert json.loads((checkpoint / "state.json").read_text())["bad_steps"] == 2
    bad |= {5, 6}
    with pytest.raises(TrainingStopped, match=r"3 steps in a row .* from step 3 on") as stopped:
        train(load_train_config(str(config)))
    assert stopped.value.step == 3


def test_evaluation_looks_at_every_token_once(tmp_path: Path) -> None:
    trained = Trainer(load_train_config(str(config_for(tmp_path))), ALONE)
    dataset = TokenDataset(
        tmp_path / "data", "validation", 16, batch_size=4, order="sequential", epochs=1, device="cpu"
    )
    found = evaluate(trained.ddp_model, dataset, ALONE)[""]
    assert found.tokens == dataset.tokens
    samples = dataset.read(np.arange(dataset.windows))
    logits = trained.model.logits(torch.from_numpy(samples.inputs.astype(np.int64)))
    nats = 0.0
    for row, counted in enumerate(samples.target_counts.tolist()):
        targets = torch.from_numpy(samples.targets[row, :counted].astype(np.int64))
        nats += float(torch.nn.functional.cross_entropy(logits[row, :counted], targets, reduction="sum").detach())
    assert found.loss == pytest.approx(nats / dataset.tokens, rel=1e-5)
    # the test's datasets have 4 bytes a token
    assert found.bits_per_byte == pytest.approx(nats / np.log(2) / (4 * dataset.tokens), rel=1e-5)
    assert evaluate(trained.ddp_model, dataset, ALONE, tokens=100)[""].tokens == 64

    # three sources, of which one begins within a window and one is smaller than a window
    counts = {"books": 131, "notes": 3, "web": dataset.tokens - 134}
    sources = {name: {"tokens": count, "bytes": 5 * count, "documents": 1} for name, count in counts.items()}
    dataset.card["splits"]["validation"] |= {"order": "by source", "sources": sources}
    parts = evaluate(trained.ddp_model, dataset, ALONE)
    assert {name: part.tokens for name, part in parts.items()} == {**counts, "": dataset.tokens}
    assert parts[""].loss == pytest.approx(found.loss, rel=1e-6)
    assert sum(parts[name].loss * count for name, count in counts.items()) == pytest.approx(nats, rel=1e-5)
    first = (
        torch.from_numpy(samples.inputs[:9].astype(np.int64)),
        torch.from_numpy(samples.targets[:9].astype(np.int64)),
    )
    losses_of = torch.nn.functional.cross_entropy(trained.model.logits(first[0]).mT, first[1], reduction="none")
    assert parts["books"].loss == pytest.approx(losses_of.flatten()[:131].mean().item(), rel=1e-4)
    assert parts["notes"].loss == pytest.approx(losses_of.flatten()[131:134].mean().item(), rel=1e-4)
    assert parts["web"].bits_per_byte == pytest.approx(parts["web"].loss / np.log(2) / 5)


def test_wrong_configs(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    for setting, message in [
        ("model.n_layer=3", r"run.yaml: model.n_layer: unknown key; did you mean 'n_layers'\?"),
        ("model.d_model=3", "model.d_model: 3 is not a multiple of 4 n_heads"),
        ("model.norm=layer", "model.norm: there is no 'layer'; did you mean 'layernorm'"),
        ("batch_size=x", "batch_size: must be a whole number, not 'x'"),
        ("micro_batch_size=3", "batch_size: 8 samples cannot be divided into micro-batches of 3 on 1 data ranks"),
        ("data.path=/nowhere", r"data: /nowhere/dataset.json: is not there"),
        ("data.split=test", "data: .* has no split 'test'"),
        ("parallel.tensor=2", "torchrun --nproc-per-node 2"),
        ("optimizer.betas=[0.9]", "optimizer.betas.1: is missing"),
        ("data.path=null", "data.path: name a dataset's folder"),
        ("base=run.yaml", "unknown key"),
    ]:
        with pytest.raises(ConfigError, match=message):
            train(load_train_config(str(config), [setting]))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_train_config(str(tmp_path / "none.yaml"))
    (tmp_path / "circle.yaml").write_text("base: circle.yaml")
    with pytest.raises(ConfigError, match="leads back to itself"):
        load_train_config(str(tmp_path / "circle.yaml"))
    run(config)
    with pytest.raises(ConfigError, match=r"cannot resume from it: the model's shape or its vocabulary is another"):
        train(load_train_config(str(config), ["model.n_layers=3"]))
    with pytest.raises(ConfigError, match=r"cannot resume from it: .* seed was 0 and is 4"):
        train(load_train_config(str(config), ["seed=4"]))


def test_presets_are_read_and_have_the_size_that_they_say() -> None:
    for name, vocabulary, millions in [
        ("tiny", 4096, 0.4),
        ("laptop-10m", 4096, 10),
        ("gpt2-124m", 50257, 124),
        ("gpt2-350m", 50257, 353),
        ("llama-1b", 32000, 1300),
    ]:
        config = load_train_config(str(CONFIGS / f"{name}.yaml"), ["data.path=d", "output=o"])
        with torch.device("meta"):
            counted = Transformer(config.model, vocabulary).parameter_count() / 1e6
        assert counted == pytest.approx(millions, rel=0.1), name
