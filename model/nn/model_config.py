"""The transformer's shape."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tokenmill.model.common.validation import Number, StrictConfig, require


def _default_head_dim(values: dict[str, Any]) -> int:
    return max(int(values["d_model"]) // int(values["n_heads"]), 1)


def _default_d_ff(values: dict[str, Any]) -> int:
    d_model = int(values["d_model"])
    return 4 * d_model if values["mlp"] == "gelu" else -(-8 * d_model // (3 * 128)) * 128


class ModelConfig(StrictConfig):
    """The transformer's shape. The vocabulary is not here: it comes from the dataset's card."""

    n_layers: int = Field(12, ge=1, description="Blocks, each of attention and an MLP.")
    d_model: int = Field(768, ge=1, description="Numbers in the residual stream, a token.")
    n_heads: int = Field(12, ge=1, description="Heads of queries.")
    n_kv_heads: int = Field(
        default_factory=lambda values: int(values["n_heads"]),
        ge=1,
        description="Heads of keys and values: fewer than `n_heads` is grouped-query attention (Ainslie et al. 2023); "
        "default: as many.",
    )
    head_dim: int = Field(
        default_factory=_default_head_dim, ge=1, description="Numbers in a head; default: d_model / n_heads."
    )
    context_length: int = Field(1024, ge=1, description="Tokens that the model sees at once.")
    norm: Literal["rmsnorm", "layernorm"] = Field(
        "rmsnorm", description="What normalizes the input of each block's parts."
    )
    norm_eps: Number = Field(1e-5, gt=0, description="Added to the variance that a norm divides by.")
    position_embedding: Literal["rope", "learned"] = Field(
        "rope", description="Rotary positions (Su et al. 2021), or a learned vector for each, as in GPT-2."
    )
    rope_theta: Number = Field(10_000.0, gt=0, description="Base of the rotary positions' wavelengths.")
    mlp: Literal["swiglu", "gelu"] = Field("swiglu", description="SwiGLU (Shazeer 2020), or GELU in GPT-2's tanh form.")
    d_ff: int = Field(
        default_factory=_default_d_ff,
        ge=1,
        description="Numbers in the MLP's hidden layer; default: 4 x d_model for GELU; for SwiGLU 8/3 x d_model, up to a "
        "multiple of 128 (the same number of weights).",
    )
    attention: tuple[Literal["full", "sliding"], ...] = Field(
        ("full",),
        min_length=1,
        strict=False,
        description="What layers see, repeated over the layers: [sliding, sliding, sliding, full] makes every fourth full.",
    )
    sliding_window: int = Field(512, ge=1, description="Tokens that a sliding layer sees, its own included.")
    qk_norm: bool = Field(
        False, description="Normalizes queries and keys by head (Henry et al. 2020), which keeps large models stable."
    )
    bias: bool = Field(False, description="Whether linear layers and LayerNorm have biases.")
    tied_embeddings: bool = Field(True, description="Whether the output matrix is the embedding's.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        require(
            self.n_heads % self.n_kv_heads == 0,
            "n_heads",
            f"{self.n_heads} is not a multiple of {self.n_kv_heads} n_kv_heads",
        )
        require(
            "head_dim" in self.model_fields_set or self.d_model % self.n_heads == 0,
            "d_model",
            f"{self.d_model} is not a multiple of {self.n_heads} n_heads; give another, or a head_dim",
        )
        require(
            self.position_embedding == "learned" or self.head_dim % 2 == 0,
            "head_dim",
            f"{self.head_dim} is odd, and rope turns pairs of numbers",
        )
        return self

    def attention_window(self, layer: int) -> int | None:
        """Tokens that a layer sees, or None for all."""
        return self.sliding_window if self.attention[layer % len(self.attention)] == "sliding" else None
