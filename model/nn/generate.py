"""Generation: text from a model, token by token, with a key-value cache."""

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

    `tokens`: new ones, at most. `temperature`: 0 takes the likeliest. `top_k`: only among so many of the likeliest; 0 for all.
    `top_p`: only among the likeliest that together have this probability (Holtzman et al. 2020). `repetition_penalty`: logits
    of tokens that are in the text already are divided by it where positive, else multiplied (Keskar et al. 2019).
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
            raise ValueError(
                f"{self}: tokens and repetition_penalty must be above 0, temperature and top_k 0 or more; top_p is in (0, 1]"
            )


@torch.no_grad()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    end_of_text: int,
    sampling: Sampling,
    on_token: Callable[[list[int | None]], None] | None = None,
) -> list[list[int]]:
    """Continues prompts of one length, each until the end-of-text id, `sampling.tokens` or the context length.

    Returns the new tokens of each, without the end-of-text id. `on_token` is called with each step's new ids, None for a row
    that has ended. Every rank of a run calls it with the same prompts, and gets the same tokens. Raises ValueError where the
    prompts are empty, differ in length, or fill the context.
    """
    lengths = {len(prompt) for prompt in prompts}
    context_length = model.config.context_length
    if len(lengths) != 1 or not 0 < max(lengths) < context_length:
        raise ValueError(
            f"prompts must be of one length from 1 to {context_length - 1} tokens (the model's context length is "
            f"{context_length}), not {sorted(lengths)}"
        )
    length, device = max(lengths), model.embedding.weight.device
    room = min(sampling.tokens, context_length - length)
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
            # ranks whose logits differ by a bit may choose differently, end at different steps, and then wait for ever
            dist.broadcast(fresh, 0)
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
        repeated = logits.gather(1, seen)
        penalty = sampling.repetition_penalty
        # dividing a negative logit would make its token likelier
        logits = logits.scatter(1, seen, torch.where(repeated > 0, repeated / penalty, repeated * penalty))
    if sampling.temperature == 0:
        return logits.argmax(1, keepdim=True)
    logits = logits / sampling.temperature
    if sampling.top_k:
        least = logits.topk(min(sampling.top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        # the probability of all likelier tokens: with it, and not with the token's own added, the likeliest is always left
        before = F.softmax(ordered, 1).cumsum(1) - F.softmax(ordered, 1)
        ordered = ordered.masked_fill(before >= sampling.top_p, -torch.inf)
        logits = torch.full_like(logits, -torch.inf).scatter(1, order, ordered)
    return torch.multinomial(F.softmax(logits, 1), 1, generator=generator)


class TokenStreamDecoder:
    """Text of tokens as they come, held back while some of a character's bytes are missing."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt)
        self._written = len(self._decoded())

    def add(self, token: int) -> str:
        """The text that `token` completes."""
        # all tokens are decoded each time: what a token reads as may depend on the one before it
        self._tokens.append(token)
        text = self._decoded()
        new = text[self._written :]
        if new.endswith("\ufffd"):  # what the decoder puts for bytes that are not a character yet
            return ""
        self._written = len(text)
        return new

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._tokens))
