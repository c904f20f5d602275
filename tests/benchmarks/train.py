"""Training: tokens/s and MFU of the presets, beside a bare loop (CPU) or nanoGPT's own (GPU), in one table.

    python -m tests.benchmarks.train            # what the machine has: a GPU's presets, or a laptop's

Every variant is first checked (its loss begins at the logarithm of the vocabulary), then timed in turns with what it is
compared with. MFU by 6 N + 12 L d T FLOPs a token against the GPU's dense bf16 peak; full attention, padding not counted.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.model.datasets import documents, write_dataset
from tests.paths import CONFIGS
from tokenmill.model.training.config import TrainConfig, load_train_config
from tokenmill.model.training.gpus import peak_flops
from tokenmill.model.training.parallel import ParallelDims
from tokenmill.model.training.throughput import flops_per_token
from tokenmill.model.training.trainer import Trainer

GPU_VARIANTS = {
    "gpt2-124m": ["micro_batch_size=64", "batch_size=512"],
    "gpt2-350m": ["micro_batch_size=32", "batch_size=256"],
    "llama-1b": ["micro_batch_size=16", "batch_size=64"],
}
CPU_VARIANTS: dict[str, list[str]] = {"tiny": [], "laptop-10m": []}
GPU_VOCABULARY, CPU_VOCABULARY = 50257, 4096
ROUNDS = 3


@dataclass
class Result:
    """Seconds a step, the least of the rounds, and the share of them that was spent waiting for data."""

    seconds: float
    data_wait: float


def main() -> None:
    """Prints the table."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    dims = ParallelDims(0, 1, 0, 1, device, None)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if on_gpu else 'CPU'}; MFU by 6 N + 12 L d T")
    print(f"{'preset':12} {'':22} {'tokens/s':>10} {'MFU':>7} {'data wait':>10} {'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        data = random_dataset(Path(folder) / "data", GPU_VOCABULARY if on_gpu else CPU_VOCABULARY)
        for name, settings in (GPU_VARIANTS if on_gpu else CPU_VARIANTS).items():
            common = [f"data.path={data}", "data.validation=null", f"output={folder}/{name}"]
            config = load_train_config(str(CONFIGS / f"{name}.yaml"), [*settings, *common])
            compare(name, config, dims, 8 if on_gpu else 6)
            if on_gpu:
                torch.cuda.empty_cache()


def random_dataset(folder: Path, vocabulary: int) -> Path:
    """Ten million random tokens: what is learned from does not change the speed."""
    lengths = np.random.default_rng(0).integers(100, 3000, 6500).tolist()
    return write_dataset(folder, {"train": [documents(lengths, vocabulary)]}, vocabulary)


def compare(name: str, config: TrainConfig, dims: ParallelDims, steps: int) -> None:
    """Times a preset's run and its peer, in turns, and prints a line for each."""
    run = Trainer(config, dims)
    batches = iter(run.samples)
    sides: dict[str, Callable[[], object]] = {"tokenmill": lambda: run._step(batches)}
    norm = first_norm(sides["tokenmill"], run.vocabulary.size)
    if dims.device.type == "cpu":
        sides["the same modules, bare"] = bare(run, next(batches))
    elif name == "gpt2-124m":
        sides["with CUDA graphs"] = with_graphs(config, dims)
        again = first_norm(sides["with CUDA graphs"], run.vocabulary.size)
        assert math.isclose(again, norm, rel_tol=0.01), f"with CUDA graphs the gradient's norm is {again}, not {norm}"
        sides["nanoGPT's loop"] = nanogpt(run, dims.device)
    results = {label: Result(math.inf, 0.0) for label in sides}
    for _ in range(ROUNDS):
        for label, step in sides.items():
            step()
            run.throughput.restart()
            began = synchronized(dims.device)
            for _ in range(steps):
                step()
            seconds = (synchronized(dims.device) - began) / steps
            if seconds < results[label].seconds:
                results[label] = Result(seconds, run.throughput.figures()["data_wait"])
    tokens = config.batch_size * config.model.context_length
    flops = flops_per_token(config.model, run.model.parameter_count())
    peak = peak_flops(dims.device)
    for label, result in results.items():
        mfu = "" if peak is None else f"{tokens * flops / result.seconds / peak:.1%}"
        wait = f"{result.data_wait:.2%}" if label == "tokenmill" else ""
        ratio = results["tokenmill"].seconds / result.seconds
        print(f"{name:12} {label:22} {tokens / result.seconds:10,.0f} {mfu:>7} {wait:>10} {ratio:7.2f}", flush=True)


def first_norm(step: Callable[[], Any], vocabulary: int) -> float:
    """Does a run's first step, whose loss is the vocabulary's logarithm; gives the norm of its gradient."""
    loss, norm = step()
    expected = math.log(vocabulary)
    assert abs(loss.item() / expected - 1) < 0.02, f"the loss begins at {loss.item()}, not {expected}"
    return float(norm)


def synchronized(device: torch.device) -> float:
    """The time, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def bare(run: Trainer, batch: Any) -> Callable[[], object]:
    """A loop around a run's modules that does nothing else: no loader, no schedule, no clipping, no counting."""
    config = run.config
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        for _ in range(config.batch_size // config.micro_batch_size):
            with torch.autocast("cpu", run.precision, enabled=run.precision != torch.float32):
                loss = run.ddp_model(batch.inputs, batch.targets, None, config.loss_chunk)
            (loss / batch.targets.numel()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def with_graphs(config: TrainConfig, dims: ParallelDims) -> Callable[[], object]:
    """The step of a run whose model is compiled with CUDA graphs, which `tokenmill train` does without."""
    run = Trainer(config.model_copy(update={"compile": False, "output": f"{config.output}-graphs"}), dims)
    run.model.compile(dynamic=False, mode="reduce-overhead")
    batches = iter(run.samples)

    def step() -> tuple[Tensor, Tensor]:
        for weight in run.model.parameters():
            # gradients that are there are added to; else they are a graph's memory, which its next replay overwrites
            # (pytorch/pytorch#169545)
            weight.grad = torch.zeros_like(weight)
        return run._step(batches)

    return step


class NanoGPT(nn.Module):
    """nanoGPT's model as its README and papers describe it: GPT-2 without dropout, one matrix for queries, keys and values,
    attention by scaled_dot_product_attention, tied embeddings, a vocabulary of 50,304."""

    def __init__(self, layers: int, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50304, width), nn.Embedding(window, width)
        self.blocks = nn.ModuleList(NanoBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 50304, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(lambda module: _initialize(module))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean loss."""
        hidden = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            hidden = block(hidden)
        logits = self.head(self.norm(hidden))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)


class NanoBlock(nn.Module):
    """A pre-norm block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(rows, tokens, width) to the same."""
        rows, tokens, width = hidden.shape
        parts = self.inputs(self.norms[0](hidden)).split(width, dim=2)
        queries, keys, values = (part.view(rows, tokens, self.heads, -1).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        hidden = hidden + self.output(attended.transpose(1, 2).contiguous().view(rows, tokens, width))
        return hidden + self.down(F.gelu(self.up(self.norms[1](hidden))))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def nanogpt(run: Trainer, device: torch.device) -> Callable[[], object]:
    """nanoGPT's training step: compiled, bf16 autocast, fused AdamW, clipping, pinned batches of a fresh memmap."""
    config, shape = run.config, run.config.model
    model = NanoGPT(shape.n_layers, shape.d_model, shape.n_heads, shape.context_length).to(device)
    compiled: Any = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), fused=True)
    micro_batches = config.batch_size // config.micro_batch_size
    path = next(Path(config.data.components[0].path).glob("train-*.bin"))
    random = np.random.default_rng(0)

    def batch() -> tuple[Tensor, Tensor]:
        data = np.memmap(path, dtype=np.uint16, mode="r")
        starts = random.integers(0, len(data) - shape.context_length - 1, config.micro_batch_size)
        pair = (
            np.stack([data[s + shift : s + shift + shape.context_length] for s in starts]).astype(np.int64)
            for shift in (0, 1)
        )
        inputs, targets = (torch.from_numpy(rows).pin_memory().to(device, non_blocking=True) for rows in pair)
        return inputs, targets

    pending: Iterator[tuple[Tensor, Tensor]] = (batch() for _ in itertools.count())
    inputs, targets = next(pending)

    def step() -> None:
        nonlocal inputs, targets
        for _ in range(micro_batches):
            with torch.autocast("cuda", torch.bfloat16):
                loss = compiled(inputs, targets) / micro_batches
            inputs, targets = next(pending)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
