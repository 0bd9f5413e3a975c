"""Weights, gradients and optimiser state cut into one piece a process (FSDP2), for backbones that one machine cannot hold.

Every process keeps its piece of each tensor; a block's weights are gathered when it runs and let go after it (Zhao et
al. 2023; ``torch.distributed.fsdp.fully_shard``). The function, its gradients and the steps are those of whole weights.
What is written to disk is whole, so a checkpoint does not know how many processes made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def shard(module: ModuleT, blocks: Iterable[nn.Module] = ()) -> ModuleT:
    """Cut the weights of a module in place, over all processes of the group.

    Args:
        module: called as a whole (``module(...)``), as the gathering hangs on that call.
        blocks: parts that are gathered one at a time, e.g. transformer layers; the rest is gathered together.

    Cost: every process receives all weights once forward and once backward, and sends each gradient once.
    """
    for block in blocks:
        fully_shard(block)
    fully_shard(module)
    return module


def whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with their pieces put together, on the CPU; all processes must call it."""
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
        for name, value in state.items()
    }


def whole_optimiser(state: dict[str, Any]) -> dict[str, Any]:
    """The same for what ``Optimizer.state_dict`` gives."""
    return {**state, "state": {number: whole(values) for number, values in state["state"].items()}}


@torch.no_grad()
def take_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give whole tensors to a module, cut or not. Raises: KeyError for one that is missing."""
    for name, value in module.state_dict().items():
        value.copy_(like(state[name], value))


def take_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give a whole state to an optimiser, whose parameters may be cut."""
    optimiser.load_state_dict(state)
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if value.ndim or not isinstance(parameter, DTensor):
                values[name] = like(value, parameter)


def like(value: Tensor, other: Tensor) -> Tensor:
    """``value`` cut as ``other`` is (or as it is)."""
    if isinstance(other, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
    return value


def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """``torch.nn.utils.clip_grad_norm_`` over whole and cut gradients together; the norm before it."""
    grads = [p.grad for p in parameters if p.grad is not None]
    kinds = [[g for g in grads if isinstance(g, DTensor) == cut] for cut in (False, True)]
    norms = [torch.nn.utils.get_total_norm(kind) for kind in kinds if kind]
    norms = [n.full_tensor() if isinstance(n, DTensor) else n for n in norms]
    total = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
    share = (most / (total + 1e-6)).clamp(max=1.0)
    for gradient in grads:
        (gradient.to_local() if isinstance(gradient, DTensor) else gradient).mul_(share.to(gradient.device))
    return total
