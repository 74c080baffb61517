import pytest
import torch
from torch.distributed.tensor import DTensor

from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import attach_lora, lora_parameters
from lessexp.training.sharding import gathered, mesh_of, own_part, shard, spread_like
from tests.conftest import LORA, perturb_adapter
from tests.teams import run_team


def logits(model):
    return model(input_ids=torch.arange(12).reshape(2, 6)).logits


def spread_and_compare(team, model_folder):
    """In each process: the model spread over all gives what the whole one gives, forward and backward."""
    whole, model = (
        perturb_adapter(attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0))
        for _ in range(2)
    )
    values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    shard(model, mesh_of(team.size, "cpu"))
    parameters = dict(model.named_parameters())
    assert list(parameters) == list(values)
    for name, parameter in parameters.items():
        assert isinstance(parameter, DTensor) and own_part(parameter).numel() < values[name].numel()
        assert own_part(values[name]) is values[name]
    torch.testing.assert_close(logits(model), logits(whole), rtol=1e-5, atol=1e-6)
    logits(model).square().mean().backward()
    logits(whole).square().mean().backward()
    grads = {name: parameter.grad for name, parameter in lora_parameters(model).items()}
    found = gathered(grads, keep=team.is_leader)
    assert len(found) == (len(grads) if team.is_leader else 0)
    for name, grad in found.items():
        torch.testing.assert_close(grad, lora_parameters(whole)[name].grad, rtol=1e-4, atol=1e-7)
    for name, parameter in parameters.items():
        again = spread_like(values[name], parameter)
        assert torch.equal(again.to_local(), parameter.detach().to_local())


@pytest.mark.parametrize("size", [2, 3])
def test_a_model_spread_over_processes_computes_the_same(model_folder, size):
    assert run_team(size, spread_and_compare, model_folder) == [0] * size


def test_whole_tensors_stay_as_they_are():
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(gathered({"a": tensor}, keep=True)["a"], tensor)
    assert gathered({"a": tensor}, keep=False) == {}
    assert spread_like(tensor, torch.zeros(3, 2)) is tensor
