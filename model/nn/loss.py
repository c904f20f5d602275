"""Cross entropy of next tokens, with all logits at once or in chunks where these would not fit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenmill.model.data.batch import IGNORED


def summed_loss(hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int, chunk: int | None = None) -> Tensor:
    """The sum over targets of -ln p(target), a float32 scalar, in nats.

    `hidden`: (rows, tokens, d_model); `weight`: (vocab_size or more, d_model), of whose rows the first `vocab_size` count;
    `targets`: int64 (rows, tokens), `IGNORED` where there is none. `chunk`: tokens whose logits are held at once; None holds
    all.
    """
    hidden, targets = hidden.flatten(0, 1), targets.flatten()
    if chunk is None:
        return _sum(hidden, weight, targets, vocab_size)
    loss: Tensor = _ChunkedLoss.apply(hidden, weight, targets, vocab_size, chunk)  # type: ignore[no-untyped-call]
    return loss


def _sum(hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    # the padded matrix is multiplied whole: matrix units are slow where its size is not a multiple of 8
    logits = F.linear(hidden, weight)[:, :vocab_size].float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


class _ChunkedLoss(torch.autograd.Function):
    """The loss chunk by chunk, each with its gradients while its logits are there.

    The logits of a chunk are the largest tensor of a step. Autograd would keep those of all chunks for the backward pass, and
    checkpointing would compute them again in it. But the gradient of a sum is known except for one factor, the gradient that
    comes from above: so the forward pass computes both, keeps the gradients (as small as `hidden` and `weight`), and the
    backward pass multiplies them by that factor.

    torch's `linear_cross_entropy` (2.13) does so too, but sums in the dtype that it is given (in bf16 off by a percent), and
    is not compiled.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int, chunk: int) -> Tensor:
        device = hidden.device.type
        # autocast is off in here and its casts are made by hand: once for the matrix, not once a chunk
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        with torch.autocast(device, enabled=False):
            matrix = weight.to(dtype)
            chunks = zip(torch.split(hidden.to(dtype), chunk), torch.split(targets, chunk), strict=True)
            if not ctx.needs_input_grad[0]:
                return torch.stack([_sum(part, matrix, wanted, vocab_size) for part, wanted in chunks]).sum()
            # autograd does not record inside a Function's forward; torch.func differentiates here and now
            gradients_and_loss = torch.func.grad_and_value(_sum, argnums=(0, 1))
            # the matrix's gradient is a sum over chunks: in float32, as bf16 would round away the later ones
            losses, by_hidden, by_weight = [], [], torch.zeros_like(weight, dtype=torch.float32)
            for part, wanted in chunks:
                (by_part, by_matrix), loss = gradients_and_loss(part, matrix, wanted, vocab_size)
                by_hidden.append(by_part)
                by_weight += by_matrix
                losses.append(loss)
        ctx.save_for_backward(torch.cat(by_hidden), by_weight.to(weight.dtype))
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_hidden, by_weight = ctx.saved_tensors
        return by_hidden * gradients[0], by_weight * gradients[0], None, None, None
