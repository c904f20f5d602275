"""How well a model predicts a split: loss in nats a token, and bits per byte, which does not depend on the tokenizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenmill.model.data.batch import IGNORED
from tokenmill.model.data.dataset import TokenDataset
from tokenmill.model.training.parallel import Ranks


@dataclass(frozen=True)
class Evaluation:
    """`loss`: nats a token. `bits_per_byte`: of the split's UTF-8 text; where not all of the split was looked at, at the
    number of bytes a token of all of it. `tokens`: targets that were looked at."""

    loss: float
    bits_per_byte: float
    tokens: int


def evaluate(
    model: nn.Module, dataset: TokenDataset, ranks: Ranks, tokens: int | None = None, loss_chunk: int | None = None
) -> dict[str, Evaluation]:
    """Goes through a dataset in sequential order (`order="sequential"`, `epochs=1`), or its first `tokens`.

    Gives the evaluation of each source of the split, where its card tells where they lie, and of all as "". Every rank calls
    it, and every rank runs as many forward passes: a last batch of fewer rows is filled with padding, and a batch of several
    sources goes through the model once for each.
    """
    dataset.rewind()
    rows, window = dataset.deal.batch_size, dataset.window
    step_tokens = rows * window * ranks.data_ranks
    steps = -(-dataset.windows * window // step_tokens)
    if tokens is not None:
        steps = min(steps, max(tokens // step_tokens, 1))
    split = dataset.card["splits"][dataset.split]
    sources = _sources(split)
    sums = torch.zeros(len(sources), 2, dtype=torch.float64, device=ranks.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for step, batch in zip(range(steps), dataset, strict=False):
            inputs, targets = _filled(batch.inputs, rows, 0), _filled(batch.targets, rows, IGNORED)
            documents = (inputs == dataset.end_of_text).cumsum(1) if dataset.documents else None
            first = (step * ranks.data_ranks + ranks.data_rank) * rows * window
            places = torch.arange(first, first + rows * window, device=ranks.device).view(rows, window)
            for number, source in enumerate(sources):
                if source.begin < (step + 1) * step_tokens and source.end > step * step_tokens:
                    mine = targets.masked_fill((places < source.begin) | (places >= source.end), IGNORED)
                    sums[number, 0] += model(inputs, mine, documents, loss_chunk)
                    sums[number, 1] += (mine != IGNORED).sum()
    model.train(was_training)
    counted = dict(zip(sources, ranks.sum(sums).tolist(), strict=True))
    found = {source.name: source.evaluation(*sums) for source, sums in counted.items() if sums[1] and source.name}
    whole = _Source("", 0, split["tokens"], split["bytes"])
    return {**found, "": whole.evaluation(*map(sum, zip(*counted.values(), strict=True)))}


@dataclass(frozen=True)
class _Source:
    name: str
    begin: int
    end: int
    size: int

    def evaluation(self, nats: float, tokens: float) -> Evaluation:
        size = self.size * tokens / (self.end - self.begin)
        return Evaluation(nats / tokens, nats / math.log(2) / size, int(tokens))


def _sources(split: dict[str, Any]) -> list[_Source]:
    """A split's sources one after the other; one without a name where the card does not say where they lie."""
    if split.get("order") != "by source":
        return [_Source("", 0, split["tokens"], split["bytes"])]
    sources: list[_Source] = []
    for name, counts in split["sources"].items():
        begin = sources[-1].end if sources else 0
        sources.append(_Source(name, begin, begin + counts["tokens"], counts["bytes"]))
    return sources


def _filled(tokens: Tensor, rows: int, value: int) -> Tensor:
    return F.pad(tokens, (0, 0, 0, rows - len(tokens)), value=value)
