"""A decoder-only transformer, whose config spans GPT-2, Llama and what lies between.

Pre-norm blocks: x + attention(norm(x)), then x + mlp(norm(x)) (Radford et al. 2019, Touvron et al. 2023). Rotary positions
rotate the first half of a head against the second, as Llama's weights in transformers expect.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenmill.model.nn.attention import KeyValueCache, attend, mask_for
from tokenmill.model.nn.loss import summed_loss
from tokenmill.model.nn.model_config import ModelConfig

VOCABULARY_MULTIPLE = 128
"""The embedding's rows are padded to a multiple of this, which matrix units like; no id reaches the padding."""


class Transformer(nn.Module):
    """Maps token ids to the loss of their targets, or to `logits`."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        rows = -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        self.embedding = nn.Embedding(rows, config.d_model)
        self.positions = (
            nn.Embedding(config.context_length, config.d_model) if config.position_embedding == "learned" else None
        )
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.n_layers))
        self.norm = norm(config, config.d_model)
        self.head = None if config.tied_embeddings else nn.Linear(config.d_model, rows, bias=False)
        self.windows = [config.attention_window(layer) for layer in range(config.n_layers)]
        cosines, sines = rotations(config)
        self.cosines, self.sines = nn.Buffer(cosines, persistent=False), nn.Buffer(sines, persistent=False)
        initialize(self)

    def forward(
        self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None, loss_chunk: int | None = None
    ) -> Tensor:
        """The summed loss of `targets` after `tokens`, in nats (see `model.nn.loss.summed_loss`); both int64 (rows, tokens).

        `documents`: int (rows, tokens), the document that each token is of, where attention shall not leave documents.
        """
        hidden = self.hidden_states(tokens, documents)
        return summed_loss(hidden, self.output_weight(), targets, self.vocab_size, loss_chunk)

    def logits(self, tokens: Tensor, documents: Tensor | None = None, cache: KeyValueCache | None = None) -> Tensor:
        """Float (rows, tokens, vocabulary), of what follows each token. `cache`: the tokens follow those in it."""
        return F.linear(self.hidden_states(tokens, documents, cache), self.output_weight())[..., : self.vocab_size]

    def hidden_states(
        self, tokens: Tensor, documents: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """(rows, tokens, d_model). Raises ValueError where the tokens are more than the context length."""
        start, count = (cache.filled if cache else 0), tokens.shape[1]
        if start + count > self.config.context_length:
            raise ValueError(f"{start + count} tokens are more than the context length of {self.config.context_length}")
        # a mask for each kind of layer, not for each layer
        masks = {window: mask_for(window, documents, start, count, tokens.device) for window in set(self.windows)}
        hidden = self.embedding(tokens)
        if self.positions is not None:
            hidden = hidden + self.positions.weight[start : start + count]
        rotation = (self.cosines[start : start + count], self.sines[start : start + count])
        for block, window in zip(self.blocks, self.windows, strict=True):
            hidden = block(hidden, rotation, masks[window], cache)
        if cache is not None:
            cache.filled += count
        return self.norm(hidden)

    def output_weight(self) -> Tensor:
        """The matrix that maps hidden states to logits, (vocabulary with its padding, d_model)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def parameter_count(self) -> int:
        """Weights as 6 N FLOPs a token counts them: without learned positions and the vocabulary's padding."""
        padding = self.embedding.num_embeddings - self.vocab_size
        tables = 1 if self.head is None else 2
        positions = self.positions.weight.numel() if self.positions is not None else 0
        return sum(weight.numel() for weight in self.parameters()) - positions - padding * self.config.d_model * tables


