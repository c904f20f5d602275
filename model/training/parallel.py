"""How a model is spread over ranks, applied from outside: the transformer knows nothing of it."""

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
class Ranks:
    """This process among those of the run, by torchrun's environment. `mesh` has the dimensions data and tensor; None alone."""

    rank: int
    world_size: int
    data_rank: int
    data_ranks: int
    device: torch.device
    mesh: DeviceMesh | None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the ranks that see different samples."""
        if self.mesh is not None and self.data_ranks > 1:
            dist.all_reduce(value, group=self.mesh["data"].get_group())
        return value

    def any(self, is_so: bool) -> bool:
        """Whether it is so on any of the ranks."""
        if self.mesh is None:
            return is_so
        told = torch.tensor(int(is_so), device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())


@contextmanager
def ranks_of(config: TrainConfig) -> Iterator[Ranks]:
    """Joins the other ranks, on GPUs (NCCL) where there are any, else on processors (gloo).

    Raises `ConfigError` where `parallel:` does not fit the number of processes or the model.
    """
    world_size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    tensor = config.parallel.tensor
    data = config.parallel.data or max(world_size // tensor, 1)
    if data * tensor != world_size:
        raise ConfigError(
            f"parallel: data {data} x tensor {tensor} are {data * tensor} processes, and {world_size} "
            f"were started: torchrun --nproc-per-node {data * tensor} -m tokenmill.model.train CONFIG"
        )
    if config.batch_size % (config.rows * data):
        raise ConfigError(
            f"batch_size: {config.batch_size} samples cannot be dealt out by {config.rows} rows to {data} data ranks"
        )
    if config.model.kv_heads % tensor or config.model.size_of_mlp % tensor:
        raise ConfigError(f"parallel.tensor: {tensor} does not divide the model's key-value heads and its MLP's width")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Ranks(0, 1, 0, 1, device, None)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        mesh = init_device_mesh(device.type, (data, tensor), mesh_dim_names=("data", "tensor"))
        yield Ranks(rank, world_size, mesh.get_local_rank("data"), data, device, mesh)
    finally:
        dist.destroy_process_group()


def spread(model: Transformer, config: TrainConfig, ranks: Ranks, precision: torch.dtype) -> nn.Module:
    """Applies `config.parallel`, activation checkpointing and compilation; gives what to call with samples.

    Beside tensor parallelism, data ranks are FSDP2's whether or not `parallel.shard` says so.
    """
    if config.activation_checkpointing != "none":
        for block in model.blocks:
            recompute(block, config.activation_checkpointing)
    tensor, sharded = config.parallel.tensor, config.parallel.shard or config.parallel.tensor > 1
    compiled = ranks.device.type == "cuda" if config.compile is None else config.compile
    if tensor > 1 and ranks.mesh is not None:
        for block in model.blocks:
            parallelize_module(block, ranks.mesh["tensor"], tensor_plan(config))
    if compiled:
        # FSDP's and tensor parallelism's communication stays outside of what is compiled
        for part in model.blocks if ranks.world_size > 1 and sharded else [model]:
            part.compile(dynamic=False)
    if ranks.mesh is None or ranks.data_ranks == 1:
        return model
    if sharded:
        policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
        for part in (*model.blocks, model):
            fully_shard(part, mesh=ranks.mesh["data"], mp_policy=policy)
        register_fsdp_forward_method(model, "logits")
        return model
    return DistributedDataParallel(model, process_group=ranks.mesh["data"].get_group(), broadcast_buffers=False)


def tensor_plan(config: TrainConfig) -> dict[str, Any]:
    """How a block's matrices are divided among tensor ranks (Shoeybi et al. 2019): heads and the MLP's hidden layer.

    Embeddings, norms and the output matrix are whole on every rank.
    """
    columns = ["attention.query", "attention.key", "attention.value", "mlp.up"]
    columns += ["mlp.gate"] if config.model.mlp == "swiglu" else []
    plan: dict[str, Any] = {name: ColwiseParallel() for name in columns}
    plan |= {name: RowwiseParallel() for name in ("attention.output", "mlp.down")}
    if config.model.qk_norm:
        heads = SequenceParallel(sequence_dim=2, use_local_output=True)
        plan |= {"attention.query_norm": heads, "attention.key_norm": heads}
    return plan


def recompute(block: nn.Module, how: str) -> None:
    """Makes a block keep less for its backward pass: nothing (`block`), or matrix products and attention (`selective`)."""
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _keep)
    block.forward = functools.partial(checkpoint, block.forward, **options)


_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
}


def _keep(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def gradients_stay(module: nn.Module, last: bool) -> Iterator[None]:
    """Within an accumulation, ranks exchange gradients after the `last` part alone."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
        yield
    elif isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield
