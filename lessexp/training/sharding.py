"""Parameters spread over processes (FSDP: Zhao et al., arXiv:2304.11277; torch's ``fully_shard``).

Each process holds a slice of every tensor and gathers a layer's weights when it needs them. Names stay as they are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread a model, in place, over the processes of a mesh: each block of layers as a unit, then what is left.

    Args:
        model: a transformers model, with or without an adapter; the same on every process.
        mesh: of one dimension.
    """
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    keep_types = MixedPrecisionPolicy()
    for module in model.modules():
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, mp_policy=keep_types)
    fully_shard(model, mesh=mesh, mp_policy=keep_types)


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors in the CPU's memory; all processes of the mesh call this together.

    Args:
        tensors: by name, spread or not.
        keep: whether this process wants them; if not, it only gives its slices.
    """
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = whole.detach().cpu().contiguous()
    return found


def spread_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same on every process, where and how a parameter lies."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, spread or not."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def mesh_of(n_processes: int, device: str) -> DeviceMesh:
    """All processes in a row."""
    return torch.distributed.init_device_mesh(torch.device(device).type, (n_processes,))
