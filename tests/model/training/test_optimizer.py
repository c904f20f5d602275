"""What moves the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.model.nn.model_config import ModelConfig
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.config import OptimizerConfig, ScheduleConfig
from tokenmill.model.training.optimizer import Muon, Optimizers, gradient_norm, orthogonal, rate_factor

SMALL = ModelConfig(n_layers=2, d_model=32, n_heads=2, context_length=16, bias=True)


def made(config: OptimizerConfig) -> tuple[Transformer, Optimizers]:
    torch.manual_seed(0)
    model = Transformer(SMALL, 50)
    return model, Optimizers(model, config)


def backward(model: Transformer, scale: float = 1.0) -> None:
    drawn = torch.randint(0, 50, (4, 17), generator=torch.Generator().manual_seed(3))
    (model(drawn[:, :-1], drawn[:, 1:]) * scale).backward()


@given(
    kind=st.sampled_from(["cosine", "warmup_stable_decay"]),
    steps=st.integers(1, 3000),
    warmup=st.floats(0, 1),
    final=st.floats(0, 1),
    decay=st.floats(0, 1),
)
def test_rates_rise_then_fall(kind: Any, steps: int, warmup: float, final: float, decay: float) -> None:
    schedule = ScheduleConfig(
        steps=steps, kind=kind, warmup_steps=int(warmup * steps), min_lr_ratio=final, decay_ratio=decay
    )
    rates = [rate_factor(schedule, step) for step in range(steps)]
    assert all(0 < rate <= 1 or rate == final for rate in rates)
    rise, fall = rates[: schedule.warmup_steps], rates[schedule.warmup_steps :]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert all(rate >= final - 1e-12 for rate in fall)


def test_known_rates() -> None:
    cosine = ScheduleConfig(steps=110, warmup_steps=10, min_lr_ratio=0.1)
    assert rate_factor(cosine, 0) == pytest.approx(0.1)
    assert rate_factor(cosine, 9) == rate_factor(cosine, 10) == 1
    assert rate_factor(cosine, 60) == pytest.approx(0.55)
    stable = ScheduleConfig(steps=100, warmup_steps=10, kind="warmup_stable_decay", decay_ratio=0.2, min_lr_ratio=0)
    assert rate_factor(stable, 80) == 1
    assert rate_factor(stable, 90) == pytest.approx(0.5)


def test_decay_is_for_matrices() -> None:
    model, optimizers = made(OptimizerConfig(weight_decay=0.5))
    names = {weight: name for name, weight in model.named_parameters()}
    (adamw,) = optimizers.all
    decayed = {names[weight] for group in adamw.param_groups if group["weight_decay"] for weight in group["params"]}
    matrices = {name for name, weight in model.named_parameters() if weight.ndim == 2}
    assert decayed == matrices - {"embedding.weight"}
    _, with_embeddings = made(OptimizerConfig(decay_embeddings=True))
    (group,) = (group for group in with_embeddings.all[0].param_groups if group["weight_decay"])
    assert len(group["params"]) == len(decayed) + 1


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_weight_moves(kind: Any) -> None:
    model, optimizers = made(OptimizerConfig(kind=kind))
    before = [weight.clone() for weight in model.parameters()]
    backward(model)
    optimizers.step(1.0)
    for (name, weight), old in zip(model.named_parameters(), before, strict=True):
        assert not torch.equal(weight, old), name


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_step_that_is_not_finite_changes_nothing(kind: Any) -> None:
    model, optimizers = made(OptimizerConfig(kind=kind))
    backward(model)
    optimizers.step(1.0)
    optimizers.zero()

    def everything() -> list[torch.Tensor]:
        states = [value for each in optimizers.all for held in each.state.values() for value in held.values()]
        return [value.clone() for value in (*model.parameters(), *states)]

    before = everything()
    backward(model, float("inf"))
    assert not optimizers.step(1.0).isfinite()
    for old, new in zip(before, everything(), strict=True):
        assert torch.equal(old, new)
    optimizers.zero()
    backward(model)
    assert optimizers.step(1.0).isfinite()
    assert not all(torch.equal(old, new) for old, new in zip(before, everything(), strict=True))


def test_clipping() -> None:
    model, optimizers = made(OptimizerConfig(grad_clip=0.5))
    backward(model, 100.0)
    expected = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters() if weight.grad is not None])
    assert optimizers.step(1.0).item() == pytest.approx(expected.item(), rel=1e-5)
    assert gradient_norm(model.parameters()).item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    alignment = torch.linalg.svdvals(orthogonal(matrix) - left @ right).max()
    assert alignment < 0.5


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon of its own to compare with")
@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_muon_is_torch_s(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, grads = torch.randn(shape), [torch.randn(shape) for _ in range(4)]
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings: dict[str, Any] = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    optimizers = [Muon([ours], **settings), torch.optim.Muon([theirs], nesterov=True, **settings)]
    for grad in grads:
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = grad.clone()
            optimizer.step()
    # torch iterates in bf16 on every device
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * 4 * 0.05)
    assert (ours - start).norm() > 10 * (ours - theirs).norm()
