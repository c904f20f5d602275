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
from tokenmill.model.training.parallel import ParallelDims


@dataclass(frozen=True)
class Evaluation:
    """`loss`: nats a token. `bits_per_byte`: of the split's UTF-8 text; where only a part of the split was evaluated, with the
    bytes a token of all of it. `tokens`: targets that were evaluated."""

    loss: float
    bits_per_byte: float
    tokens: int


def evaluate(
    model: nn.Module,
    dataset: TokenDataset,
    dims: ParallelDims,
    tokens: int | None = None,
    loss_chunk: int | None = None,
) -> dict[str, Evaluation]:
    """Evaluates on a dataset opened with `order="sequential", epochs=1`, or on its first `tokens`.

    Returns the evaluation of each source of the split, where its card says where they lie, and of all as "". Every rank calls
    it, and every rank runs as many forward passes, since the ranks of a divided model work together in each: a last batch of
    fewer rows is filled with padding, and a batch of several sources is evaluated once for each.
    """
    dataset.rewind()
    rows, context_length = dataset.sharding.batch_size, dataset.context_length
    step_tokens = rows * context_length * dims.data_ranks
    steps = -(-dataset.windows * context_length // step_tokens)
    if tokens is not None:
        steps = min(steps, max(tokens // step_tokens, 1))
    split = dataset.card["splits"][dataset.split]
    sources = _sources(split)
    sums = torch.zeros(len(sources), 2, dtype=torch.float64, device=dims.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for step, batch in zip(range(steps), dataset, strict=False):
            inputs, targets = _filled(batch.inputs, rows, 0), _filled(batch.targets, rows, IGNORED)
            documents = (inputs == dataset.end_of_text).cumsum(1) if dataset.documents else None
            # a target's place in the split follows from its place in the batch, as samples are in the split's order
            first = (step * dims.data_ranks + dims.data_rank) * rows * context_length
            places = torch.arange(first, first + rows * context_length, device=dims.device).view(rows, context_length)
            for number, source in enumerate(sources):
                # whether any rank has targets of the source in this step, so that all ranks decide alike
                if source.begin < (step + 1) * step_tokens and source.end > step * step_tokens:
                    mine = targets.masked_fill((places < source.begin) | (places >= source.end), IGNORED)
                    sums[number, 0] += model(inputs, mine, documents, loss_chunk)
                    sums[number, 1] += (mine != IGNORED).sum()
    model.train(was_training)
    totals = dict(zip(sources, dims.sum(sums).tolist(), strict=True))
    found = {source.name: source.evaluation(*sums) for source, sums in totals.items() if sums[1] and source.name}
    whole = _Source("", 0, split["tokens"], split["bytes"])
    return {**found, "": whole.evaluation(*map(sum, zip(*totals.values(), strict=True)))}


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
    """A split's sources in order; one without a name where the card does not say where they lie."""
    if split.get("order") != "by source":
        return [_Source("", 0, split["tokens"], split["bytes"])]
    sources: list[_Source] = []
    for name, counts in split["sources"].items():
        begin = sources[-1].end if sources else 0
        sources.append(_Source(name, begin, begin + counts["tokens"], counts["bytes"]))
    return sources


def _filled(tokens: Tensor, rows: int, value: int) -> Tensor:
    return F.pad(tokens, (0, 0, 0, rows - len(tokens)), value=value)
