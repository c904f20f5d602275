"""Cross entropy of next tokens, with all logits at once or in chunks where these would not fit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenmill.model.data.batch import IGNORED


def summed_loss(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary: int, chunk: int | None = None) -> Tensor:
    """The sum over targets of -ln p(target), a float32 scalar, in nats.

    `hidden`: (rows, tokens, width); `weight`: (vocabulary or more, width), of whose rows the first `vocabulary` count;
    `targets`: int64 (rows, tokens), `IGNORED` where there is none. `chunk`: tokens whose logits are held at once; None holds
    all.
    """
    hidden, targets = hidden.flatten(0, 1), targets.flatten()
    if chunk is None:
        return _sum(hidden, weight, targets, vocabulary)
    loss: Tensor = _ChunkedLoss.apply(hidden, weight, targets, vocabulary, chunk)  # type: ignore[no-untyped-call]
    return loss


def _sum(hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
    # the whole matrix is multiplied: matrix units are slow where its size is no multiple of 8
    logits = F.linear(hidden, weight)[:, :vocabulary].float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


class _ChunkedLoss(torch.autograd.Function):
    """Loss and gradients of a chunk while its logits are there, so that the backward pass does not make them again.

    torch's `linear_cross_entropy` (2.13) does so too, but sums in the dtype that it is given (in bf16 off by a percent), and
    is not compiled.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, vocabulary: int, chunk: int) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        with torch.autocast(device, enabled=False):
            matrix = weight.to(dtype)
            parts = zip(torch.split(hidden.to(dtype), chunk), torch.split(targets, chunk), strict=True)
            if not ctx.needs_input_grad[0]:
                return torch.stack([_sum(part, matrix, wanted, vocabulary) for part, wanted in parts]).sum()
            gradients_and_loss = torch.func.grad_and_value(_sum, argnums=(0, 1))
            losses, by_hidden, by_weight = [], [], torch.zeros_like(weight, dtype=torch.float32)
            for part, wanted in parts:
                (by_part, by_matrix), loss = gradients_and_loss(part, matrix, wanted, vocabulary)
                by_hidden.append(by_part)
                by_weight += by_matrix
                losses.append(loss)
        ctx.save_for_backward(torch.cat(by_hidden), by_weight.to(weight.dtype))
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_hidden, by_weight = ctx.saved_tensors
        return by_hidden * gradients[0], by_weight * gradients[0], None, None, None
