"""Optimizers: AdamW, Muon, and the learning rate's schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.config import OptimizerConfig, ScheduleConfig


def rate_factor(schedule: ScheduleConfig, step: int) -> float:
    """The learning rate at a step (from 0), as a factor of the highest.

    Linear warm-up, then half a cosine (Loshchilov and Hutter 2017), or a plateau and a linear fall in the last steps (Hu et
    al. 2024).
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    lowest = schedule.min_lr_ratio
    if schedule.kind == "cosine":
        done = (step - schedule.warmup_steps) / max(schedule.steps - schedule.warmup_steps, 1)
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    falling = schedule.decay_ratio * schedule.steps
    done = 1 - (schedule.steps - step) / falling if falling else 0.0
    return 1 - (1 - lowest) * min(max(done, 0.0), 1.0)


class Optimizers:
    """One optimizer or two, stepped together; a step whose gradient is not finite leaves everything as it was."""

    def __init__(self, model: Transformer, config: OptimizerConfig) -> None:
        self.config = config
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        matrices = {
            weight for name, weight in model.named_parameters() if name.startswith("blocks.") and weight.ndim == 2
        }
        embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        by_muon = matrices if config.kind == "muon" else set()
        # a fused kernel takes weights of one mesh, and a group has one decay
        groups: dict[tuple[bool, Any], list[Tensor]] = defaultdict(list)
        for weight in self.weights:
            if weight not in by_muon:
                decays = weight.ndim == 2 and (config.decay_embeddings or weight not in embeddings)
                groups[decays, _mesh(weight)].append(weight)
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {"params": weights, "weight_decay": config.weight_decay if decays else 0.0}
                    for (decays, _), weights in groups.items()
                ],
                lr=config.learning_rate,
                betas=config.betas,
                eps=config.eps,
                fused=True,
            )
        ]
        if by_muon:
            ordered = [weight for weight in self.weights if weight in by_muon]
            self.all.append(Muon(ordered, config.muon_learning_rate, config.muon_momentum, config.weight_decay))

    def zero(self) -> None:
        """Drops the gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def step(self, factor: float) -> Tensor:
        """Clips the gradients and updates the weights at `factor` of the learning rates.

        Returns the gradient's norm before clipping, a float32 scalar on the device. Where it is not finite, neither weights nor
        state change. The host never waits for the device: whether to skip is decided there.
        """
        norm = gradient_norm(self.weights)
        skip = (~norm.isfinite()).float()
        if self.config.grad_clip:
            scale = torch.clamp(self.config.grad_clip / (norm + 1e-6), max=1.0)
            for weights in _by_mesh(self.weights).values():
                torch._foreach_mul_([weight.grad for weight in weights if weight.grad is not None], scale)
        rates = (self.config.learning_rate, self.config.muon_learning_rate)
        for optimizer, rate in zip(self.all, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            # what a gradient scaler would set: the fused kernel reads it on the device and skips the update
            optimizer.found_inf = skip  # type: ignore[attr-defined]
            optimizer.step()
        return norm


def gradient_norm(weights: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients together, over all ranks' parts of them."""
    norms = []
    for group in _by_mesh(weights).values():
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in group if weight.grad is not None])
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    return torch.linalg.vector_norm(torch.stack(norms))


def _mesh(weight: Tensor) -> Any:
    """The device mesh that a weight is divided over, None for a whole one: foreach operations take weights of one mesh."""
    return weight.device_mesh if isinstance(weight, DTensor) else None


def _by_mesh(weights: Iterable[Tensor]) -> dict[Any, list[Tensor]]:
    grouped: dict[Any, list[Tensor]] = defaultdict(list)
    for weight in weights:
        grouped[_mesh(weight)].append(weight)
    return grouped


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is made orthogonal (Jordan et al. 2024, "Muon: An optimizer for hidden layers").

    Only for matrices (out, in). The update's scale is that of the reference implementation: sqrt(max(1, out / in)).
    """

    found_inf: Tensor | None = None

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates the weights, unless `found_inf` is 1.0 (on the device)."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                grad, momentum = weight.grad, state["momentum"]
                moved = momentum.lerp(grad, 1 - group["momentum"])
                update = orthogonal(grad.lerp(moved, group["momentum"]))
                update = update * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                changed = weight * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * update
                if self.found_inf is not None:
                    # by `where`, not by a multiplication: NaN times 0 is NaN
                    changed = torch.where(self.found_inf > 0, weight, changed)
                    moved = torch.where(self.found_inf > 0, momentum, moved)
                weight.copy_(changed)
                momentum.copy_(moved)


ORTHOGONAL_STEPS = 5
ORTHOGONAL_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, tuned by Jordan et al. for speed: singular values end between about 0.7 and 1.2, not at 1."""


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly U V' of matrix = U S V', by Newton-Schulz iteration in bf16 on a GPU."""
    first, second, third = ORTHOGONAL_COEFFICIENTS
    # wide, so that the Gram matrix is the smaller of the two; singular values at most 1, where the iteration converges
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    found = wide.bfloat16() if matrix.is_cuda else wide
    found = found / (found.norm() + 1e-7)
    for _ in range(ORTHOGONAL_STEPS):
        gram = found @ found.mT
        found = first * found + (second * gram + third * gram @ gram) @ found
    return (found if matrix.shape[0] <= matrix.shape[1] else found.mT).to(matrix.dtype)
