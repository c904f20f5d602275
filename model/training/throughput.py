"""How fast a run trains, and how much of the device's peak that is."""

from __future__ import annotations

import time

from tokenmill.model.nn.model_config import ModelConfig


def flops_per_token(config: ModelConfig, parameters: int) -> float:
    """FLOPs that training takes a token, forward and backward: 6 N + 12 L d T (Chowdhery et al. 2022, appendix B).

    Full attention, whatever the model's windows; N is `Transformer.parameter_count`; recomputed activations do not count.
    """
    return 6 * parameters + 12 * config.n_layers * config.n_heads * config.head_dim * config.context_length


class Throughput:
    """Times the steps since the last `restart`."""

    def __init__(self, tokens_per_step: int, flops: float, peak: float | None) -> None:
        """`flops`: a token. `peak`: FLOP/s of all ranks together, None where not known."""
        self._tokens, self._flops, self._peak = tokens_per_step, flops, peak
        self.restart()

    def restart(self) -> None:
        """Begins again: what was before (a compilation, an evaluation, a checkpoint) does not count."""
        self._began = time.perf_counter()
        self._steps = 0
        self._waited = 0.0

    def add_wait(self, seconds: float) -> None:
        """Adds seconds in which a step waited for data."""
        self._waited += seconds

    def add_step(self) -> None:
        """Counts a step."""
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """`tokens_per_second` of all ranks, `data_wait` as a share of the time, `mfu` where the device's peak is known."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        rate = self._steps * self._tokens / seconds
        figures = {"tokens_per_second": round(rate, 1), "data_wait": round(self._waited / seconds, 5)}
        if self._peak is not None:
            figures["mfu"] = round(rate * self._flops / self._peak, 4)
        return figures
