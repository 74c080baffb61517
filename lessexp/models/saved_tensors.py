"""What autograd keeps between a forward and a backward pass."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def noting_saved_storages(model: nn.Module) -> Iterator[dict[int, torch.UntypedStorage]]:
    """While active, gathers the storages that passes with gradients keep, those of the model's parameters left out.

    Yields:
        Each storage once; held, so that no other takes its place.
    """
    of_parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in of_parameters:
            saved[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield saved
