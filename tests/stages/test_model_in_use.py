import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from lessexp.identity import key_of
from lessexp.models.lora import lora_parameters
from lessexp.models.source import Weights
from lessexp.stages.configuration import Configured


@pytest.mark.parametrize("setting", [{"dtype": "float32"}, {"quantization": "int8"}], ids=["type", "rounding"])
def test_it_is_what_its_type_and_rounding_are(make_experiment, setting):
    model = make_experiment().model.model
    assert key_of(model) == key_of(make_experiment("selector=random").model.model)
    assert key_of(model) != key_of(replace(model, **setting))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_it_is_what_its_weights_are_wherever_they_lie_and_whatever_lies_beside_them(make_experiment, tmp_path, name):
    model = make_experiment().model.model
    folder = shutil.copytree(model.weights.folder, tmp_path / "moved")
    (folder / "notes.json").write_text(json.dumps({"trained": "yesterday"}))
    assert key_of(replace(model, weights=Weights(folder))) == key_of(model)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert key_of(replace(model, weights=Weights(folder))) != key_of(model)


def test_proxy_steps_are_taken_one_after_the_other(make_experiment):
    experiment = make_experiment("model.dtype=float32")
    dropping = "lessexp.proxies.layer_drop.drop_layers"
    step = Configured({"_target_": dropping, "_partial_": True, "sparsity": 0.5})
    model = replace(experiment.model.model, steps=(step,))
    assert len(model.load(experiment.runtime).model.layers) == 1
    with pytest.raises(ValueError, match="keeps 0 of 1 layers"):
        replace(model, steps=(step, step)).load(experiment.runtime)
    assert key_of(model) != key_of(experiment.model.model)


def with_dropout(model):
    """A proxy step that puts in a new module, which is in training mode."""
    model.model.norm = nn.Sequential(model.model.norm, nn.Dropout(0.5))
    return model


def test_whatever_a_step_puts_in_is_asked_in_evaluation_mode(make_experiment):
    model = make_experiment("lora.dropout=0.5").model
    step = Configured({"_target_": f"{__name__}.with_dropout", "_partial_": True})
    model = replace(model, model=replace(model.model, steps=(step,)))
    for loaded in (model.load(), model.load_with_adapter(seed=0)):
        assert not any(module.training for module in loaded.modules())


def test_the_seed_draws_the_adapter(make_experiment):
    model = make_experiment().model
    first, same, other = (lora_parameters(model.load_with_adapter(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
