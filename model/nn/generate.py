"""Text from a model, token by token, with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from tokenmill.model.nn.attention import KeyValueCache
from tokenmill.model.nn.transformer import Transformer


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    `temperature`: 0 takes the likeliest. `top_k`: of so many likeliest alone; 0 for all. `top_p`: of the likeliest that
    together have this probability (Holtzman et al. 2020). `repetition_penalty`: logits of tokens that are there already are
    divided by it where positive, else multiplied (Keskar et al. 2019). `tokens`: at most so many new ones.
    """

    tokens: int = 200
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        fine = self.tokens > 0 and self.temperature >= 0 and self.top_k >= 0
        if not (fine and 0 < self.top_p <= 1 and self.repetition_penalty > 0):
            raise ValueError(f"{self}: cannot be; tokens and repetition_penalty are above 0, top_p is in (0, 1]")


@torch.no_grad()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    end_of_text: int,
    sampling: Sampling,
    on_token: Callable[[list[int | None]], None] | None = None,
) -> list[list[int]]:
    """Continues prompts of one length, each by its own tokens, until the end-of-text id, `sampling.tokens` or the window.

    `on_token` is given each step's new ids, None for a row that has ended. What is given back holds the new tokens alone,
    without the end-of-text id. Every rank of a run calls it with the same prompts, and gets the same tokens. Raises ValueError
    where the prompts have no token, different lengths, or fill the window.
    """
    lengths = {len(prompt) for prompt in prompts}
    window = model.config.window
    if len(lengths) != 1 or not 0 < max(lengths) < window:
        raise ValueError(
            f"prompts are of one length from 1 to {window - 1} tokens (the model's window), not {sorted(lengths)}"
        )
    length, device = max(lengths), model.embedding.weight.device
    room = min(sampling.tokens, window - length)
    seen = torch.tensor([list(prompt) for prompt in prompts], device=device)
    cache = KeyValueCache(length + room)
    generator = torch.Generator(device).manual_seed(sampling.seed)
    made: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    fresh = seen
    while seen.shape[1] < length + room and not all(ended):
        logits = model.logits(fresh, cache=cache)[:, -1].float()
        fresh = choose(logits, seen, sampling, generator)
        if dist.is_initialized():
            dist.broadcast(fresh, 0)  # ranks that are off by a bit may choose differently, and end at different steps
        step: list[int | None] = []
        for row, token in enumerate(fresh[:, 0].tolist()):
            ended[row] = ended[row] or token == end_of_text
            step.append(None if ended[row] else token)
            if not ended[row]:
                made[row].append(token)
        if on_token is not None:
            on_token(step)
        seen = torch.cat([seen, fresh], 1)
    return made


def choose(logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """The next tokens, int64 (rows, 1), of logits (rows, vocabulary) after `seen`, int64 (rows, tokens)."""
    if sampling.repetition_penalty != 1:
        there = logits.gather(1, seen)
        penalty = sampling.repetition_penalty
        logits = logits.scatter(1, seen, torch.where(there > 0, there / penalty, there * penalty))
    if sampling.temperature == 0:
        return logits.argmax(1, keepdim=True)
    logits = logits / sampling.temperature
    if sampling.top_k:
        least = logits.topk(min(sampling.top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = F.softmax(ordered, 1).cumsum(1) - F.softmax(ordered, 1)
        ordered = ordered.masked_fill(before >= sampling.top_p, -torch.inf)
        logits = torch.full_like(logits, -torch.inf).scatter(1, order, ordered)
    return torch.multinomial(F.softmax(logits, 1), 1, generator=generator)


class Writer:
    """Text of tokens as they come, held back where a character's bytes are not all there yet."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt)
        self._written = len(self._decoded())

    def add(self, token: int) -> str:
        """What can be written now that `token` has come."""
        self._tokens.append(token)
        text = self._decoded()
        new = text[self._written :]
        if new.endswith("\ufffd"):
            return ""
        self._written = len(text)
        return new

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._tokens))
