import shutil
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from lessexp.models.lora import lora_parameters
from tests.conftest import build_model


@pytest.mark.parametrize("setting", [{"dtype": "float32"}, {"quantization": "int8"}], ids=["type", "rounding"])
def test_it_is_what_its_type_and_rounding_are(make_experiment, setting):
    model = make_experiment().model
    assert model.identity == make_experiment("selector=random").model.identity
    assert model.identity != replace(model, cfg=OmegaConf.merge(model.cfg, setting)).identity


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_it_is_what_its_files_are_wherever_they_lie(make_experiment, tmp_path, name):
    model = make_experiment().model
    moved = replace(model, folder=shutil.copytree(model.folder, tmp_path / "moved"))
    assert moved.identity == model.identity
    with (tmp_path / "moved" / name).open("ab") as file:
        file.write(b" ")
    assert replace(moved).identity != model.identity


def test_proxy_steps_are_taken_one_after_the_other(make_experiment):
    made, given = [build_model(300), build_model(300)], []

    def step(result):
        return lambda model: given.append(model) or result

    found = replace(make_experiment().model, proxy_steps=[step(model) for model in made]).load()
    assert len(given) == 2 and given[1] is made[0] and found is made[1]


def test_the_seed_draws_the_adapter(make_experiment):
    model = make_experiment().model
    first, same, other = (lora_parameters(model.load_with_adapter(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
