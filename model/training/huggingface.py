"""Checkpoints as folders that transformers and vLLM load: in Llama's format, or GPT-2's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.training.saved_model import CheckpointState, read_state


def export_model(checkpoint: Path, target: Path) -> str:
    """Writes a checkpoint to the new folder `target`, and returns the name of the architecture.

    Raises `ConfigError` for a model that neither format can represent.
    """
    state = read_state(checkpoint)
    config, vocabulary = state.model, state.vocabulary
    formats: dict[str, Callable[[dict[str, Tensor], ModelConfig], dict[str, Tensor]]] = {"llama": _llama, "gpt2": _gpt2}
    kind = _format_of(config)
    weights = load_file(checkpoint / "model.safetensors")
    for name in ("embedding.weight", "head.weight"):
        if name in weights:
            weights[name] = weights[name][: vocabulary.size].clone()
    named = {name: weight.contiguous() for name, weight in formats[kind](weights, config).items()}
    target.mkdir(parents=True)
    save_file(named, target / "model.safetensors", metadata={"format": "pt"})
    described = {"llama": _llama_config, "gpt2": _gpt2_config}[kind](config)
    end = vocabulary.end_of_text
    common = {"vocab_size": vocabulary.size, "bos_token_id": end, "eos_token_id": end, "dtype": "float32"}
    _write(target / "config.json", {**described, **common})
    _write(target / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
    _write_tokenizer(target, checkpoint / "tokenizer.json", state)
    return str(described["architectures"][0])


def _format_of(config: ModelConfig) -> str:
    llama = {"norm": "rmsnorm", "position_embedding": "rope", "mlp": "swiglu"}
    gpt2 = {"norm": "layernorm", "position_embedding": "learned", "mlp": "gelu", "bias": True, "tied_embeddings": True}
    gpt2 |= {"n_kv_heads": config.n_heads, "head_dim": config.d_model // config.n_heads}
    common = {"attention": ("full",) * len(config.attention), "qk_norm": False}
    wrong = {}
    for kind, choices in (("llama", llama), ("gpt2", gpt2)):
        needed = {**choices, **common}
        wrong[kind] = [f"{name} {_shown(value)}" for name, value in needed.items() if getattr(config, name) != value]
        if not wrong[kind]:
            return kind
    raise ConfigError(
        "neither format can represent this model: "
        f"Llama's has {', '.join(wrong['llama'])}; GPT-2's has {', '.join(wrong['gpt2'])}"
    )


def _shown(value: Any) -> str:
    return "full" if isinstance(value, tuple) else str(value).lower()


def _llama(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    named = {"model.embed_tokens.weight": weights["embedding.weight"], "model.norm.weight": weights["norm.weight"]}
    if not config.tied_embeddings:
        named["lm_head.weight"] = weights["head.weight"]
    names = {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
    }
    for name, weight in weights.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            module, _, kind = rest.rpartition(".")
            named[f"model.layers.{number}.{names[module]}.{kind}"] = weight
    return named


def _llama_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_embeddings,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
    }


def _gpt2(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    named = {
        "transformer.wte.weight": weights["embedding.weight"],
        "transformer.wpe.weight": weights["positions.weight"],
    }
    for kind in ("weight", "bias"):
        named[f"transformer.ln_f.{kind}"] = weights[f"norm.{kind}"]
        for number in range(config.n_layers):
            ours, theirs = f"blocks.{number}.", f"transformer.h.{number}."
            named[f"{theirs}ln_1.{kind}"] = weights[f"{ours}attention_norm.{kind}"]
            named[f"{theirs}ln_2.{kind}"] = weights[f"{ours}mlp_norm.{kind}"]
            inputs = [weights[f"{ours}attention.{name}.{kind}"] for name in ("query", "key", "value")]
            # GPT-2 has queries, keys and values in one matrix, and multiplies from the other side
            named[f"{theirs}attn.c_attn.{kind}"] = torch.cat(inputs).T if kind == "weight" else torch.cat(inputs)
            for module, name in (
                ("attention.output", "attn.c_proj"),
                ("mlp.up", "mlp.c_fc"),
                ("mlp.down", "mlp.c_proj"),
            ):
                weight = weights[f"{ours}{module}.{kind}"]
                named[f"{theirs}{name}.{kind}"] = weight.T if kind == "weight" else weight
    return named


def _gpt2_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_positions": config.context_length,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": True,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def _write_tokenizer(target: Path, tokenizer: Path, state: CheckpointState) -> None:
    content = tokenizer.read_bytes()
    (target / "tokenizer.json").write_bytes(content)
    end = Tokenizer.from_buffer(content).id_to_token(state.vocabulary.end_of_text)
    special = {"bos_token": end, "eos_token": end, "model_max_length": state.model.context_length}
    _write(target / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
