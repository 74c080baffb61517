import torch
from safetensors.torch import save_file

from lessexp.gradients.identity import identity_over_adapter


def test_every_coordinate_of_the_adapter_has_a_place_of_its_own(tmp_path):
    (tmp_path / "epoch=1").mkdir()
    shapes = {"layer.lora_B.weight": (3, 2), "layer.lora_A.weight": (2, 5)}
    save_file(
        {name: torch.zeros(shape) for name, shape in shapes.items()},
        tmp_path / "epoch=1" / "adapter_model.safetensors",
    )
    projector = identity_over_adapter(tmp_path / "epoch=1")
    grads = {name: torch.randn(4, *shape) for name, shape in shapes.items()}
    joined = torch.cat([grads["layer.lora_A.weight"].flatten(1), grads["layer.lora_B.weight"].flatten(1)], dim=1)
    assert projector.proj_dim == 16
    torch.testing.assert_close(projector.project(grads), joined, rtol=0, atol=0)
