"""Causal attention: over all tokens before, a band of them, or those of the same document.

Full attention is `scaled_dot_product_attention` with `is_causal`, the fastest kernel there is. Bands and documents need a mask:
FlexAttention's block mask on a GPU, a dense one on a CPU, which is correct and slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tokenmill.model.nn.model_config import ModelConfig

KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""In the order in which they are tried. On Hopper cuDNN's is nearly twice as fast as FlashAttention 2 (631 against 329
TFLOP/s). With an explicit mask its backward pass is known to give NaN at lengths of 64 modulo 128: it is never given one."""


class KeyValueCache:
    """Keys and values of the tokens seen so far, (rows, heads, length, head_dim) a layer, for generation."""

    def __init__(self, length: int) -> None:
        """Room for `length` tokens. A layer's is allocated with its first keys, which tell how many heads this rank has."""
        self.length, self.filled = length, 0
        self._layers: list[tuple[Tensor, Tensor]] = []

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds new tokens' keys and values, and returns those of all tokens so far.

        The caller moves `filled` once a forward pass, since all layers write at the same place.
        """
        if layer == len(self._layers):
            rows, heads, _, size = keys.shape
            empty = keys.new_empty(2, rows, heads, self.length, size)
            self._layers.append((empty[0], empty[1]))
        end = self.filled + keys.shape[2]
        held_keys, held_values = self._layers[layer]
        held_keys[:, :, self.filled : end] = keys
        held_values[:, :, self.filled : end] = values
        return held_keys[:, :, :end], held_values[:, :, :end]


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Any) -> Tensor:
    """Attention; all (rows, heads, tokens, head_dim), keys and values with as many heads or a divisor of it.

    `mask`: None for causal attention (or for one query alone, which sees all keys), bool (rows or 1, 1, queries, keys) with
    True where a query sees a key, or FlexAttention's block mask.
    """
    grouped = queries.shape[1] != keys.shape[1]
    if mask is None or isinstance(mask, Tensor):
        # `is_causal` aligns the first query with the first key: right for a whole window, wrong for the one newest query of a
        # generation, which sees every cached key
        causal = mask is None and queries.shape[2] > 1
        return F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped
        )
    return _flex()(queries, keys, values, block_mask=mask, enable_gqa=grouped)


@cache
def _flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    # not compiled, it would materialize all scores
    return torch.compile(flex_attention, dynamic=False)


def mask_for(window: int | None, documents: Tensor | None, start: int, tokens: int, device: torch.device) -> Any:
    """The mask of a layer that sees `window` tokens (None: all), for `attend`.

    The queries are the `tokens` tokens from `start` on, the keys all up to the last of them. `documents`: int (rows, tokens),
    the number of the document that a token is of, where attention stays within documents (`start` is 0 then).
    """
    # no mask where plain causal attention is the same: the fast kernels take none
    if documents is None and (window is None or window >= start + tokens) and (start == 0 or tokens == 1):
        return None
    if device.type == "cuda" and start == 0:
        return _block_mask(window, documents, tokens, device)
    query = torch.arange(start, start + tokens, device=device)[:, None]
    key = torch.arange(start + tokens, device=device)
    seen = _sees(query, key, window)[None, None]  # one for all rows and heads
    return seen if documents is None else seen & (documents[:, None, :, None] == documents[:, None, None, :])


def _sees(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    causal = key <= query
    return causal if window is None else causal & (key > query - window)


def _block_mask(window: int | None, documents: Tensor | None, tokens: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = _sees(query, key, window)
        return seen if documents is None else seen & (documents[row, query] == documents[row, key])

    # one mask for all rows where they do not differ by their documents; one for all heads always
    rows = None if documents is None else len(documents)
    return create_block_mask(sees, rows, None, tokens, tokens, device=str(device))


@contextmanager
def attention_kernel(name: str) -> Iterator[None]:
    """Full attention by the kernel of that name (a key of `KERNELS`), or with `auto` by the first that can."""
    if name == "auto":
        with sdpa_kernel(list(KERNELS.values()), set_priority=True):
            yield
    else:
        with sdpa_kernel(KERNELS[name]):
            yield


def kernel_in_use(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    """The name of the kernel that full attention takes here, among those allowed now (see `attention_kernel`)."""

    def zeros(heads: int) -> Tensor:
        # with a gradient, as in training: some kernels have no backward pass for a shape
        shape = (1, heads, config.context_length, config.head_dim)
        return torch.zeros(shape, device=device, dtype=dtype, requires_grad=True)

    queries, keys = zeros(config.n_heads), zeros(config.n_kv_heads)
    grouped = config.n_heads != config.n_kv_heads
    choice = torch._fused_sdp_choice(queries, keys, keys, is_causal=True, enable_gqa=grouped)
    return next((name for name, kernel in KERNELS.items() if kernel == SDPBackend(choice)), "none")
