"""The transformer's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenmill.model.common.dataclass_config import _require


@dataclass(frozen=True)
class ModelConfig:
    """The transformer's shape. The vocabulary is not here: it comes from the dataset's card."""

    layers: int = 12
    width: int = 768
    """Size of the residual stream."""
    heads: int = 12
    key_value_heads: int | None = None
    """Fewer than `heads` is grouped-query attention (Ainslie et al. 2023); default: as many."""
    head_size: int | None = None
    """Default: width / heads."""
    window: int = 1024
    """Tokens that the model sees at once."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_epsilon: float = 1e-5
    positions: Literal["rope", "learned"] = "rope"
    rope_theta: float = 10_000.0
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    mlp_width: int | None = None
    """Default: 4 x width for GELU; for SwiGLU 8/3 x width, up to a multiple of 128 (the same number of weights)."""
    attention: tuple[Literal["full", "sliding"], ...] = ("full",)
    """What layers see, repeated over the layers: [sliding, sliding, sliding, full] makes every fourth layer full."""
    sliding_window: int = 512
    """Tokens that a sliding layer sees, its own included."""
    qk_norm: bool = False
    """Normalizes queries and keys by head (Henry et al. 2020), which keeps large models stable."""
    bias: bool = False
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        positive = ("layers", "width", "heads", "window", "sliding_window", "norm_epsilon", "rope_theta")
        for name in positive:
            _require(getattr(self, name) > 0, f"{name}: is above 0, not {getattr(self, name)}")
        _require(
            self.heads % self.kv_heads == 0, f"heads: {self.heads} is no multiple of {self.kv_heads} key_value_heads"
        )
        _require(
            self.head_size is not None or self.width % self.heads == 0,
            f"width: {self.width} is no multiple of {self.heads} heads; give another, or a head_size",
        )
        _require(self.positions == "learned" or self.size_of_head % 2 == 0, "head_size: rope needs an even one")
        _require(len(self.attention) > 0, "attention: name full, sliding, or several in their order")

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.key_value_heads is None else self.key_value_heads

    @property
    def size_of_head(self) -> int:
        """Numbers in a head."""
        return self.width // self.heads if self.head_size is None else self.head_size

    @property
    def size_of_mlp(self) -> int:
        """Width of the MLP's hidden layer."""
        if self.mlp_width is not None:
            return self.mlp_width
        return 4 * self.width if self.mlp == "gelu" else -(-8 * self.width // (3 * 128)) * 128

    def window_of(self, layer: int) -> int | None:
        """Tokens that a layer sees, or None for all."""
        return self.sliding_window if self.attention[layer % len(self.attention)] == "sliding" else None