class Block(nn.Module):
    """Attention and MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self.attention_norm = norm(config, config.d_model)
        self.attention = Attention(config, number)
        self.mlp_norm = norm(config, config.d_model)
        self.mlp = MLP(config)

    def forward(
        self, hidden: Tensor, rotation: tuple[Tensor, Tensor], mask: Any, cache: KeyValueCache | None
    ) -> Tensor:
        """(rows, tokens, d_model) to the same."""
        hidden = hidden + self.attention(self.attention_norm(hidden), rotation, mask, cache)
        return hidden + self.mlp(self.mlp_norm(hidden))


class Attention(nn.Module):
    """Multi-head or grouped-query attention."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self.number, self.head_dim, self.rotary = number, config.head_dim, config.position_embedding == "rope"
        inner, inner_kv = config.n_heads * self.head_dim, config.n_kv_heads * self.head_dim
        self.query = nn.Linear(config.d_model, inner, bias=config.bias)
        self.key = nn.Linear(config.d_model, inner_kv, bias=config.bias)
        self.value = nn.Linear(config.d_model, inner_kv, bias=config.bias)
        self.output = nn.Linear(inner, config.d_model, bias=config.bias)
        self.query_norm = norm(config, self.head_dim) if config.qk_norm else nn.Identity()
        self.key_norm = norm(config, self.head_dim) if config.qk_norm else nn.Identity()

    def forward(
        self, hidden: Tensor, rotation: tuple[Tensor, Tensor], mask: Any, cache: KeyValueCache | None
    ) -> Tensor:
        """(rows, tokens, d_model) to the same."""
        heads = (*hidden.shape[:2], -1, self.head_dim)  # -1: a tensor-parallel rank holds some of the heads
        queries = self.query_norm(self.query(hidden).view(heads)).transpose(1, 2)
        keys = self.key_norm(self.key(hidden).view(heads)).transpose(1, 2)
        values = self.value(hidden).view(heads).transpose(1, 2)
        if self.rotary:
            queries, keys = rotate(queries, *rotation), rotate(keys, *rotation)
        if cache is not None:
            keys, values = cache.extend(self.number, keys, values)
        attended = attend(queries, keys, values, mask)
        return self.output(attended.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020) or GELU in GPT-2's tanh form."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.bias) if config.mlp == "swiglu" else None
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(rows, tokens, d_model) to the same."""
        if self.gate is None:
            return self.down(F.gelu(self.up(hidden), approximate="tanh"))
        return self.down(F.silu(self.gate(hidden)) * self.up(hidden))


def norm(config: ModelConfig, size: int) -> nn.Module:
    """RMSNorm (Zhang and Sennrich 2019) or LayerNorm over the last dimension."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(size, eps=config.norm_eps)
    return nn.LayerNorm(size, eps=config.norm_eps, bias=config.bias)


def rotations(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (Su et al. 2021), float32 (context_length, head_dim); (.., 0) for learned ones."""
    size = config.head_dim if config.position_embedding == "rope" else 0
    # in float64: the angles of late positions are large, and a float32 would lose their fraction
    frequencies = config.rope_theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / max(size, 1))
    angles = torch.arange(config.context_length)[:, None] * frequencies
    return torch.cat([angles.cos()] * 2, 1).float(), torch.cat([angles.sin()] * 2, 1).float()


def rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotates heads (rows, heads, tokens, head_dim) by their positions; the float32 tables make that a float32 computation."""
    first, second = heads.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (heads * cosines + turned * sines).to(heads.dtype)


def initialize(model: Transformer) -> None:
    """All weights: normal with deviation 0.02, biases 0, norms 1.

    What writes into the residual stream has 0.02 / sqrt(2 layers), so that the stream does not grow with depth (Radford et
    al. 2019). Embeddings have at most 0.35 / sqrt(d_model), so that logits begin near 0 and the loss near ln(vocabulary).
    """
    config = model.config
    embedding = min(0.02, 0.35 / math.sqrt(config.d_model))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        elif weight.ndim < 2:
            nn.init.ones_(weight)
        elif name.endswith(("output.weight", "down.weight")):
            nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.n_layers))
        else:
            nn.init.normal_(weight, std=0.02 if name.startswith("blocks.") else embedding)
