"""Cross entropy of next tokens, with all logits at once or in chunks where these would not fit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.batch import IGNORED

_torch: Any = torch  # what is newer than torch 2.6 may be missing


def summed_loss(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary: int, chunk: int | None = None) -> Tensor:
    """The sum over targets of -ln p(target), a float32 scalar, in nats.

    `hidden`: (rows, tokens, width); `weight`: (vocabulary or more, width), of whose rows the
    first `vocabulary` count; `targets`: int64 (rows, tokens), `IGNORED` where there is
    none. `chunk`: tokens whose logits are held at once; None holds all. torch's `linear_cross_entropy`, where there is one
    (2.13), computes a chunk's gradient with its loss; else the backward pass makes the logits again. It sums in the dtype
    that it is given, and a sum in bf16 is off by a percent, so under autocast it is not asked.
    """
    hidden, targets = hidden.flatten(0, 1), targets.flatten()
    if chunk is None:
        return _sum(hidden, weight, targets, vocabulary)
    if hasattr(F, "linear_cross_entropy") and not torch.is_autocast_enabled(hidden.device.type):
        options = _torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
        return F.linear_cross_entropy(
            hidden, weight[:vocabulary], targets, ignore_index=IGNORED, reduction="sum", options=options
        )
    parts = zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
    losses = [checkpoint(_sum, part, weight, wanted, vocabulary, use_reentrant=False) for part, wanted in parts]
    return torch.stack(losses).sum()


def _sum(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
    # the whole matrix is multiplied: matrix units are slow where its size is no multiple of 8
    logits = F.linear(hidden, weight)[:, :vocabulary].float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
