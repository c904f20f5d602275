"""How a model is parallelized over ranks, applied from outside: the transformer knows nothing of it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.nn.transformer import Transformer
from tokenmill.model.training.config import TrainConfig


@dataclass(frozen=True)
class ParallelDims:
    """This process among the run's, from torchrun's environment. `mesh`: dimensions data and tensor; None for one process."""

    rank: int
    world_size: int
    data_rank: int
    data_ranks: int
    device: torch.device
    mesh: DeviceMesh | None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the ranks that see different samples."""
        if self.mesh is not None and self.data_ranks > 1:
            dist.all_reduce(value, group=self.mesh["data"].get_group())
        return value

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        if self.mesh is None:
            return value
        reduced = torch.tensor(int(value), device=self.device)
        dist.all_reduce(reduced, dist.ReduceOp.MAX)
        return bool(reduced.item())


@contextmanager
def parallel_dims(config: TrainConfig) -> Iterator[ParallelDims]:
    """Joins the other ranks, on GPUs (NCCL) where there are any, else on CPUs (gloo).

    Raises `ConfigError` where `parallel:` does not fit the number of processes or the model.
    """
    world_size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    tensor = config.parallel.tensor
    data = config.parallel.data or max(world_size // tensor, 1)
    _check_sizes(config, data, tensor, world_size)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if world_size == 1:
        yield ParallelDims(0, 1, 0, 1, device, None)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        mesh = init_device_mesh(device.type, (data, tensor), mesh_dim_names=("data", "tensor"))
        yield ParallelDims(rank, world_size, mesh.get_local_rank("data"), data, device, mesh)
    finally:
        dist.destroy_process_group()


def _check_sizes(config: TrainConfig, data: int, tensor: int, world_size: int) -> None:
    if data * tensor != world_size:
        raise ConfigError(
            f"parallel: data {data} x tensor {tensor} are {data * tensor} processes, and {world_size} "
            f"were started: torchrun --nproc-per-node {data * tensor} -m tokenmill.model.train CONFIG"
        )
    if config.batch_size % (config.micro_batch_size * data):
        raise ConfigError(
            f"batch_size: {config.batch_size} samples cannot be divided into micro-batches of {config.micro_batch_size} on "
            f"{data} data ranks"
        )
    if config.model.n_kv_heads % tensor or config.model.d_ff % tensor:
        raise ConfigError(
            f"parallel.tensor: {tensor} does not divide {config.model.n_kv_heads} n_kv_heads and a d_ff of {config.model.d_ff}"
        )


def parallelize(model: Transformer, config: TrainConfig, dims: ParallelDims, precision: torch.dtype) -> nn.Module:
    """Applies `config.parallel`, activation checkpointing and compilation; returns the module to call with samples.

    The order matters: tensor parallelism, then compilation, then FSDP or DDP. With tensor parallelism, data ranks are always
    FSDP's, since DDP cannot hold weights that are themselves divided.
    """
    if config.activation_checkpointing != "none":
        for block in model.blocks:
            recompute(block, config.activation_checkpointing)
    tensor, sharded = config.parallel.tensor, config.parallel.fsdp or config.parallel.tensor > 1
    compiled = dims.device.type == "cuda" if config.compile is None else config.compile
    if tensor > 1 and dims.mesh is not None:
        for block in model.blocks:
            parallelize_module(block, dims.mesh["tensor"], tensor_plan(config))
    if compiled:
        # block by block where weights are divided: FSDP's hooks between blocks would break a graph of the whole model
        for part in model.blocks if dims.world_size > 1 and sharded else [model]:
            part.compile(dynamic=False)
    if dims.mesh is None or dims.data_ranks == 1:
        return model
    if sharded:
        # gradients are summed in float32: many small ones in bf16 would round each other away
        policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
        # blocks first: what is left over (embeddings, the last norm) is then gathered with the model
        for part in (*model.blocks, model):
            fully_shard(part, mesh=dims.mesh["data"], mp_policy=policy)
        register_fsdp_forward_method(model, "logits")  # or generation would call it with weights that are not gathered
        return model
    return DistributedDataParallel(model, process_group=dims.mesh["data"].get_group(), broadcast_buffers=False)


def tensor_plan(config: TrainConfig) -> dict[str, Any]:
    """How a block's matrices are divided among tensor ranks (Shoeybi et al. 2019): heads and the MLP's hidden layer.

    The first matrix by columns and the second by rows: what is between them never leaves its rank, and there is one sum over
    ranks for attention and one for the MLP. Embeddings, norms and the output matrix are whole on every rank.
    """
    columns = ["attention.query", "attention.key", "attention.value", "mlp.up"]
    columns += ["mlp.gate"] if config.model.mlp == "swiglu" else []
    plan: dict[str, Any] = {name: ColwiseParallel() for name in columns}
    plan |= {name: RowwiseParallel() for name in ("attention.output", "mlp.down")}
    if config.model.qk_norm:
        # the norms' weights are shared by all heads, of which each rank has some (dimension 2): as in sequence parallelism,
        # their gradients are summed over ranks
        heads = SequenceParallel(sequence_dim=2, use_local_output=True)
        plan |= {"attention.query_norm": heads, "attention.key_norm": heads}
    return plan


def recompute(block: nn.Module, how: str) -> None:
    """Makes a block keep less for its backward pass: nothing (`block`), or matrix products and attention (`selective`)."""
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    # the method is replaced, not the module wrapped: the weights keep their names
    block.forward = functools.partial(checkpoint, block.forward, **options)


_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
}
"""What is expensive to recompute; all else (norms, activations, rotations) takes little time."""


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def no_gradient_sync(module: nn.Module, active: bool) -> Iterator[None]:
    """While `active`, backward passes add to this rank's gradients without exchanging them.

    For all but the last micro-batch of a step: one exchange a step instead of one a micro-batch.
    """
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(not active)
        yield
    elif isinstance(module, DistributedDataParallel) and active:
        with module.no_sync():
            yield
    else:
        yield
