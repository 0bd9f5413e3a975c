"""Weights, gradients and optimiser state cut into one piece a process (FSDP2), for towers that one machine cannot hold.

Every process keeps its piece of each tensor; a block's weights are gathered when it runs and let go after it (Zhao et
al. 2023; ``torch.distributed.fsdp.fully_shard``). The function, its gradients and the steps are those of whole weights.
What is written to disk is whole, so a checkpoint does not know how many processes made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def shard(module: ModuleT, blocks: Iterable[nn.Module] = ()) -> ModuleT:
    """Cut the weights of a module in place, over all processes of the group.

    Every process must call the module equally often, and each call takes part in the backward pass of all its weights:
    one that a process had no use for (a batch without texts) gets a gradient of zero there.

    Args:
        module: called as a whole (``module(...)``), as the gathering hangs on that call; it returns a tensor, or
            several things of which the first is one.
        blocks: parts that are gathered one at a time and always run, e.g. transformer layers; the rest is gathered
            together.

    Cost: every process receives all weights once forward and once backward, and sends each gradient once.
    """
    from torch.distributed.fsdp import fully_shard

    parts: list[nn.Module] = [*blocks, module]
    held: set[nn.Parameter] = set()
    for part in parts:
        names = [name for name, p in part.named_parameters() if p.requires_grad and p not in held]
        held.update(part.parameters())
        part.register_forward_hook(_Touch(names))  # before FSDP's own, so it sees whole weights
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP cannot cut channels-last weights
    for part in parts:
        fully_shard(part)
    if hasattr(module, "lockstep"):
        module.lockstep = True  # type: ignore[assignment]
    return module


class _Touch:
    """Adds nothing to the output, but in a way that every weight has a gradient: all processes then send the same."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, module: nn.Module, _: Any, out: Any) -> Any:
        first, *others = out if isinstance(out, tuple) else (out,)
        if not first.requires_grad:
            return out
        first = first + 0.0 * torch.stack([module.get_parameter(n).reshape(-1)[0] for n in self.names]).sum()
        return (first, *others) if isinstance(out, tuple) else first


def in_pieces(value: Any) -> bool:
    """Whether a tensor is a piece of one (a ``DTensor``; asked this way, as its module takes half a second to load)."""
    return hasattr(value, "full_tensor")


@torch.no_grad()
def whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with their pieces put together, copied to the CPU; all processes must call it."""
    return {name: (together(v) if in_pieces(v) else v.clone()).detach().cpu() for name, v in state.items()}


def together(value: Any) -> Tensor:
    """The whole tensor of which this process may have a piece; all processes must call it."""
    out: Tensor = value.full_tensor() if in_pieces(value) else value
    return out


def whole_optimiser(state: dict[str, Any]) -> dict[str, Any]:
    """The same for what ``Optimizer.state_dict`` gives."""
    return {**state, "state": {number: whole(values) for number, values in state["state"].items()}}


@torch.no_grad()
def take(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give whole tensors to a module, cut or not. Raises: KeyError for one that is missing."""
    for name, value in module.state_dict().items():
        value.copy_(like(state[name], value))


def take_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give a whole state to an optimiser, whose parameters may be cut."""
    optimiser.load_state_dict(state)
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                values[name] = like(value, parameter)


def like(value: Tensor, other: Tensor) -> Tensor:
    """``value`` cut as ``other`` is (or as it is)."""
    if not in_pieces(other) or in_pieces(value):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def local(value: Any) -> Tensor:
    """This process's piece; the whole tensor if it is not cut."""
    piece: Tensor = value.to_local() if in_pieces(value) else value
    return piece


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """``torch.nn.utils.clip_grad_norm_`` over whole and cut gradients together; the norm before it."""
    grads = [p.grad for p in parameters if p.grad is not None]
    kinds = [[g for g in grads if in_pieces(g) == cut] for cut in (False, True)]
    norms = [torch.nn.utils.get_total_norm(kind) for kind in kinds if kind]
    total: Tensor = torch.linalg.vector_norm(torch.stack([together(n) for n in norms]))
    share = (most / (total + 1e-6)).clamp(max=1.0)
    for gradient in grads:
        local(gradient).mul_(share)
    return total
