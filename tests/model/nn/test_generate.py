"""Text from a model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from tokenmill.model.nn.generate import Sampling, TokenStreamDecoder, choose, generate
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.nn.transformer import Transformer

END = 0


def made(**changes: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=2, d_model=32, n_heads=2, context_length=32, **changes), 50)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model.eval()


def without_cache(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """Greedy, a whole forward a token."""
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            token = int(model.logits(torch.tensor([tokens]))[0, -1].argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


@given(prompt=st.lists(st.integers(1, 49), min_size=1, max_size=20), count=st.integers(1, 40))
@settings(max_examples=25)
def test_greedy_text_is_that_of_whole_forwards(prompt: list[int], count: int) -> None:
    model = made(attention=("sliding", "full"), sliding_window=6, n_kv_heads=1)
    expected = without_cache(model, prompt, min(count, 32 - len(prompt)))
    assert generate(model, [prompt], END, Sampling(tokens=count, temperature=0)) == [expected]


def test_rows_are_apart_and_seeded() -> None:
    model = made()
    sampling = Sampling(tokens=20, temperature=1.5, seed=4)
    twice = [generate(model, [[3, 4]] * 3, END, sampling) for _ in range(2)]
    assert twice[0] == twice[1]
    assert len({tuple(row) for row in twice[0]}) == 3
    assert generate(model, [[3, 4]] * 3, END, Sampling(tokens=20, temperature=1.5, seed=5)) != twice[0]
    assert all(END not in row for row in twice[0])


def test_tokens_are_told_as_they_come() -> None:
    model = made()
    told: list[list[int | None]] = []
    rows = generate(model, [[3], [9]], END, Sampling(tokens=25, temperature=2.0, seed=1), told.append)
    for number, row in enumerate(rows):
        assert [step[number] for step in told if step[number] is not None] == row


def test_prompts_that_cannot_be_continued() -> None:
    wrong: list[list[list[int]]] = [[[]], [[1], [1, 2]], [[1] * 32], []]
    for prompts in wrong:
        with pytest.raises(ValueError, match="prompts must be of one length from 1 to 31"):
            generate(made(), prompts, END, Sampling())
    with pytest.raises(ValueError, match="top_p is in"):
        Sampling(top_p=0)


def drawn(sampling: Sampling, logits: Tensor, seen: Tensor, times: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rows = [choose(logits, seen, sampling, generator) for _ in range(times)]
    return torch.cat(rows).flatten().bincount(minlength=logits.shape[1]) / times


def test_sampling() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    logits, seen = probabilities.log()[None], torch.tensor([[0]])
    assert torch.allclose(drawn(Sampling(temperature=1), logits, seen), probabilities, atol=0.08)
    assert drawn(Sampling(temperature=1, top_k=2), logits, seen)[2:].sum() == 0
    # 0.5 + 0.25 reach 0.7 together: the two likeliest, in their proportion
    nucleus = drawn(Sampling(temperature=1, top_p=0.7), logits, seen)
    assert nucleus[2:].sum() == 0
    assert nucleus[0] == pytest.approx(2 / 3, abs=0.08)
    assert drawn(Sampling(temperature=0.1), logits, seen)[0] > 0.95
    assert drawn(Sampling(temperature=0), logits, seen)[0] == 1
    penalized = drawn(Sampling(temperature=1, repetition_penalty=4), logits, seen)
    assert penalized[0] < 0.2


def test_characters_of_several_tokens_are_written_whole() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    decoder = TokenStreamDecoder(tokenizer, tokenizer.encode("a").ids)
    pieces = [decoder.add(token) for token in tokenizer.encode("bé漢 ").ids]
    assert pieces == ["b", "", "é", "", "", "漢", " "]
