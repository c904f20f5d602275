"""Exported models are what transformers makes of them: the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.model.runs import config_for
from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.nn.generate import Sampling, generate
from tokenmill.model.training.config import load_train_config
from tokenmill.model.training.huggingface import export_model
from tokenmill.model.training.run_folder import find_checkpoint
from tokenmill.model.training.saved_model import load_model
from tokenmill.model.training.trainer import train

transformers = pytest.importorskip("transformers")

GPT2 = {"norm": "layernorm", "position_embedding": "learned", "mlp": "gelu", "bias": True}


def trained(tmp_path: Path, **shape: Any) -> Path:
    """A checkpoint of a few steps with a high rate, far from where it began."""
    model = {"n_layers": 2, "d_model": 32, "n_heads": 4, "context_length": 16, **shape}
    path = config_for(tmp_path, model=model, optimizer={"learning_rate": 0.05})
    assert train(load_train_config(str(path)))
    checkpoint = find_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    return checkpoint


@pytest.mark.parametrize(
    ("shape", "architecture"),
    [
        ({}, "LlamaForCausalLM"),
        ({"n_kv_heads": 2, "tied_embeddings": False, "rope_theta": 500.0, "bias": True}, "LlamaForCausalLM"),
        ({"head_dim": 16, "d_ff": 40, "norm_eps": 1e-3}, "LlamaForCausalLM"),
        (GPT2, "GPT2LMHeadModel"),
        ({**GPT2, "d_ff": 40, "norm_eps": 1e-3}, "GPT2LMHeadModel"),
    ],
    ids=str,
)
def test_logits_are_transformers(tmp_path: Path, shape: dict[str, Any], architecture: str) -> None:
    checkpoint = trained(tmp_path, **shape)
    assert export_model(checkpoint, tmp_path / "exported") == architecture
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported", dtype=torch.float32)
    assert type(theirs).__name__ == architecture
    ours, state = load_model(checkpoint, torch.device("cpu"))
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (3, 16)))
    with torch.no_grad():
        found, expected = ours.logits(tokens), theirs(tokens).logits
    assert found.shape == expected.shape
    assert found.std() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    greedy = generate(ours, [[5, 9]], state.vocabulary.end_of_text, Sampling(tokens=8, temperature=0))
    made = theirs.generate(tokens.new_tensor([[5, 9]]), max_new_tokens=8, do_sample=False)[0, 2:].tolist()
    assert [token for token in made if token != state.vocabulary.end_of_text] == greedy[0]


def test_the_tokenizer_goes_along(tmp_path: Path) -> None:
    export_model(trained(tmp_path), tmp_path / "exported")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert tokenizer("w3 w4")["input_ids"] == [3, 4]
    assert tokenizer.eos_token_id == 0
    assert tokenizer.model_max_length == 16


def test_what_neither_format_holds(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path, qk_norm=True, norm="layernorm")
    with pytest.raises(
        ConfigError, match=r"Llama's has norm rmsnorm, qk_norm false; GPT-2's has position_embedding learned"
    ):
        export_model(checkpoint, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
