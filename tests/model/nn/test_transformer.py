"""The transformer: what it sees, where it begins, and that its gradients are right."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tokenmill.model.data.batch import IGNORED
from tokenmill.model.nn.attention import KeyValueCache
from tokenmill.model.nn.loss import summed_loss
from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.parallel import recompute

SMALL: dict[str, Any] = {"n_layers": 2, "d_model": 32, "n_heads": 4, "context_length": 24, "sliding_window": 5}
GPT2: dict[str, Any] = {"norm": "layernorm", "position_embedding": "learned", "mlp": "gelu", "bias": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": GPT2,
    "layernorm without bias": {"norm": "layernorm"},
    "grouped queries": {"n_kv_heads": 2},
    "one key-value head": {"n_kv_heads": 1},
    "sliding": {"attention": ("sliding",)},
    "sliding and full": {"attention": ("sliding", "full"), "n_kv_heads": 2},
    "normalized queries and keys": {"qk_norm": True},
    "untied": {"tied_embeddings": False},
    "wide heads": {"head_dim": 16},
}
VOCABULARY = 67


def made(variant: str, seed: int = 0, **changes: Any) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**{**SMALL, **VARIANTS[variant], **changes}), VOCABULARY)
    with torch.no_grad():
        for weight in model.parameters():  # away from the beginning, where most things are near 0
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def tokens(rows: int, count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, count), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [64, 768, 2048])
@pytest.mark.parametrize(
    "choices", [{}, GPT2, {"tied_embeddings": False, "qk_norm": True}], ids=["llama", "gpt2", "untied"]
)
def test_loss_begins_at_the_logarithm_of_the_vocabulary(width: int, choices: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = ModelConfig(n_layers=4, d_model=width, n_heads=width // 64, context_length=64, **choices)
    model = Transformer(config, 5000)
    drawn = torch.randint(0, 5000, (4, 65))
    loss = model(drawn[:, :-1], drawn[:, 1:]) / (4 * 64)
    assert abs(loss.item() / math.log(5000) - 1) < 0.02


def test_weights_begin_as_stated() -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=8, d_model=512, n_heads=8, bias=True, norm="layernorm"), 4000)
    deviations = {name: weight.std().item() for name, weight in model.named_parameters() if weight.ndim == 2}
    for name, deviation in deviations.items():
        expected = 0.02
        if name.endswith(("output.weight", "down.weight")):
            expected /= math.sqrt(16)
        if name == "embedding.weight":
            expected = 0.35 / math.sqrt(512)
        assert abs(deviation / expected - 1) < 0.02, name
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            assert torch.equal(weight, torch.full_like(weight, 0.0 if name.endswith("bias") else 1.0))


def test_parameter_count_is_the_convention_s() -> None:
    model = Transformer(ModelConfig(norm="layernorm", position_embedding="learned", mlp="gelu", bias=True), 50257)
    # GPT-2 small has 124,439,808 weights, of which 1,024 x 768 are positions
    assert model.parameter_count() == 124_439_808 - 1024 * 768
    assert model.embedding.num_embeddings == 50304


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_equal_finite_differences(variant: str) -> None:
    model = made(variant).double()
    drawn = tokens(2, 13)

    def loss() -> Tensor:
        # in float64 throughout: the loss itself is summed in float32
        logits = model.logits(drawn[:, :-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), drawn[:, 1:].flatten(), reduction="sum")

    torch.autograd.backward(loss())
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        # along the gradient, where every entry of it counts, and along a random direction
        for direction in (weight.grad, torch.randn(weight.shape, generator=generator, dtype=torch.float64)):
            unit = direction / direction.norm()
            with torch.no_grad():
                losses = []
                for sign in (1, -1):
                    weight.add_(sign * 1e-5 * unit)
                    losses.append(loss().item())
                    weight.sub_(sign * 1e-5 * unit)
            slope = (losses[0] - losses[1]) / 2e-5
            expected = (weight.grad * unit).sum().item()
            assert slope == pytest.approx(expected, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("variant", VARIANTS)
@given(data=st.data())
@settings(max_examples=15)
def test_no_token_looks_ahead(variant: str, data: st.DataObject) -> None:
    model = made(variant)
    drawn = tokens(2, 20, data.draw(st.integers(0, 9)))
    place = data.draw(st.integers(0, 19))
    changed = drawn.clone()
    changed[0, place] = (changed[0, place] + data.draw(st.integers(1, VOCABULARY - 1))) % VOCABULARY
    documents = (drawn % 7 == 0).cumsum(1) if data.draw(st.booleans()) else None
    with torch.no_grad():
        before, after = model.logits(drawn, documents), model.logits(changed, documents)
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(before[0, :place], after[0, :place], rtol=0, atol=1e-6)
    assert not torch.allclose(before[0, place], after[0, place], atol=1e-4)


def test_a_sliding_layer_sees_its_window_alone() -> None:
    model = made("sliding", n_layers=1)
    drawn = tokens(1, 20)
    changed = drawn.clone()
    changed[0, 3] = (changed[0, 3] + 1) % VOCABULARY
    with torch.no_grad():
        moved = (model.logits(drawn) - model.logits(changed)).abs().amax(-1)[0]
    assert (moved[3:8] > 1e-4).all()  # the token itself and the four after it
    assert (moved[8:] < 1e-6).all()


def test_documents_are_apart() -> None:
    """Each document of a row gives what it gives alone, where positions are relative."""
    model = made("llama")
    drawn = tokens(1, 20)
    documents = torch.tensor([[0] * 7 + [1] * 13])
    with torch.no_grad():
        together = model.logits(drawn, documents)
        torch.testing.assert_close(together[:, :7], model.logits(drawn[:, :7]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together[:, 7:], model.logits(drawn[:, 7:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@given(cuts=st.lists(st.integers(1, 19), max_size=5, unique=True), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_the_cache_gives_what_a_whole_forward_gives(variant: str, cuts: list[int], seed: int) -> None:
    model = made(variant)
    drawn = tokens(3, 20, seed)
    cache = KeyValueCache(20)
    ends = [*sorted(cuts), 20]
    with torch.no_grad():
        pieces = [
            model.logits(drawn[:, start:end], cache=cache) for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        torch.testing.assert_close(torch.cat(pieces, 1), model.logits(drawn), rtol=1e-4, atol=1e-5)


def test_more_than_the_context_length_is_refused() -> None:
    with pytest.raises(ValueError, match="25 tokens are more than the context length of 24"):
        made("llama").logits(tokens(1, 25))


@pytest.mark.parametrize("how", ["block", "selective"])
def test_recomputing_changes_no_gradient(how: str) -> None:
    drawn = tokens(2, 21)
    gradients = []
    for recomputes in (False, True):
        model = made("sliding and full")
        if recomputes:
            for block in model.blocks:
                recompute(block, how)
        model(drawn[:, :-1], drawn[:, 1:]).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_chunks_of_logits_give_the_same_loss(precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    targets = torch.randint(0, 900, (4, 50))
    targets[1, 30:] = IGNORED
    found = []
    for chunk in (None, 64, 1000):
        torch.manual_seed(1)
        hidden, weight = torch.randn(4, 50, 32, requires_grad=True), torch.randn(1024, 32, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
            loss = summed_loss(hidden, weight, targets, 900, chunk)
            with torch.no_grad():
                assert summed_loss(hidden, weight, targets, 900, chunk) == loss
        torch.autograd.backward(loss / 3)
        assert loss.dtype == torch.float32
        found.append((loss.detach(), hidden.grad, weight.grad))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(
                one, two, rtol=1e-4 if precision is None else 2e-2, atol=1e-4 if precision is None else 0.2
            )
    assert found[0][0].item() == pytest.approx(found[1][0].item(), rel=1e-4)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the most elements that a tensor has which is made meanwhile."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.elements = max(self.elements, *(leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)), 0)
        return made


def test_chunks_of_logits_are_never_there_together() -> None:
    hidden, weight = torch.randn(1, 500, 8, requires_grad=True), torch.randn(128, 8, requires_grad=True)
    targets = torch.randint(0, 128, (1, 500))
    for chunk, logits in ((None, 500), (50, 50)):
        with LargestTensor() as largest:  # type: ignore[no-untyped-call]
            torch.autograd.backward(summed_loss(hidden, weight, targets, 128, chunk))
        assert largest.elements == max(logits * 128, hidden.numel())
