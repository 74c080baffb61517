import torch

from lessexp.gradients.adam import AdamDirection
from lessexp.models.lora import lora_parameters
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from lessexp.training.untrained import write_untrained
from tests.training.conftest import SETTINGS


def test_gamma_there_is_the_first_step_that_torchs_adam_would_take(lora_model, tmp_path):
    write_untrained(tmp_path, lora_model, SETTINGS, seed=3)
    [folder] = checkpoints_in(tmp_path)
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.state.epoch, checkpoint.state.step, checkpoint.state.seed) == (0, 0, 3)
    direction = AdamDirection(checkpoint, eps_inside_sqrt=False, bias_correction=True)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in lora_parameters(lora_model).items():
        assert torch.equal(checkpoint.parameters[name], parameter)
        before = parameter.detach().clone()
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-5
        optimizer = torch.optim.AdamW([parameter], lr=1.0, betas=SETTINGS.betas, eps=SETTINGS.eps, weight_decay=0.0)
        found = direction(name, 0, parameter.grad.flatten()[None].clone())
        optimizer.step()
        # The step is taken at values near 0.2, so float32 rounds it to about 1e-8 of 1.
        torch.testing.assert_close(found[0], (before - parameter.detach()).flatten(), rtol=1e-4, atol=1e-6)
