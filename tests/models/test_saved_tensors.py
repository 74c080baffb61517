import torch
from torch import nn

from lessexp.models.saved_tensors import noting_saved_storages


def test_each_storage_counts_once_and_parameters_do_not():
    layer = nn.Linear(8, 4, bias=False)
    inputs = torch.randn(16, 8)
    with noting_saved_storages(layer) as saved:
        hidden = layer(inputs)  # keeps the inputs for the weight's gradient
        product = hidden * hidden  # keeps one storage, twice
    assert sorted(storage.nbytes() for storage in saved.values()) == [16 * 4 * 4, 16 * 8 * 4]
    product.sum().backward()
    assert layer.weight.grad is not None


def test_tensors_without_values_count_by_their_size():
    with torch.device("meta"):
        layer = nn.Linear(8, 4, bias=False)
        with noting_saved_storages(layer) as saved:
            layer(torch.empty(16, 8)).sum()
    assert [storage.nbytes() for storage in saved.values()] == [16 * 8 * 4]
