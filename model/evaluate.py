"""How well a model predicts a split: loss in nats a token, and bits per byte, which does not depend on the tokenizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import IGNORED
from model.dataset import TokenDataset
from model.parallel import Ranks


@dataclass(frozen=True)
class Evaluation:
    """`loss`: nats a token. `bits_per_byte`: of the split's UTF-8 text; where not all of the split was looked at, at the
    split's number of bytes a token. `tokens`: targets that were looked at."""

    loss: float
    bits_per_byte: float
    tokens: int


def evaluate(
    model: nn.Module, dataset: TokenDataset, ranks: Ranks, tokens: int | None = None, loss_chunk: int | None = None
) -> Evaluation:
    """Goes through a dataset in sequential order (`order="sequential"`, `epochs=1`), or its first `tokens`.

    Every rank calls it, and every rank runs as many forward passes: a last batch of fewer rows is filled with padding.
    """
    dataset.rewind()
    rows, window = dataset.deal.batch_size, dataset.window
    sums = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    steps = -(-dataset.windows // (rows * ranks.data_ranks))
    if tokens is not None:
        steps = min(steps, max(tokens // (rows * window * ranks.data_ranks), 1))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for _, batch in zip(range(steps), dataset, strict=False):
            inputs, targets = _filled(batch.inputs, rows, 0), _filled(batch.targets, rows, IGNORED)
            documents = (inputs == dataset.end_of_text).cumsum(1) if dataset.documents else None
            sums[0] += model(inputs, targets, documents, loss_chunk)
            sums[1] += (targets != IGNORED).sum()
    model.train(was_training)
    nats, looked_at = ranks.sum(sums).tolist()
    split = dataset.card["splits"][dataset.split]
    bytes_seen = split["bytes"] * looked_at / split["tokens"]
    return Evaluation(nats / looked_at, nats / math.log(2) / bytes_seen, int(looked_at))


def _filled(tokens: Tensor, rows: int, value: int) -> Tensor:
    return F.pad(tokens, (0, 0, 0, rows - len(tokens)), value=value)
